"""GAL-Rec (arXiv:2406.13235): a reader of users, items and neighbours, and its contrasts."""

"""LlamaRec (arXiv:2311.02089): a retriever's best items, ordered by the letters of one prompt."""

"""What a dataset holds, and what in it could make numbers look better than they are."""

"""Metrics that RecBole lacks, as metric classes of RecBole's; ``register`` makes them known."""

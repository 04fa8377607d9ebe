"""Splits of interactions: protocols on plain arrays, samples of sequences, frozen splits."""

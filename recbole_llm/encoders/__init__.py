"""Frozen encoders of text and images, and where their weights are found."""

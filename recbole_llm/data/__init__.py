"""Datasets with item features, user histories, and the loaders that feed training and ranking."""

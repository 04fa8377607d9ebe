"""Declarations of settings, the settings of every run, and their checks before a run starts."""

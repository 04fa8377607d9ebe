"""The package's version, for modules at any level."""

__version__ = "0.1.0"

"""The network: one HTTP client, one way to try again, downloads that resume."""

"""Finished runs: brought back, verified, their rankings."""

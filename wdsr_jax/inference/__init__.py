"""Applying networks: exact tiles, any size."""

"""Photographs: read with all that belongs to them, upscaled, written."""

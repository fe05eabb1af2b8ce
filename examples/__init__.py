"""Scripts that make the pictures of the documentation; each runs as `python -m examples.NAME`."""

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"

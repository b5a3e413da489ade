"""Benchmarks of training and serving. Each prints tables, then a line with one JSON document."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
"""Root of this checkout."""

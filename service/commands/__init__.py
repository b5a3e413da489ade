"""The commands of `python -m service`, one per module."""

"""Lessons: the same fit written six ways, and their comparison. Start with formulations.py."""

"""Benchmarks of training and of comparable libraries."""

"""TODO: benchmarks."""

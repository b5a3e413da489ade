"""Load generators, and benchmarks of the service under sustained and excessive load."""

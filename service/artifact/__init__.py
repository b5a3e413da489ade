"""Read and check artifacts on disk, with the standard library alone."""

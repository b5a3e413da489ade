"""TODO: service/host."""

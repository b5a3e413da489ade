"""TODO: service/runtime."""

"""TODO: service/web."""

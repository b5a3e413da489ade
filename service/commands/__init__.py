"""TODO: service/commands."""

"""TODO: service/protocols."""

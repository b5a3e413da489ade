"""TODO: service/observe."""

"""TODO: service/artifact."""

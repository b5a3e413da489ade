"""TODO: tabular."""

"""TODO: model/table."""

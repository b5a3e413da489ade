"""TODO: model/lessons."""

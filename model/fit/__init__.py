"""TODO: model/fit."""

"""The protocols this service speaks, one file each: pure functions over the one predictor."""

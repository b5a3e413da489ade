"""The tests, flat: one file per module, and end to end."""

"""Load a table from a file or a built-in data set, encode its target, and split its rows."""

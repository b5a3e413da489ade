"""Load a table from a file or a bundled data set, encode its target, and split its rows."""

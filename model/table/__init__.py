"""A file or a bundled data set becomes a Table: reading, column kinds, the target, the split."""

"""Rules for column names and CSV separators, shared by training, scoring and HTTP."""

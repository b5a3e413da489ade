"""A supervisor and its worker processes, in which granian serves HTTP."""

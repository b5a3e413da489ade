"""The error that every failed proof raises."""


class ProofError(Exception):
    """A file does not match the trained network; the message names the difference."""

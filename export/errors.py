"""The error that every failed proof raises. A leaf module: it imports nothing of the project."""


class ProofError(Exception):
    """An artifact is not the trained network; the message states what was expected and found."""

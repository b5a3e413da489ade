"""Trained artifacts in place of the stored ones, because these tests also need the runs."""

from tests.trained import flowers, houses

__all__ = ["flowers", "houses"]

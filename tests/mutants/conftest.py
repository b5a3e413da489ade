"""Fixtures that train: these tests need a run beside its artifact."""

from tests.trained import flowers, houses

__all__ = ["flowers", "houses"]

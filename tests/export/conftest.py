"""Replace the stored artifacts by trained ones: these tests also need the run."""

from tests.trained import flowers, houses

__all__ = ["flowers", "houses"]

"""Command-line arguments shared by the benchmarks."""

import argparse
from collections.abc import Callable, Collection


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help shows a module's docstring as it is."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """Return a `type` for an argument that must be one of some names.

    Unlike `choices`, it allows an optional list of positional arguments to be empty.
    """

    def check(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}, found {text!r}")
        return text

    return check

"""Command-line arguments shared by the benchmarks."""

import argparse
from collections.abc import Callable, Collection


def new_parser(description: str | None, **options: tuple[float, str]) -> argparse.ArgumentParser:
    """Return a parser whose help shows a module's docstring unchanged.

    Args:
        description: the docstring.
        options: default value and help of each option, by its name with underscores.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=formatter)
    for name, (default, text) in options.items():
        flag, text = "--" + name.replace("_", "-"), f"{text} (default: %(default)s)"
        parser.add_argument(flag, type=type(default), default=default, help=text)
    return parser


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """Return an argparse `type` that accepts only the given names.

    Unlike `choices`, it allows an optional list of positional arguments to be empty.
    """

    def check(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}, found {text!r}")
        return text

    return check

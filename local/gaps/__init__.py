"""What is missing in ministack for this project's chain, one file per service; importing a file puts it in place."""

import functools
import sys
from importlib.metadata import version

MINISTACK = "1.5.33"
if version("ministack") != MINISTACK:
    sys.exit(f"local/gaps replaces internals of ministack {MINISTACK}, but {version('ministack')} is installed")


def replaces(module, name):
    """Put the decorated function where module.name was; AttributeError if ministack has no such function."""
    original = getattr(module, name)

    def put(function):
        replacement = functools.wraps(original)(functools.partial(function, original))
        setattr(module, name, replacement)
        return replacement

    return put

"""Put a function of ours where one of ministack's was."""

import functools


def replaces(module, name):
    """Put the decorated function where module.name was; AttributeError if ministack has no such function."""
    original = getattr(module, name)

    def put(function):
        replacement = functools.wraps(original)(functools.partial(function, original))
        setattr(module, name, replacement)
        return replacement

    return put

"""Quoting what a stranger sent, in an error message."""

import reprlib


def quoted(value: object) -> str:
    """A representation of bounded length and depth, with control characters and lone surrogates escaped."""
    shortener = reprlib.Repr()
    shortener.maxstring = 64
    shortener.maxother = 64
    return shortener.repr(value)

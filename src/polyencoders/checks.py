"""Checks values that are given to a model, with one message for each mistake."""

from typing import Any

from polyencoders.errors import ModelError


def check_whole_number(setting: str, value: Any, at_least: int = 1) -> int:
    """Return the value if it is a whole number and large enough; otherwise raise a `ModelError`.

    >>> check_whole_number("m", 2.5)
    Traceback (most recent call last):
    polyencoders.errors.ModelError: m must be a whole number of at least 1, got 2.5
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ModelError(f"{setting} must be a whole number of at least {at_least}, got {value!r}")
    return value


def shown(value: Any) -> str:
    """Return a value and its type, short enough for one line of an error message.

    >>> shown(5)
    'int 5'
    """
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"

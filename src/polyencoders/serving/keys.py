"""Keys: who asks, and with which limits."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from starlette.datastructures import Headers

from polyencoders.errors import DataError
from polyencoders.serving.settings import Key, Limits

OWN = ("body", "documents", "text", "turns", "names", "hits", "requests")
"""Limits that a key may have for itself."""


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a file of keys; DataError says what is wrong in it.

    It is YAML, with the name of each key, the key, and limits of its own where they are not the server's::

        search: {key: a-secret}
        batch: {key: another, requests: 2, documents: 200}
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:  # its own words show the line, and with it a key
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise DataError(f"{path}{line}: cannot be read as YAML") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: expected names with their keys, such as `search: {{key: a-secret}}`")
    found = tuple(_key(path, str(name), given) for name, given in content.items())
    if len({one.secret for one in found}) < len(found):
        raise DataError(f"{path}: two names have the same key")
    return found


def _key(path: Path, name: str, given: Any) -> Key:
    if not isinstance(given, dict) or not isinstance(given.get("key"), str) or not given["key"].strip():
        raise DataError(f"{path}: {name}: expected `key: SECRET`, a text")
    limits = {limit: value for limit, value in given.items() if limit != "key"}
    for limit, value in limits.items():
        if limit not in OWN:
            raise DataError(f"{path}: {name}: there is no limit {limit!r}, expected one of {', '.join(OWN)}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise DataError(f"{path}: {name}: {limit}: expected a whole number of at least 1, got {value!r}")
    return Key(name, given["key"].strip(), limits)


@dataclass
class Asker:
    """The holder of a key, with its limits and its requests."""

    name: str
    limits: Limits
    secret: bytes = field(default=b"", repr=False)
    inside: int = 0  # Requests in progress
    arriving: int = 0  # Bodies that are not there yet


class Keys:
    """Finds who asks by the key that a request carries."""

    def __init__(self, keys: Sequence[Key], limits: Limits) -> None:
        # From the environment, bytes that are not UTF-8 come as surrogates.
        self._askers = [
            Asker(key.name, replace(limits, **key.limits), key.secret.encode("utf-8", "surrogateescape"))
            for key in keys
        ]
        self._anybody = None if keys else Asker("", limits)

    def who(self, headers: Headers) -> Asker | None:
        """Return whoever asks: anybody where there are no keys, None if the key is none of these."""
        if self._anybody is not None:
            return self._anybody
        given = _given(headers)
        # Each is compared, so that the time does not tell which one was right.
        found = [asker for asker in self._askers if hmac.compare_digest(given, asker.secret)]
        return found[0] if found else None


def _given(headers: Headers) -> bytes:
    """Return the key that a request carries."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return (rest.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")).encode("latin-1")

"""Debian's package descriptions: a package's synopsis is the query, its long description the document.

Knows apt's lists and the control files they are made of (RFC 822 with continued lines); one package for each source.
"""

from __future__ import annotations

import lzma
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import numbered_lines
from polyencoders.data.sides import Source
from polyencoders.errors import DataError

LISTS = "/var/lib/apt/lists"
_CAT = "/usr/lib/apt/apt-helper"


def read_debian(path: str | os.PathLike[str] = LISTS) -> list[Example]:
    """Reads package descriptions from a Debian machine.

    Parameters
    ----------
    path
        The folder of apt's lists, whose ``..._Packages`` name the packages and their sources, and whose
        ``..._Translation-en`` have the descriptions (``apt-get update`` brings them, where ``Acquire::Languages`` is
        not ``none``); or one file of packages with long descriptions, such as ``/var/lib/dpkg/status`` or what
        ``apt-cache show`` prints. Plain, ``.gz`` or ``.xz``; ``.lz4`` where apt itself is there to unpack it.

    Returns
    -------
    list of Example
        In alphabetical order of the sources, of each the package of its name, else its first one with a long
        description. White space is normalised; lines of a single dot, which part paragraphs, are left out.

    Raises
    ------
    DataError
        When there are no lists, no long descriptions, or a line cannot be used; the message begins with the file.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "status")
    >>> _ = path.write_text("Package: hello\\nDescription: greets people\\n It prints\\n .\\n a greeting.\\n")
    >>> read_debian(path)[0].query, read_debian(path)[0].positives
    (('greets people',), ('It prints a greeting.',))
    """
    root = Path(path)
    files = [root]
    if root.is_dir():
        # Packages first: they say of which source a package is.
        files = [*sorted(root.glob("*_Packages*")), *sorted(root.glob("*_Translation-en*"))]
        if not files:
            raise DataError(f"{root}: no lists of packages; `apt-get update` brings them")
    sources: dict[str, str] = {}
    found: dict[str, tuple[str, str, str]] = {}  # by source: package, synopsis, description
    for file in files:
        for fields in _stanzas(file):
            package = fields.get("Package")
            if package is None:
                continue
            if "Source" in fields:
                sources[package] = fields["Source"].split()[0]
            described = fields.get("Description-en") or fields.get("Description") or ""
            synopsis, _, long = described.partition("\n")
            text = " ".join(word for line in long.split("\n") if line.strip() != "." for word in line.split())
            if not synopsis.strip() or not text:
                continue
            of = sources.get(package, package)
            if of not in found or (package == of and found[of][0] != of):
                found[of] = (package, " ".join(synopsis.split()), text)
    if not found:
        raise DataError(
            f"{root}: no long descriptions: the lists have them in files ..._Translation-en, which "
            "`apt-get -o Acquire::Languages=en update` brings"
        )
    return [Example(synopsis, text) for _, (_, synopsis, text) in sorted(found.items())]


def source(path: str, seed: int) -> Source:
    """``debian:PATH``: what `read_debian` takes."""
    return Source(read_debian(path))


def _stanzas(path: Path) -> Iterator[dict[str, str]]:
    """The records of a control file: fields by name; a field's further lines are joined to it by line breaks."""
    fields: dict[str, str] = {}
    name = ""
    for number, raw in _lines(path):
        line = raw.rstrip("\r\n")
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if not name:
                raise DataError(f"{path}:{number}: a line that goes on with nothing: {shortened(line)}")
            fields[name] += "\n" + line
        else:
            name, colon, value = line.partition(":")
            if not colon or " " in name:
                raise DataError(f"{path}:{number}: expected a field such as Package: ..., given {shortened(line)}")
            fields[name] = value.strip()
    if fields:
        yield fields


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    try:
        if path.suffix == ".xz":
            return _decoded(lzma.decompress(path.read_bytes()))
        if path.suffix == ".lz4":
            done = subprocess.run([_CAT, "cat-file", str(path)], check=True, capture_output=True)
            return _decoded(done.stdout)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, or no {_CAT}, which unpacks it") from None
    except (OSError, lzma.LZMAError, subprocess.CalledProcessError) as error:
        raise DataError(f"{path}: cannot be unpacked ({error})") from None
    return numbered_lines(path, blank=True)


def _decoded(content: bytes) -> Iterable[tuple[int, str]]:
    return enumerate(content.decode("utf-8", errors="replace").split("\n"), start=1)

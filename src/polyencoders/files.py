"""Whatever is written to disk is written whole or not at all: directories and files that appear finished.

Knows paths; nothing of what is in the files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_directory(
    path: str | os.PathLike[str], replaced: Callable[[str], object] = lambda name: False
) -> Iterator[Path]:
    """Write a directory beside `path`, and put it in its place only when the block ends without an error.

    After an error (a full disk, an interruption) `path` is what it was.

    Args:
        path: the directory to make, or to replace.
        replaced: names at its top level that go with the old contents; other entries that the new ones do not
            replace, such as checkpoints, are kept.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; a directory is to be written there")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.writing-", dir=target.parent))
    try:
        # mkdtemp makes a directory for its owner alone; a model is as readable as any other file of the user's.
        scratch.chmod(0o777 & ~_umask())
        yield scratch
        for file in scratch.rglob("*"):
            if file.is_file():
                _sync(file)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    if target.exists():
        previous = Path(tempfile.mkdtemp(prefix=f".{target.name}.replaced-", dir=target.parent))
        os.rename(target, previous)
        try:
            os.rename(scratch, target)
        except BaseException:
            os.rename(previous, target)
            raise
        for entry in previous.iterdir():
            if not replaced(entry.name) and not (target / entry.name).exists():
                os.rename(entry, target / entry.name)
        shutil.rmtree(previous)
    else:
        os.rename(scratch, target)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file beside `path`, and put it in its place only when the block ends without an error."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.writing-", dir=target.parent)
    os.close(descriptor)
    scratch = Path(name)
    try:
        scratch.chmod(0o666 & ~_umask())
        yield scratch
        _sync(scratch)
        os.replace(scratch, target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _sync(file: Path) -> None:
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask

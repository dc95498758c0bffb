"""A model in a process of its own, on any machine of a cluster, which has chunks of documents encoded by their numbers.

Knows the model and the jobs it is given; nothing of other workers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.distributed.cluster import the_ray
from polyencoders.errors import ModelError
from polyencoders.index import Maker, storage
from polyencoders.index.jobs import Job
from polyencoders.index.table import Table


class Encoder:
    """What Ray Data has an actor do.

    Parameters
    ----------
    sent
        References to the model and to the jobs by their numbers; in a list, so that they are not fetched here.
    fingerprint
        Of the document side that made the index.
    bf16
        Whether to compute in bf16; None: where the device multiplies it in hardware.
    """

    def __init__(self, sent: list[Any], fingerprint: str, bf16: bool | None) -> None:
        self.sent = sent
        self.fingerprint = fingerprint
        self.bf16 = bf16
        self._loaded: tuple[Any, dict[int, Job], Table] | None = None

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the jobs whose numbers are given; tells of each how many texts were encoded."""
        if self._loaded is None:
            self._loaded = self._load()
        model, jobs, table = self._loaded

        def encode(texts: list[str], done: Callable[[int], object]) -> NDArray[np.float32]:
            return model.encode_documents(texts, self.bf16, done)  # type: ignore[no-any-return]

        numbers = batch["number"]
        return {"number": numbers, "encoded": np.array([jobs[int(one)].run(table, encode) for one in numbers])}

    def _load(self) -> tuple[Any, dict[int, Job], Table]:
        """Not when the actor is made: what goes wrong there is not told to who started it."""
        import torch

        ray = the_ray()
        model, jobs = ray.get(self.sent)
        if ray.get_gpu_ids():
            model = model.to("cuda")
        made = Maker.of(model).documents
        if made != self.fingerprint:
            raise ModelError(
                f"on {socket.gethostname()} the index's model makes other documents (fingerprint {made[:8]} in place "
                f"of {self.fingerprint[:8]}): other releases of polyencoders or of sentence-transformers are installed"
            )
        torch.set_num_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        one = next(iter(jobs.values()))
        return model, jobs, Table.open(storage.existing(one.index), one.version)

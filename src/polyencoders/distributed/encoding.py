"""Documents into an index, encoded by all workers of a Ray cluster, and put into it as one version.

Ray Data maps the chunks of a plan over actors that hold the model: it replaces those that die, and gives their chunks
to others. Knows Ray and the index; what a chunk is, and how all are put together, is the index's.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from polyencoders.distributed.cluster import connect, machines, the_ray
from polyencoders.distributed.encoder import Encoder
from polyencoders.errors import ClusterError, PolyencodersError
from polyencoders.index import Added, Index
from polyencoders.index.jobs import Job, Watch, in_a_folder
from polyencoders.index.planning import CHUNK

THREADS = 4
"""Processors of a worker without a GPU, at most: more make one worker faster, but less than more workers would."""


def add(
    index: Index,
    documents: Iterable[Any],
    address: str,
    *,
    bf16: bool | None = None,
    chunk: int = CHUNK,
    watch: Watch | None = None,
) -> Added:
    """Add documents to an index, or replace those whose ids are there, with all workers of a cluster.

    The index is then as one machine would have made it, document for document, and came to be so in one version: a
    reader sees all of the documents or none. This process reads and checks every one before the first is encoded, and
    keeps some 400 bytes of each until the end. Interrupted, the same call goes on where it stopped.

    The index lies in a folder that all machines have under the same path. The model is sent to them.

    Parameters
    ----------
    index
        To be filled; opened with its model, or so that it can load it.
    documents
        As for `Index.add`.
    address
        `HOST:PORT` of the cluster's head; `auto`: that of this machine; `local`: a new one, of this machine alone.
    bf16
        Whether to compute in bf16; by default each worker does where its device multiplies it in hardware.
    chunk
        Documents that a worker encodes at a time, in batches of like length.
    watch
        Is told how far it has got.

    Raises
    ------
    ClusterError
        No cluster answers, it has no processors to give, or it is lost.
    DataError
        A document cannot be used; nothing is added.
    IndexingError
        The index is in object storage, a machine does not see its folder, or it could not be written.
    ModelError
        The index's model cannot be loaded, here or on a worker.

    Examples
    --------
    See docs/scaling.md, "Encode on a cluster".
    """
    in_a_folder(index.path)
    connect(address)
    model = index.loaded_model()
    assert index.maker is not None
    fingerprint = index.maker.documents

    def work(jobs: list[Job]) -> Iterator[tuple[int, int]]:
        return _mapped(jobs, model, fingerprint, bf16)

    return index.add_at_once(documents, work, bf16=bf16, chunk=chunk, watch=watch)


def _mapped(jobs: list[Job], model: Any, fingerprint: str, bf16: bool | None) -> Iterator[tuple[int, int]]:
    """Have jobs run by the cluster's workers; gives of each, as it ends, its number and how many texts it encoded."""
    ray = the_ray()
    from ray import data

    workers, processors, gpus = _share(machines())
    context = data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    sent = ray.put(copy.deepcopy(model).to("cpu")), ray.put({job.number: job for job in jobs})
    with data.DataContext.current(context), _quiet("ray.data"):
        # A block for each: what one of them came to is told when it is done. Blocks of items are there already, and
        # need no processor to be read while the workers hold all of them.
        numbers = data.from_items([{"number": job.number} for job in jobs], override_num_blocks=len(jobs))
        results = numbers.map_batches(
            Encoder,
            batch_size=1,
            fn_constructor_args=(list(sent), fingerprint, bf16),
            compute=data.ActorPoolStrategy(
                min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=2
            ),
            num_cpus=processors,
            num_gpus=gpus,
        )
        try:
            for row in results.iter_rows():
                yield int(row["number"]), int(row["encoded"])
        except ray.exceptions.RayTaskError as error:
            raise _of_a_worker(error) from None
        except ray.exceptions.RayError as error:
            raise ClusterError(f"the cluster is lost ({' '.join(str(error).split())[:300]})") from error


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """A logger that keeps to itself what is raised as well."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _share(cluster: list[dict[str, float]]) -> tuple[int, int, int]:
    """How many workers a cluster has room for, and how many processors and GPUs each of them takes.

    Examples
    --------
    >>> _share([{"CPU": 8, "GPU": 2}, {"CPU": 8}])
    (2, 1, 1)
    >>> _share([{"CPU": 2}, {"CPU": 5}])
    (3, 2, 0)
    """
    if not cluster:
        raise ClusterError("no machine of the cluster has a processor to give")
    if gpus := int(sum(machine.get("GPU", 0) for machine in cluster)):
        return gpus, 1, 1
    each = min(THREADS, *(int(machine["CPU"]) for machine in cluster))
    return sum(int(machine["CPU"]) // each for machine in cluster), each, 0


def _of_a_worker(error: Any) -> Exception:
    """What was wrong on a worker, as if it had been here."""
    cause: BaseException = error.cause
    while not isinstance(cause, PolyencodersError) and cause.__cause__ is not None:
        cause = cause.__cause__  # Ray Data wraps what it does not know
    if isinstance(cause, PolyencodersError):
        return cause
    return ClusterError(f"a worker failed: {' '.join(str(cause).split())[:500] or type(cause).__name__}")

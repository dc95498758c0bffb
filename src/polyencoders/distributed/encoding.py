"""Adds documents to an index with all workers of a Ray cluster, as one version.

Ray Data maps the jobs of a plan over actors that hold the model. It replaces actors that die, and gives their jobs to
others.
"""

import copy
import functools
import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.distributed.cluster import connect, machines, one_line, the_ray, use_threads
from polyencoders.errors import ClusterError, ModelError, PolyencodersError
from polyencoders.index import Added, Index, storage
from polyencoders.index.adding import CHUNK
from polyencoders.index.jobs import Job, Watch, in_a_folder
from polyencoders.index.table import Table

THREADS = 4
"""Most processors of a worker without a GPU. More make one worker faster, but less than more workers would."""


def add(
    index: Index,
    documents: Iterable[Any],
    address: str,
    *,
    bf16: bool | None = None,
    chunk: int = CHUNK,
    watch: Watch | None = None,
    passages: bool = False,
) -> Added:
    """Add documents to an index with all workers of a cluster, replacing those with the same ids.

    The result equals that of one machine, document for document, and appears as one version: a reader sees all of the
    documents or none. This process reads and checks every document before the first is encoded, and keeps some 400
    bytes of each until the end. After an interruption the same call goes on where it stopped.

    The index lies in a folder that all machines have under the same path. The model is sent to them. docs/scaling.md,
    "Encode on a cluster", has an example.

    Parameters
    ----------
    index
        The index, opened with its model, or able to load it.
    documents
        As for `Index.add`.
    address
        `HOST:PORT` of the cluster's head; `auto`: that of this machine; `local`: a new one, of this machine alone.
    bf16
        Whether to compute in bf16; by default each worker does where its device multiplies it in hardware.
    chunk
        Documents that a worker encodes at a time, in batches of similar length.
    watch
        Is told of the progress.
    passages
        As for `Index.add`.

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
    """
    in_a_folder(index.path)
    connect(address)
    model = index.loaded_model()
    assert index.maker is not None
    fingerprint = index.maker.documents

    work = functools.partial(_run_all, model=model, fingerprint=fingerprint, bf16=bf16)
    return index.add_at_once(documents, work, bf16=bf16, chunk=chunk, watch=watch, passages=passages)


class JobRunner:
    """An actor of Ray Data: holds the model, and runs jobs by their numbers."""

    def __init__(self, references: list[Any], fingerprint: str, bf16: bool | None) -> None:
        self.references = references
        """To the model and to the jobs by number; in a list, so that Ray does not fetch them here."""
        self.fingerprint = fingerprint
        self.bf16 = bf16

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the jobs with the numbers given; return how many texts each of them encoded."""
        model, jobs, table = self._loaded

        def encode(texts: list[str], done: Callable[[int], object]) -> NDArray[np.float32]:
            return np.asarray(model.encode_documents(texts, self.bf16, done))

        return {**batch, "encoded": np.array([jobs[int(number)].run(table, encode) for number in batch["number"]])}

    @functools.cached_property  # not in the constructor, whose errors Ray Data does not pass on
    def _loaded(self) -> tuple[Any, dict[int, Job], Table]:
        ray = the_ray()
        # Before the model is loaded: an exported one takes its threads then.
        use_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        model, jobs = ray.get(self.references)
        if ray.get_gpu_ids() and hasattr(model, "to"):  # a PyTorch model
            model = model.to("cuda")
        made = model.fingerprints.documents
        if made != self.fingerprint:
            raise ModelError(
                f"on {socket.gethostname()} the index's model makes other documents (fingerprint {made[:8]} in place "
                f"of {self.fingerprint[:8]}): other releases of polyencoders or of sentence-transformers are installed"
            )
        one = next(iter(jobs.values()))
        return model, jobs, Table.open(storage.existing(one.index), one.version)


def _run_all(jobs: list[Job], model: Any, fingerprint: str, bf16: bool | None) -> Iterator[tuple[int, int]]:
    """Run jobs on the cluster; yield each one's number and how many texts it encoded, as it ends."""
    ray = the_ray()
    from ray import data

    workers, processors, gpus = _workers(machines())
    context = data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    sent = copy.deepcopy(model).to("cpu") if hasattr(model, "to") else model
    references = [ray.put(sent), ray.put({job.number: job for job in jobs})]
    logger = logging.getLogger("ray.data")
    level = logger.level
    with data.DataContext.current(context):
        # A block for each job, so that each result arrives when the job ends. Items in memory need no processor to be
        # read while the workers hold all of them.
        numbers = data.from_items([{"number": job.number} for job in jobs], override_num_blocks=len(jobs))
        results = numbers.map_batches(
            JobRunner,
            batch_size=1,
            fn_constructor_args=(references, fingerprint, bf16),
            compute=data.ActorPoolStrategy(
                min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=2
            ),
            num_cpus=processors,
            num_gpus=gpus,
        )
        logger.setLevel(logging.CRITICAL)  # it reports what is raised as well
        try:
            for row in results.iter_rows():
                yield int(row["number"]), int(row["encoded"])
        except ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
        except ray.exceptions.RayError as error:
            raise ClusterError(f"the cluster is lost ({one_line(error, 300)})") from error
        finally:
            logger.setLevel(level)


def _workers(cluster: list[dict[str, float]]) -> tuple[int, int, int]:
    """Return how many workers a cluster has room for, and how many processors and GPUs each takes.

    >>> _workers([{"CPU": 8, "GPU": 2}, {"CPU": 8}])
    (2, 1, 1)
    >>> _workers([{"CPU": 2}, {"CPU": 5}])
    (3, 2, 0)
    """
    if not cluster:
        raise ClusterError("no machine of the cluster has a processor to give")
    if gpus := int(sum(machine.get("GPU", 0) for machine in cluster)):
        return gpus, 1, 1
    each = min(THREADS, *(int(machine["CPU"]) for machine in cluster))
    return sum(int(machine["CPU"]) // each for machine in cluster), each, 0


def _cause(error: Any) -> Exception:
    """Return the error that was raised on a worker, out of what Ray Data wraps it in."""
    cause: BaseException = error.cause
    while not isinstance(cause, PolyencodersError) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, PolyencodersError):
        return cause
    return ClusterError(f"a worker failed: {one_line(cause, 500) or type(cause).__name__}")

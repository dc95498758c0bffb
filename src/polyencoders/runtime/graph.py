"""A graph that computes: arrays in, arrays out, on ONNX Runtime or OpenVINO."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import MissingExtraError, ModelError
from polyencoders.scoring import threads

Arrays = Mapping[str, NDArray[Any]]


class Graph(Protocol):
    """What both engines offer. Several threads may run it at once."""

    inputs: frozenset[str]

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """Compute some outputs, by name."""


def open_graph(file: Path, engine: str, precision: str, at_once: int = 1) -> Graph:
    """Load a graph.

    Parameters
    ----------
    file, engine, precision
        What its manifest says.
    at_once
        How many runs at the same time share the threads.

    Raises
    ------
    MissingExtraError
        The engine is not installed.
    ModelError
        The engine cannot load the file: it is damaged, or has operators that this release does not know.
    """
    opened: Graph
    try:
        opened = _OpenVinoGraph(file, precision, at_once) if engine == "openvino" else _OnnxGraph(file, at_once)
    except ImportError as error:
        package = "openvino" if engine == "openvino" else "onnxruntime"
        raise MissingExtraError(package, "openvino" if engine == "openvino" else "train", str(file)) from error
    except Exception as error:  # each engine has its own kinds of errors
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{file} cannot be loaded by {engine} ({first}): export the model again") from error
    return opened


class _OnnxGraph:
    """A graph on ONNX Runtime, whose threads never spin: they would take the processor from everybody else's."""

    def __init__(self, file: Path, at_once: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads() // at_once)
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = True  # without it the C library keeps twice as much after a large batch
        options.log_severity_level = 4  # errors are raised, and said once
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.inputs = frozenset(one.name for one in self._session.get_inputs())

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        return list(self._session.run(list(outputs), dict(inputs)))


class _OpenVinoGraph:
    """A graph on OpenVINO, in the precision that it was exported for, whatever the processor would choose."""

    def __init__(self, file: Path, precision: str, at_once: int) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "NUM_STREAMS": at_once,
            "INFERENCE_NUM_THREADS": threads(),
        }
        self._compiled = openvino.Core().compile_model(str(file), "CPU", settings)
        self.inputs = frozenset(one.get_any_name() for one in self._compiled.inputs)

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        request = self._compiled.create_infer_request()  # one for each call: requests are not shared by threads
        found = request.infer(dict(inputs))
        return [np.array(found[name], dtype=np.float32) for name in outputs]

"""A model in ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import numpy as np

from picoquant.backends.base import Exported, Found, Machine
from picoquant.backends.onnx.files import require_finite_constants
from picoquant.errors import ToolError
from picoquant.utils.batching import in_batches


@contextmanager
def open_files(made: Exported, tool: Found, machine: Machine) -> Iterator[OnnxPredictor]:
    """An `.onnx` in ONNX Runtime, see `base.Runtime`."""
    yield OnnxPredictor(made.files[0], machine.threads)


def session_options(threads: int = 0) -> Any:
    """ONNX Runtime's settings of a session that computes INT8 exactly.

    On x86 without VNNI (AVX2 alone, for example) ONNX Runtime adds two products of uint8 and int8 in int16, which may
    saturate: an INT8 model is then another one, without a word. Its own switch for precision makes the weights uint8.
    With VNNI the results are the same with it and take twice as long (measured, ONNX Runtime 1.31), so it is off there.
    Source: ONNX Runtime, `onnxruntime_session_options_config_keys.h`.

    Args:
        threads: CPU threads of an operator; 0 for as many as ONNX Runtime takes.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised
    if not has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU adds products of uint8 and int8 in int32; False where that is not known.

    Args:
        cpuinfo: what Linux says of the CPU; every `flags` line counts.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = [set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")]
    return bool(flags) and all(one & {"avx512_vnni", "avx_vnni"} for one in flags)


class OnnxPredictor:
    """An ONNX model, float or INT8.

    Attributes:
        input_names: what a feed must hold.
        inputs, outputs: names and shapes, -1 for a size that may vary.
        path: the model's file.
        in_any_thread: it may be called in another thread than the one that opened it.

    Args:
        path: the `.onnx`.
        threads: CPU threads; 0 for as many as ONNX Runtime takes.
        at_once: images of a batch that run at the same time, each in one thread, in place of `threads`; for small
            networks, whose operators leave little to divide, that is faster.

    Raises: `ToolError` when ONNX Runtime does not take it, `WeightsError` when its weights are not finite.
    """

    in_any_thread = True

    def __init__(self, path: Path, threads: int = 0, at_once: int = 1) -> None:
        import onnxruntime

        require_finite_constants(path)
        options = session_options(1 if at_once > 1 else threads)
        self.path = Path(path)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise self._refusal(error) from error
        self.inputs = tuple((item.name, _shape(item.shape)) for item in self._session.get_inputs())
        self.input_names = tuple(name for name, _ in self.inputs)
        self.outputs = tuple((item.name, _shape(item.shape)) for item in self._session.get_outputs())
        first = self.inputs[0][1]
        self._batch = first[0] if first else -1
        self._each: Callable[..., Iterable[Any]] = map
        if at_once > 1:
            self._batch = 1 if self._batch == -1 else self._batch
            self._each = ThreadPoolExecutor(at_once).map

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch of any size.

        Raises: `ToolError` when ONNX Runtime refuses it.
        """
        return in_batches(self._run, feed, self._batch, self._each)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        given = {name: np.ascontiguousarray(feed[name]) for name in self.input_names}
        try:
            return self._session.run(None, given)
        except Exception as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> ToolError:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return ToolError(f"ONNX Runtime does not run {self.path.name}: {reason}")


def _shape(sizes: list) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in sizes)

"""Run a model: Paddle's inference runtime for exported ones, the network itself during training.

A predictor is called with a feed, `{input name: array}`, gives the list of outputs, and says what it
takes and gives in `input_names` and `outputs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.base import Exported, Found, Machine
from picoquant.backends.paddle.threads import threads_kept
from picoquant.detector.modes import evaluation_mode
from picoquant.errors import ToolError, WeightsError
from picoquant.paddle_program.finite import require_finite_params
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import ProgramFacts, pdmodel_of, program_facts
from picoquant.postprocess import Decoder, NmsSettings
from picoquant.utils.batching import in_batches
from picoquant.utils.device import available_cpus, device_ids
from picoquant.utils.paddle_version.differences import PLACEMENT_PASSES

# What Paddle raises where its native code refuses something. Source: its `paddle/fluid/pybind/exception.cc`.
_PADDLE_ERRORS = (RuntimeError, ValueError, IndexError, MemoryError, SystemError, OSError)
_SUMMARY = re.compile(r"\((?:[A-Z][a-z]+)+\) ")  # "(InvalidArgument) The size of ..."
_GPU_MEMORY = 256  # MB that the runtime takes at first; it grows


@contextmanager
def open_files(made: Exported, tool: Found, machine: Machine) -> Iterator[PaddlePredictor]:
    """A model folder in Paddle's inference runtime, see `base.Runtime`; its native code may crash on it.

    Raises: `ToolError` for a GPU without oneDNN, which is of the CPU; `WeightsError` as `open_predictor`.
    """
    onednn = "onednn" not in machine.without
    if not onednn and machine.device != "cpu":
        raise ToolError("paddle-no-onednn is about the CPU: leave --device out")
    yield open_predictor(made.source.folder, machine.device, machine.threads, onednn)


class PaddlePredictor:
    """An exported model in Paddle's inference runtime; built by `open_predictor`.

    Attributes:
        input_names: what a feed must hold.
        outputs: names and shapes, -1 for a size that may vary.
        path: the model's file.
    """

    def __init__(self, runtime: Any, path: Path, facts: ProgramFacts) -> None:
        self._runtime = runtime
        self._fixed_batch = _fixed_batch(facts)
        self.path = path
        self.input_names = tuple(name for name, _ in facts.inputs)
        self.outputs = facts.outputs

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch of any size; a model made for a fixed batch runs several times.

        Raises: `WeightsError` when Paddle refuses to run the model.
        """
        return in_batches(self._run, feed, self._fixed_batch)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        given = {name: np.ascontiguousarray(feed[name], np.float32) for name in self.input_names}
        try:
            for name, value in given.items():
                self._runtime.get_input_handle(name).copy_from_cpu(value)
            with threads_kept():
                self._runtime.run()
            names = self._runtime.get_output_names()
            return [self._runtime.get_output_handle(name).copy_to_cpu() for name in names]
        except _PADDLE_ERRORS as error:
            raise WeightsError(
                f"Paddle does not run {self.path}: {_reason(error)}; export it again"
            ) from error

    def free(self) -> None:
        """Give back the memory of what the last run computed; the next one takes it anew."""
        self._runtime.try_shrink_memory()


class DygraphPredictor:
    """The network itself, in evaluation mode while it predicts; gives boxes and scores."""

    input_names = ("image",)

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch: `boxes [N, L, 4]` input pixels and `scores [N, C, L]`."""
        import paddle

        with evaluation_mode(self._model), paddle.no_grad():
            scores, boxes = self._model(paddle.to_tensor(feed["image"]))
        return [boxes.numpy(), scores.numpy()]


def open_predictor(
    folder: ModelFolder, device: str = "cpu", threads: int = 0, onednn: bool = True
) -> PaddlePredictor:
    """Load an exported model, float or quantised, into Paddle's inference runtime.

    Args:
        folder: the model.
        device: `cpu`, `gpu` or `gpu:N`.
        threads: CPU threads; 0 for as many as this process may use.
        onednn: whether the CPU computes with oneDNN, many times faster than without.

    Native code may crash on programs that look sound: try a model from elsewhere first, see `smoke_test.py`.

    Raises: `WeightsError` when program and weights are damaged, not finite, or do not belong together.
    """
    from paddle import inference

    facts = program_facts(folder.model)
    require_finite_params(folder)
    with pdmodel_of(folder.model) as model:
        runtime = _load(
            inference.Config(str(model), str(folder.params)), folder, facts, device, threads, onednn
        )
    return PaddlePredictor(runtime, folder.model, facts)


def _load(
    config: Any, folder: ModelFolder, facts: ProgramFacts, device: str, threads: int, onednn: bool
) -> Any:
    from paddle import inference

    config.disable_glog_info()
    config.switch_ir_optim(True)
    config.enable_memory_optim()
    if device == "cpu":
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(threads or available_cpus())
        if onednn:
            _use_onednn(config, facts.quantised)
        else:
            config.disable_mkldnn()  # it is on by default in some builds of paddle
    else:
        config.enable_use_gpu(_GPU_MEMORY, device_ids(device)[0])
    try:
        with threads_kept():
            return inference.create_predictor(config)
    except _PADDLE_ERRORS as error:
        raise WeightsError(
            f"{folder.params} does not fit {folder.model.name}: export both again ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    """The line of Paddle's message that says what was wrong, without the C++ stack before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line for line in lines if _SUMMARY.match(line)), lines[-1]).strip()


def _fixed_batch(facts: ProgramFacts) -> int:
    """Images of a batch; -1 for any number. Some programs take any number but reshape to one image."""
    size = facts.inputs[0][1][0]
    sizes = {shape[0] for _, shape in facts.outputs if len(shape) == 3}
    return sizes.pop() if size == -1 and len(sizes) == 1 else size


def dygraph_predictor(model: Any) -> DygraphPredictor:
    """The network itself as a predictor; `Decoder("boxes", nms)` reads its outputs."""
    return DygraphPredictor(model)


def decoder_for(predictor: PaddlePredictor, config: InferConfig, nms: NmsSettings | None = None) -> Decoder:
    """The decoder that fits a predictor's outputs.

    Args:
        predictor: an exported model.
        config: of its folder.
        nms: in place of the folder's; PaddleDetection's own exports hold the settings of a demo
            (score_threshold 0.3, nms_threshold 0.5), not those of an evaluation.
    """
    names, shapes = zip(*predictor.outputs)
    return Decoder.of(names, shapes, config, nms, str(predictor.path))


def _use_onednn(config: Any, quantised: bool) -> None:
    """Compute with oneDNN; of a quantised model the convolutions only.

    oneDNN's fused operators round at other places than the quantisers stand, and change the results
    of a quantised model. Its convolutions of whole numbers are exact.
    """
    config.enable_mkldnn()
    if quantised:
        config.set_mkldnn_op({"conv2d", "depthwise_conv2d"})
        for name in config.pass_builder().all_passes():
            if name not in PLACEMENT_PASSES:
                config.delete_pass(name)

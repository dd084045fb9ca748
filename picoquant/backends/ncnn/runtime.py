"""An ncnn model on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from picoquant.backends.base import Exported, Found, Machine
from picoquant.backends.ncnn.param import read_files
from picoquant.backends.own_process import OwnProcess
from picoquant.errors import ToolError
from picoquant.utils.batching import in_batches
from picoquant.utils.device import available_cpus

# What ncnn computes with less than float32 where a CPU can.
LESS_PRECISE = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage")


@contextmanager
def open_files(made: Exported, tool: Found, machine: Machine) -> Iterator[OwnProcess]:
    """A `.param` with its `.bin` in ncnn, in a process of its own, see `base.Runtime`."""
    with OwnProcess("ncnn", NcnnPredictor, *made.files, machine.threads) as predict:
        yield predict


class NcnnPredictor:
    """A model for one image, float or INT8; what is in float is computed in float32.

    Attributes:
        input_names: what a feed must hold.
        inputs, outputs: names and shapes as Paddle has them; the batch is -1.

    Args:
        param, data: `.param` and `.bin`.
        threads: CPU threads; 0 for all.

    Raises: `ToolError` when the files are damaged or ncnn does not take them.
    """

    def __init__(self, param: Path, data: Path, threads: int = 0) -> None:
        facts = read_files(param, data)
        import ncnn

        self.inputs, self.outputs = facts.inputs, facts.outputs
        self.input_names = tuple(name for name, _ in self.inputs)
        self._name, self._ncnn, self._net = param.name, ncnn, ncnn.Net()
        options = self._net.opt
        options.use_vulkan_compute = False
        for option in LESS_PRECISE:
            setattr(options, option, False)
        options.num_threads = threads or available_cpus()
        for load, path in ((self._net.load_param, param), (self._net.load_model, data)):
            if load(str(path)):
                raise ToolError(f"ncnn does not take {path}: make it again with this version of picoquant")

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, image by image; images are of the model's size.

        Raises: `ToolError` when ncnn does not run it.
        """
        return in_batches(self._run, feed, 1)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        extractor = self._net.create_extractor()
        given = {name: np.ascontiguousarray(feed[name][0], np.float32) for name in self.input_names}
        for name, value in given.items():
            extractor.input(name, self._ncnn.Mat(value))
        found = []
        for name, _ in self.outputs:
            code, value = extractor.extract(name)
            if code:
                raise ToolError(f"ncnn does not run {self._name}: it ended with {code} before {name}")
            found.append(np.array(value)[None])
        return found

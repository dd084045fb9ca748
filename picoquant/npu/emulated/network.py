"""An INT8 network on VeriSilicon's emulator of a target's NPU, called like every other runtime.

Several images run at once, each in a process of its own; results are kept in files, by hash.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

import numpy as np

from picoquant.backends.paddle_lite.output_maps import rows
from picoquant.backends.verisilicon.description import Description
from picoquant.backends.verisilicon.emulator import PROCESS_MB, Emulation, EmulatorEnded
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.errors import ToolError
from picoquant.npu.emulated.describe import describe_network, ends, form_of
from picoquant.npu.emulated.differences import Difference, said_of
from picoquant.npu.simulation.arithmetic import dequantise, quantise
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.storage.files import whole_file
from picoquant.utils.device import available_cpus

LOG = logging.getLogger("picoquant")

_DIGEST = hashlib.sha256().digest_size


class EmulatedNetwork:
    """Runs images on the emulator, and counts how many values differ from the simulation.

    Attributes:
        input_names, outputs: see `NpuSimulation`.
        differences: by tensor: the network's outputs, or with `every` all tensors.
        crashed: numbers of the images, from 1, that the emulator ended on; nothing is detected on them.

    Args:
        simulation: of an INT8 network, with the target's rules.
        tool, chip: see `Emulation`.
        cache: a folder for results; None keeps none.
        every: compare every tensor, see `describe_network`.
        processes: how many at once; None: as many as there are CPUs, and memory for.

    Raises: `ToolError` for an operator that is not known there, or without memory for one process.
    """

    def __init__(
        self,
        simulation: NpuSimulation,
        tool: Emulator,
        chip: str,
        cache: Path | None = None,
        every: bool = False,
        processes: int | None = None,
    ) -> None:
        self._simulation = simulation
        self.input_names, self.outputs = simulation.input_names, simulation.outputs
        self._network = describe_network(simulation, form_of(simulation), every)
        self._ends = ends(simulation)
        self.differences = {name: Difference() for name, _, _ in self._network.outputs}
        self.crashed: list[int] = []
        self._images = 0
        self._cache = None if cache is None else Cache(cache, self._network, f"{tool.version} {chip}")
        count = processes or processes_at_once()
        self._stack = ExitStack()
        self._free: SimpleQueue[Emulation] = SimpleQueue()
        for _ in range(count):
            self._free.put(self._stack.enter_context(Emulation(tool, chip, self._network)))
        self._pool = self._stack.enter_context(ThreadPoolExecutor(count))
        LOG.info("emulator: %d process%s at once, up to %d MB each", count, "es" * (count > 1), PROCESS_MB)

    def __enter__(self) -> EmulatedNetwork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def remark(self) -> str:
        """What is known after the images: differing values, and crashes."""
        said = said_of(self.differences, "the simulation")
        if self.crashed:
            numbers = ", ".join(map(str, self.crashed))
            said += f"; the emulator ended on images {numbers}, which count as empty"
        return said

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch; returns the outputs, dequantised, float32, in the order of `outputs`.

        Raises: `EmulatorEnded` when the emulator does not take the network, or ends on every image of the first batch.
        """
        name = self.input_names[0]
        params, rounding = self._simulation.params[name], self._simulation.rules.arithmetic.rounding
        images = [{name: quantise(image[None], params, rounding)} for image in feed[name]]
        found = list(self._pool.map(self._result, images))
        first, ended = self._images, [one for one in found if isinstance(one, EmulatorEnded)]
        if ended and len(ended) == len(found) and not first:
            raise ended[-1]
        results = []
        for number, (values, one) in enumerate(zip(feed[name], found), first + 1):
            if isinstance(one, EmulatorEnded):
                LOG.warning("image %d: %s; the others go on", number, one)
                self.crashed.append(number)
                results.append([self._nothing(output) for output, _ in self.outputs])
                continue
            self._compare(one, {name: values[None]})
            results.append([self._output(name, one[end]) for name, end in self._ends.items()])
        self._images += len(found)
        return [np.concatenate(parts) for parts in zip(*results)]

    def _result(self, image: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | EmulatorEnded:
        """The quantised results of one image, from the cache or the emulator."""
        stored = self._network.stored(image)
        content = self._cache.read(stored) if self._cache else None
        if content is None:
            emulation = self._free.get()
            try:
                content = emulation.run(stored)
            except EmulatorEnded as error:
                if not error.started:
                    raise
                return error
            finally:
                self._free.put(emulation)
            if self._cache:
                self._cache.write(stored, content)
        return self._network.read(content)

    def _compare(self, found: Mapping[str, np.ndarray], feed: Mapping[str, np.ndarray]) -> None:
        simulated = self._simulation.run_steps(feed, keep=True)
        for name, one in self.differences.items():
            one.add(found[name], simulated[name])

    def _output(self, name: str, values: np.ndarray) -> np.ndarray:
        """An output of one image, of the quantised values where it ends."""
        ordered = values if self._ends[name] == name else rows(values)
        return dequantise(ordered[None], self._simulation.params[name])

    def _nothing(self, output: str) -> np.ndarray:
        """The lowest value everywhere: no class is likely anywhere."""
        params = self._simulation.params[output]
        shape = self._simulation.graph.graph.tensor(output).shape
        return np.full(shape, params.low * params.scale, np.float32)


class Cache:
    """Results of a network on a chip, a file an image.

    A file ends in a hash of network, chip, image and result: one of another network, or a damaged one, is not used.

    Args:
        folder: of all such results.
        network: whose they are.
        made_with: the emulator's version and chip.
    """

    def __init__(self, folder: Path, network: Description, made_with: str) -> None:
        parts = (made_with.encode(), network.text.encode(), network.data)
        self._key = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).digest()
        self._folder, self._size = folder / self._key.hex()[:16], network.result_bytes

    def read(self, image: bytes) -> bytes | None:
        """The result of a stored image; None when it is not there, or not this network's."""
        path = self._path(image)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        result = content[:-_DIGEST]
        if len(result) != self._size or content[-_DIGEST:] != self._digest(image, result):
            LOG.warning("%s is damaged, or of another network: it is computed again", path)
            return None
        return result

    def write(self, image: bytes, result: bytes) -> None:
        """Keep a result."""
        with whole_file(self._path(image), "wb") as stream:
            stream.write(result + self._digest(image, result))

    def _path(self, image: bytes) -> Path:
        return self._folder / f"{hashlib.sha256(image).hexdigest()[:16]}.bin"

    def _digest(self, image: bytes, result: bytes) -> bytes:
        return hashlib.sha256(self._key + hashlib.sha256(image).digest() + result).digest()


def processes_at_once() -> int:
    """One for each CPU, as many as the free memory holds.

    Raises: `ToolError` where it does not hold one.
    """
    free = _free_mb()
    if free < PROCESS_MB:
        raise ToolError(
            f"VeriSilicon's emulator takes up to {PROCESS_MB} MB of memory, and {free} MB are free: "
            "end other programs first"
        )
    return max(1, min(available_cpus(), free // PROCESS_MB))


def _free_mb() -> int:
    """Memory that can be had now, as Linux says."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return PROCESS_MB  # an older kernel

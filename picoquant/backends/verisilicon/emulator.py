"""Small networks described for `network_runner.c`, and run on the emulator of a chip.

Tensors here are quantised values `[C, H, W]`, an integer minus its zero point, as in the simulation. The libraries take
4.2 GB of memory for the time of a run, whatever the network.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.errors import ToolError
from picoquant.utils.subprocesses import run_program

_MEMORY_MB = 4800
_BETWEEN = 16  # bytes that stored arrays are aligned to
_KILLED = -9


@dataclass(frozen=True)
class Form:
    """How tensors are stored.

    Attributes:
        name: of the type in a description: `u8`, `i8`.
        dtype: NumPy's.
        zero_point: of every tensor.
        per_channel: whether weights have a scale for each channel.
    """

    name: str
    dtype: type
    zero_point: int
    per_channel: bool = False


FORMS = {
    "uint8_per_tensor": Form("u8", np.uint8, 128),
    "int8_per_tensor": Form("i8", np.int8, 0),
    "int8_per_channel": Form("i8", np.int8, 0, per_channel=True),
}


@dataclass
class Description:
    """A network under construction; see `network_runner.c` for what is written.

    Attributes:
        form: of its tensors.
        outputs: name and shape of each result, in the order in which they are written.
    """

    form: Form
    outputs: list[tuple[str, tuple[int, int, int]]] = field(default_factory=list)
    _zeros: list[int] = field(default_factory=list)
    _tensors: list[str] = field(default_factory=list)
    _nodes: list[str] = field(default_factory=list)
    _data: bytearray = field(default_factory=bytearray)

    def input(self, values: np.ndarray, scale: float, zero_point: int | None = None) -> int:
        """An input `[C, H, W]` of quantised values, with the form's zero point or its own; returns its number."""
        zero = self.form.zero_point if zero_point is None else zero_point
        stored = (values + zero).astype(self.form.dtype)
        return self._add("i", self.form.name, scale, zero, (*values.shape[::-1], 1), stored)

    def output(
        self, name: str, scale: float, shape: tuple[int, int, int], zero_point: int | None = None
    ) -> int:
        """A result `[C, H, W]`, with the form's zero point or its own; returns its number."""
        zero = self.form.zero_point if zero_point is None else zero_point
        self.outputs.append((name, shape))
        self._zeros.append(zero)
        return self._add("o", self.form.name, scale, zero, (*shape[::-1], 1))

    def between(self, scale: float, shape: tuple[int, int, int]) -> int:
        """A tensor `[C, H, W]` that is not looked at; returns its number."""
        return self._add("v", self.form.name, scale, self.form.zero_point, (*shape[::-1], 1))

    def weight(self, values: np.ndarray, scales: np.ndarray, depthwise: bool) -> int:
        """A weight `[O, I, kh, kw]`, with one scale or one for each result; returns its number."""
        results, sources, height, width = values.shape
        shape = (width, height, results, 1) if depthwise else (width, height, sources, results)
        if self.form.per_channel:
            return self._add("c", "i8", 1.0, 0, shape, values.astype(np.int8), scales, 2 if depthwise else 3)
        stored = (values + self.form.zero_point).astype(self.form.dtype)
        return self._add("c", self.form.name, float(scales[0]), self.form.zero_point, shape, stored)

    def bias(self, values: np.ndarray, scales: np.ndarray) -> int:
        """A bias `[O]` in INT32; returns its number."""
        several = scales if self.form.per_channel else None
        return self._add("c", "i32", float(scales[0]), 0, values.shape, values.astype(np.int32), several, 0)

    def node(
        self, operator: str, parameters: Sequence[float], inputs: Sequence[int], outputs: Sequence[int]
    ) -> None:
        """An operator of `network_runner.c` with its parameters, on tensors by number."""
        parts = (parameters, inputs, outputs)
        self._nodes.append(" ".join([operator, *(f"{len(part)} {_joined(part)}" for part in parts)]))

    def write(self, folder: Path) -> list[str]:
        """Write the files; returns the program's first arguments."""
        text, data = folder / "network.txt", folder / "network.bin"
        lines = [str(len(self._tensors)), *self._tensors, str(len(self._nodes)), *self._nodes]
        text.write_text("\n".join(lines) + "\n", encoding="utf-8")
        data.write_bytes(bytes(self._data))
        return [str(text), str(data)]

    def read(self, path: Path) -> dict[str, np.ndarray]:
        """The results as quantised values, int16, by name."""
        stored = np.fromfile(path, self.form.dtype).astype(np.int16)
        sizes = [int(np.prod(shape)) for _, shape in self.outputs]
        parts = np.split(stored, np.cumsum(sizes)[:-1])
        return {
            name: part.reshape(shape) - np.int16(zero)
            for (name, shape), zero, part in zip(self.outputs, self._zeros, parts)
        }

    def _add(
        self,
        role: str,
        kind: str,
        scale: float,
        zero: int,
        shape: tuple[int, ...],
        values: np.ndarray | None = None,
        scales: np.ndarray | None = None,
        axis: int = -1,
    ) -> int:
        several = (-1, 0, 0)
        if scales is not None:
            several = (axis, self._store(np.asarray(scales, np.float32)), len(scales))
        place = 0 if values is None else self._store(values)
        scheme = "a" if scales is None else "c"
        self._tensors.append(
            f"{role} {kind} {scheme} {float(scale)!r} {zero} {_joined(several)} {len(shape)} {_joined(shape)} {place}"
        )
        return len(self._tensors) - 1

    def _store(self, values: np.ndarray) -> int:
        self._data += b"\0" * (-len(self._data) % _BETWEEN)
        place = len(self._data)
        self._data += np.ascontiguousarray(values).tobytes()
        return place


def _joined(values: Sequence[float]) -> str:
    return " ".join(map(str, values))


def run(tool: Emulator, chip: str, network: Description, timeout: float = 600.0) -> dict[str, np.ndarray]:
    """Run a network once on the emulator of a chip.

    Args:
        tool: what `toolchain.find` returned.
        chip: the emulator's name of it, see `toolchain.chip_of`.
        network: with its inputs.
        timeout: seconds.

    Returns: the results by name, quantised values, int16 `[C, H, W]`.

    Raises: `ToolError` when the emulator refuses the network, crashes, or has no memory.
    """
    libraries = {"VIVANTE_SDK_DIR": str(tool.sdk), "LD_LIBRARY_PATH": str(tool.sdk / "lib")}
    environment = {**os.environ, **libraries, "VSIMULATOR_CONFIG": chip}
    with tempfile.TemporaryDirectory(prefix="picoquant-emulator-") as scratch:
        results = Path(scratch) / "results.bin"
        command = [str(tool.program), *network.write(Path(scratch)), str(results)]
        outcome = run_program(command, Path(scratch), timeout, "emulator", environment)
        if outcome.code == _KILLED:
            raise ToolError(
                f"VeriSilicon's emulator was ended: it takes up to {_MEMORY_MB} MB of memory; end other programs first"
            )
        if outcome.code or not results.is_file():
            said = [line for line in outcome.text.splitlines() if line.strip()]
            raise ToolError(
                f"VeriSilicon's emulator of {chip} ended with {outcome.ended}: {(said or ['no message'])[-1]}"
            )
        return network.read(results)

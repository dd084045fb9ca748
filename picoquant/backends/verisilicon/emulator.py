"""Networks run on the emulator of a chip, in a process that is kept for several images."""

from __future__ import annotations

import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

from picoquant.backends.verisilicon.description import Description
from picoquant.backends.verisilicon.install import ready_program
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.errors import ToolError
from picoquant.utils.subprocesses import Outcome, run_program

# The emulator sets its NPU's memory aside, 4 GB unless it is told how much.
CHIP_MEMORY_MB = 256
# INT8 tensors stay INT8. ovxlib makes UINT8 of them else, and some operators then read the one as the other.
KEEPS_INT8 = "VSI_NN_ENABLE_I8TOU8"
AS_HANDED_OVER = {KEEPS_INT8: "0", "VSI_NN_ENABLE_OPCHECK": "0"}
PROCESS_MB = 600  # what a process takes at most with it, see docs/simulation.md
_KILLED = -9
# Of an operator that is refused the driver says the number, in the order of the description; errors before it say why.
_ERROR = "E ["
_REFUSED = re.compile(r"\w+(?: optimize)? node\[(\d+)\] \S+ fail")
_PATIENCE = 10.0  # seconds for a process to end by itself


class EmulatorEnded(ToolError):  # noqa: N818  what happened to a process
    """The emulator ended instead of computing: it crashed, refused the network, or had no memory.

    Attributes:
        started: whether it had taken the network, so that an image is what it ended on.
    """

    started = False


class Emulation:
    """A network on the emulator of a chip; the process starts with the first image, and again after a crash.

    Args:
        tool: what `toolchain.find` returned.
        chip: the emulator's name of it, see `toolchain.chip_of`.
        network: what runs.
        settings: environment variables of the driver, for example those that make it say what it did.
        timeout: seconds for one image, the start included.
    """

    def __init__(
        self,
        tool: Emulator,
        chip: str,
        network: Description,
        settings: Mapping[str, str] | None = None,
        timeout: float = 1800.0,
    ) -> None:
        self._tool, self._chip, self._network = tool, chip, network
        self._settings, self._timeout = dict(settings or {}), timeout
        self._scratch = tempfile.TemporaryDirectory(prefix="picoquant-emulator-")
        self._folder = Path(self._scratch.name)
        self._process: subprocess.Popen | None = None
        self._answers = -1
        (self._folder / "network.txt").write_text(network.text, encoding="utf-8")
        (self._folder / "network.bin").write_bytes(network.data)

    def __enter__(self) -> Emulation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._scratch.cleanup()

    def start(self) -> None:
        """Have the driver compile the network, as the first image does; once for all images.

        Raises: `EmulatorEnded` when it refuses the network.
        """
        if self._process is None:
            self._start()

    def run(self, stored: bytes) -> bytes:
        """One image: stored inputs (`Description.stored`) to stored results (`Description.read`).

        Raises: `EmulatorEnded` when the emulator ends instead of computing, with what it said.
        """
        result = self._folder / "result"
        result.unlink(missing_ok=True)
        (self._folder / "image").write_bytes(stored)
        self.start()
        assert self._process is not None and self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"image result\n")
            self._process.stdin.flush()
        try:
            self._wait("done")
        except EmulatorEnded as error:
            error.started = True
            raise
        content = result.read_bytes()
        if len(content) != self._network.result_bytes:
            raise ToolError(
                f"VeriSilicon's emulator wrote {len(content)} bytes for {self._network.result_bytes}"
            )
        return content

    def said(self) -> str:
        """All that the driver has printed since the process was started."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End the process; the next image starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        os.close(self._answers)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> None:
        read, write = os.pipe()
        command = [str(ready_program(self._tool.path)), "network.txt", "network.bin", str(write)]
        try:
            with (self._folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    cwd=self._folder,
                    env={**os.environ, **_settings_of(self._tool, self._chip), **self._settings},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[write],
                )
        except OSError as error:
            os.close(read)
            raise ToolError(f"cannot run {self._tool.path}: {error.strerror or error}") from error
        finally:
            os.close(write)
        self._answers = read
        self._wait("ready")

    def _wait(self, word: str) -> None:
        """Wait for a line of the program."""
        assert self._process is not None
        line, until = b"", time.monotonic() + self._timeout
        while not line.endswith(b"\n"):
            if not select.select([self._answers], [], [], max(0.0, until - time.monotonic()))[0]:
                self._process.kill()
                self.close()
                raise EmulatorEnded(
                    f"VeriSilicon's emulator of {self._chip} computed one image for more than {self._timeout:.0f} s "
                    "and was stopped"
                )
            part = os.read(self._answers, 64)
            if not part:
                raise self._ended()
            line += part
        assert line.decode().strip() == word, line

    def _ended(self) -> EmulatorEnded:
        """What became of the process."""
        process = self._process
        assert process is not None
        outcome = Outcome(process.wait(), self.said())
        self.close()
        return _ended(outcome, self._chip, self._network)


def compile_network(tool: Emulator, chip: str, network: Description, timeout: float = 1800.0) -> bytes:
    """A network as the driver compiles it for a chip (NBG); for the arguments see `Emulation`.

    Raises: `EmulatorEnded` when the driver refuses it, or ends.
    """
    with tempfile.TemporaryDirectory(prefix="picoquant-compiler-") as scratch:
        folder = Path(scratch)
        (folder / "network.txt").write_text(network.text, encoding="utf-8")
        (folder / "network.bin").write_bytes(network.data)
        command = [str(ready_program(tool.path)), "network.txt", "network.bin", "compile", "compiled"]
        environment = {**os.environ, **_settings_of(tool, chip)}
        outcome = run_program(
            command, environment=environment, cwd=folder, timeout=timeout, title="VeriSilicon's compiler"
        )
        made = folder / "compiled"
        if outcome.code or not made.is_file():
            raise _ended(outcome, chip, network)
        return made.read_bytes()


def _settings_of(tool: Emulator, chip: str) -> dict[str, str]:
    """Environment variables of the emulator."""
    return {
        "VIVANTE_SDK_DIR": str(tool.sdk),
        "LD_LIBRARY_PATH": str(tool.sdk / "lib"),
        "VSIMULATOR_CONFIG": chip,
        "VSIMULATOR_CONTIGUOUS_SIZE": str(CHIP_MEMORY_MB),
        **AS_HANDED_OVER,
    }


def _ended(outcome: Outcome, chip: str, network: Description) -> EmulatorEnded:
    """What became of a process that had a network."""
    if outcome.code == _KILLED:
        return EmulatorEnded(
            f"VeriSilicon's emulator was ended: it takes up to {PROCESS_MB} MB of memory; end other programs first"
        )
    lines = [line for line in outcome.text.splitlines() if line.strip()]
    refused = _REFUSED.search(outcome.text)
    if refused and int(refused[1]) < len(network.nodes):
        node = network.nodes[int(refused[1])]
        before = [
            line.partition("]")[2].strip() for line in lines if _ERROR in line and refused[0] not in line
        ]
        return EmulatorEnded(
            f"VeriSilicon's driver does not take {node.operator}, which computes {node.name}, for {chip}: "
            f"{(before or [refused[0]])[-1]}"
        )
    return EmulatorEnded(
        f"VeriSilicon's emulator of {chip} ended with {outcome.ended}: {(lines or ['no message'])[-1]}"
    )


def run(
    tool: Emulator, chip: str, network: Description, values: Mapping[str, np.ndarray], timeout: float = 1800.0
) -> dict[str, np.ndarray]:
    """Run a network once; for the arguments see `Emulation`.

    Args:
        values: quantised values of its inputs, by name.

    Returns: the results by name, quantised values, int16.

    Raises: `EmulatorEnded` when the emulator refuses the network, crashes, or has no memory.
    """
    with Emulation(tool, chip, network, timeout=timeout) as emulation:
        return network.read(emulation.run(network.stored(values)))

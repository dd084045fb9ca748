"""Run a model in Paddle Lite's x86 runtime, which lives in the environment of its opt (Python 3.10 or 3.8)."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.errors import ToolError
from picoquant.utils.batching import in_batches
from picoquant.utils.program_log import blame
from picoquant.utils.subprocesses import Outcome, clean_environment, run_program

X86 = "x86"
_WORKER = Path(__file__).with_name("runtime_worker.py")


def runtime_of(opt: OptTool) -> Path | None:
    """The Python whose paddlelite has opt and the runtime; None for an opt that came as a program."""
    python = opt.path.parent / "python"
    if not python.exists():
        return None
    asked = run_program([str(python), "-c", "import paddlelite.lite"], timeout=60)
    return python if asked.code == 0 else None


class X86Predictor:
    """A Paddle model in Paddle Lite's x86 runtime, in one process for all images; for one image a time.

    Use it in a `with`, or `close` it: the process ends then, or with this one.

    Args:
        python: see `runtime_of`.
        opt: the opt beside it.
        model, params: the Paddle model.
        input_names: of the model, in its order.
        outputs: how many it has.
        whole: which outputs hold int32, by number; the others float32.

    Attributes:
        network_seconds: how long the network itself took in the last call; handing values over, which takes
            longer than with any other runtime, does not count.
        bytes: size of the optimised model.

    Raises: `ToolError` with Paddle Lite's own word when it refuses the model.
    """

    def __init__(
        self,
        python: Path,
        opt: OptTool,
        model: Path,
        params: Path,
        input_names: tuple[str, ...],
        outputs: int,
        whole: tuple[int, ...] = (),
    ) -> None:
        self.input_names = input_names
        self.network_seconds = 0.0
        self._kinds = "".join("i" if index in whole else "f" for index in range(outputs))
        self._process = None
        self._scratch = tempfile.TemporaryDirectory(prefix="picoquant-lite-")
        folder = Path(self._scratch.name)
        try:
            opt.run(model, params, folder / "model.nb", X86)
            self.bytes = (folder / "model.nb").stat().st_size
            self._said = open(folder / "said", "w+b")  # noqa: SIM115  closed in close()
            command = [str(python), "-u", str(_WORKER), str(folder / "model.nb"), self._kinds]
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
            )
        except OSError as error:
            self.close()
            raise ToolError(f"cannot run {python}: {error.strerror or error}") from error
        except ToolError:
            self.close()
            raise

    def __enter__(self) -> X86Predictor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its files."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for stream in (process.stdin, process.stdout):
                try:
                    stream.close()
                except BrokenPipeError:  # it died with a question half asked, which was said then
                    continue
            process.wait()
            self._said.close()
        self._scratch.cleanup()

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, image by image.

        Raises: `ToolError` with Paddle Lite's own word when the runtime dies of it.
        """
        self._sum = 0.0
        outputs = in_batches(self._run, feed, 1)
        self.network_seconds = self._sum
        return outputs

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if self._process is None:
            raise ToolError("Paddle Lite's x86 runtime was closed")
        values = [np.ascontiguousarray(feed[name], "<f4") for name in self.input_names]
        shapes = json.dumps([list(value.shape) for value in values]).encode()
        into, out = self._process.stdin, self._process.stdout
        try:
            into.write(b"".join([shapes, b"\n", *(value.tobytes() for value in values)]))
            into.flush()
            answer = json.loads(out.readline())
        except (BrokenPipeError, ValueError) as error:
            raise self._death() from error
        self._sum += answer["seconds"]
        outputs = []
        for kind, shape in zip(self._kinds, answer["shapes"]):
            content = out.read(4 * int(np.prod(shape)))
            outputs.append(np.frombuffer(content, f"<{kind}4").reshape(shape))
        return outputs

    def _death(self) -> ToolError:
        code = self._process.wait(timeout=60)
        self._said.seek(0)
        outcome = Outcome(code, self._said.read().decode("utf-8", "replace"))
        said = blame(outcome.text) or "no message"
        return ToolError(f"Paddle Lite's x86 runtime did not run the model ({outcome.ended}): {said}")

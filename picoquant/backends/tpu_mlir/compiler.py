"""TPU-MLIR in a process of its own, in the environment that it is installed in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from picoquant.backends.base import Tensors
from picoquant.backends.own_environment import session
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.tpu_mlir.package import FOLDER

_SCRIPT = Path(__file__).with_name("compiler_worker.py")
_LIBRARIES = ("lib", "lib/capi", "lib/third_party")


class Session(session.Session):
    """One process of TPU-MLIR; use it in a `with`.

    Args:
        tool: see `toolchain.find`.
        names: of the network's tensors, see `session.Session`.
    """

    def __init__(self, tool: OwnTool, names: Iterable[str] = ()) -> None:
        super().__init__(tool, _SCRIPT, _environment(tool), names)

    def build(self, model: Path, table: Path, chip: str, out: Path) -> dict[str, float]:
        """Make a `.cvimodel`.

        Args:
            model, table: see `form.make_form`.
            chip: TPU-MLIR's name of the processor.
            out: the `.cvimodel`.

        Returns: the scale that TPU-MLIR has given each tensor, by its own names.

        Raises: `ToolError` with its own word when it refuses the model, with the signal when it crashes.
        """
        fails = f"does not build {model.name} for {chip}"
        return self.ask(fails, "build", str(model), str(table), chip, str(out))[0]

    def load(self, file: Path) -> tuple[Tensors, Tensors]:
        """Load a `.cvimodel` into the C model, for `run`; returns names and shapes of its inputs and outputs.

        Raises: as `build`.
        """
        inputs, outputs = self.ask(f"does not load {file.name}", "load", str(file.absolute()))[0]
        return tuple(inputs), tuple(outputs)

    def run(self, inputs: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        """One call of the network that is loaded, see `Session.call`."""
        return self.call("does not run the network", inputs)


def _environment(tool: OwnTool) -> dict[str, str]:
    """What a process needs from its start to find the libraries."""
    packages = sorted((tool.python.parent.parent / "lib").glob("python3*/site-packages"))
    folders = [packages[0] / FOLDER / name for name in _LIBRARIES] if packages else []
    paths = [str(path) for path in folders] + [os.environ.get("LD_LIBRARY_PATH", "")]
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))}

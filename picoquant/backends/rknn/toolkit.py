"""rknn-toolkit2 in a process of its own, in the environment that it is installed in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from picoquant.backends.own_environment import session
from picoquant.backends.own_environment.package import OwnTool

_SCRIPT = Path(__file__).with_name("toolkit_worker.py")


class Session(session.Session):
    """One process of the toolkit; use it in a `with`.

    Args:
        tool: see `toolchain.find`.
        names: of the network's tensors, see `session.Session`.
    """

    def __init__(self, tool: OwnTool, names: Iterable[str] = ()) -> None:
        super().__init__(tool, _SCRIPT, names=names)

    def build(self, model: Path, platform: str, out: Path) -> str:
        """Make an `.rknn`; returns what the toolkit printed.

        Args:
            model: see `form.make_form`.
            platform: the toolkit's name of the chip.
            out: the `.rknn`.

        Raises: `ToolError` with the toolkit's own word when it refuses the model, with the signal when it crashes.
        """
        return self.ask(
            f"does not build {model.name} for {platform}", "build", str(model), platform, str(out)
        )[1]

    def simulate(self, model: Path, platform: str) -> None:
        """Load a model into the simulator, for `run`.

        Raises: as `build`.
        """
        self.ask(f"does not simulate {model.name} for {platform}", "simulate", str(model), platform)

    def run(self, inputs: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        """One call of the network that is loaded.

        Args:
            inputs: float32 `[1, C, H, W]`.

        Returns: seconds that it took, and the outputs, float32.

        Raises: as `build`.
        """
        return self.call("does not run the network", inputs)

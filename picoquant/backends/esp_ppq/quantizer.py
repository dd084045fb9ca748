"""esp-ppq in a process of its own, in the environment that it is installed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from picoquant.backends.own_environment import session
from picoquant.backends.own_environment.package import OwnTool

_SCRIPT = Path(__file__).with_name("quantizer_worker.py")


class Session(session.Session):
    """One process of esp-ppq; use it in a `with`.

    Args:
        tool: see `toolchain.find`.
        names: of the network's tensors, see `session.Session`.
    """

    def __init__(self, tool: OwnTool, names: Iterable[str] = ()) -> None:
        super().__init__(tool, _SCRIPT, names=names)

    def build(self, model: Path, exponents: Mapping[str, int], chip: str, out: Path) -> dict[str, int]:
        """Make an `.espdl`.

        Args:
            model: see `form.make_form`.
            exponents: of the scales, by tensor.
            chip: esp-ppq's name of it.
            out: the `.espdl`.

        Returns: the exponent that each tensor has in the file.

        Raises: `ToolError` with its own word when it refuses the model, with the signal when it crashes.
        """
        fails = f"does not build {model.name} for {chip}"
        return self.ask(fails, "build", str(model), dict(exponents), chip, str(out))[0]

    def load(self, model: Path, exponents: Mapping[str, int], chip: str) -> None:
        """Load a model into the executor, for `run`.

        Raises: as `build`.
        """
        self.ask(f"does not execute {model.name} for {chip}", "load", str(model), dict(exponents), chip)

    def run(self, inputs: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        """One call of the network that is loaded, see `Session.call`."""
        return self.call("does not run the network", inputs)

"""acuity's own simulation of an INT8 network, in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from picoquant.backends.acuity.form import AcuityForm
from picoquant.backends.own_environment import session
from picoquant.backends.own_environment.package import OwnTool
from picoquant.errors import ToolError
from picoquant.storage.files import disk_errors

_SCRIPT = Path(__file__).with_name("simulator_worker.py")
_SAME = 1e-6  # of two scales, relative; acuity holds them in float32
_WITHOUT = "so it would compute other integers: --target simulates them without acuity"


class Session(session.Session):
    """One process of acuity with a network; use it in a `with`.

    Args:
        tool: see `toolchain.find`.
        form: see `make_form`.
        qtype: `uint8` or `int8`, of the tensors.
    """

    def __init__(self, tool: OwnTool, form: AcuityForm, qtype: str) -> None:
        super().__init__(tool, _SCRIPT, names=form.tensors)
        self._form, self._qtype = form, qtype
        self._title = f"{tool.title} {tool.version}"

    def load(self) -> None:
        """Load the network, for `run`.

        Raises: `ToolError` with acuity's own word when it refuses it or ends, naming an operator that it made and that
            has no scale of ours, or a tensor whose scale is not ours afterwards.
        """
        shift = 128 if self._qtype == "int8" else 0
        tensors = {name: (scale, zero - shift) for name, (scale, zero) in self._form.tensors.items()}
        (given,) = self._form.model.graph.input
        shape = [side.dim_value for side in given.type.tensor_type.shape.dim]
        with tempfile.TemporaryDirectory(prefix="picoquant-acuity-") as scratch, disk_errors(Path(scratch)):
            model = Path(scratch) / "network.onnx"
            model.write_bytes(self._form.model.SerializeToString())
            question = ("load", str(model), shape, tensors, self._form.weights, self._qtype)
            held, weights, unknown = self.ask("does not take the network", *question)[0]
        if unknown:
            operator, name = unknown[0]
            raise ToolError(
                f"{self._title} makes a {operator} behind {name}, for which the network has no scale, {_WITHOUT}"
            )
        for name, scale, zero in held:
            own, own_zero = tensors[name]
            if not _same([scale], [own]) or zero != own_zero:
                raise self._changed(name, f"{scale:g} from {zero}", f"{own:g} from {own_zero}")
        for name, scales in weights:
            ours = np.broadcast_to(self._form.weights[name][0], len(scales))
            if not _same(scales, ours):
                worst = int(np.argmax(np.abs(np.asarray(scales) / ours - 1)))
                raise self._changed(f"the weight of {name}", f"{scales[worst]:g}", f"{ours[worst]:g}")

    def run(self, inputs: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        """One call of the network that is loaded, see `Session.call`."""
        return self.call("does not run the network", inputs)

    def _changed(self, what: str, theirs: str, ours: str) -> ToolError:
        return ToolError(
            f"{self._title} has changed the scale of {what} to {theirs}, the network's is {ours}, {_WITHOUT}"
        )


def _same(theirs: Sequence[float], ours: Sequence[float] | np.ndarray) -> bool:
    return bool(np.allclose(theirs, ours, rtol=_SAME, atol=0))

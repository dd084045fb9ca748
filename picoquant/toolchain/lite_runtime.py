"""Run a model in Paddle Lite's x86 runtime, which lives in the environment of its opt (Python 3.10 or 3.8)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from picoquant.errors import ToolError
from picoquant.toolchain.opt_tool import OptTool, blame
from picoquant.toolchain.processes import run_program

X86 = "x86"

# That environment has no numpy, so values go through plain files of float32.
_CODE = """
import array, json, sys
from paddlelite.lite import MobileConfig, create_paddle_predictor
folder = sys.argv[1]
config = MobileConfig()
config.set_model_from_file(folder + "/model.nb")
predictor = create_paddle_predictor(config)
for index, shape in enumerate(json.load(open(folder + "/inputs.json"))):
    values = array.array("f")
    with open(folder + "/input%d" % index, "rb") as stream:
        values.frombytes(stream.read())
    tensor = predictor.get_input(index)
    tensor.resize(shape)
    tensor.set_float_data(values.tolist())
predictor.run()
shapes = []
for index in range(int(sys.argv[2])):
    tensor = predictor.get_output(index)
    shapes.append(list(tensor.shape()))
    with open(folder + "/output%d" % index, "wb") as stream:
        stream.write(array.array("f", tensor.float_data()).tobytes())
json.dump(shapes, open(folder + "/outputs.json", "w"))
"""


def runtime_of(opt: OptTool) -> Path | None:
    """The Python whose paddlelite has opt and the runtime; None for an opt that came as a program."""
    python = opt.path.parent / "python"
    if not python.exists():
        return None
    asked = run_program([str(python), "-c", "import paddlelite.lite"], timeout=60)
    return python if asked.code == 0 else None


class X86Predictor:
    """A Paddle model in Paddle Lite's x86 runtime; one image a call.

    Args:
        python: see `runtime_of`.
        opt: the opt beside it.
        model, params: the Paddle model.
        input_names: of the model, in its order.
        outputs: how many it has.
    """

    def __init__(
        self,
        python: Path,
        opt: OptTool,
        model: Path,
        params: Path,
        input_names: tuple[str, ...],
        outputs: int,
    ) -> None:
        self.input_names = input_names
        self._python, self._opt, self._model, self._params = python, opt, model, params
        self._outputs = outputs

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Optimise the model for x86 and run it.

        Raises: `ToolError` with Paddle Lite's own word when it refuses the model.
        """
        with tempfile.TemporaryDirectory(prefix="picoquant-lite-") as name:
            folder = Path(name)
            self._opt.run(self._model, self._params, folder / "model.nb", X86)
            values = [np.ascontiguousarray(feed[name], "<f4") for name in self.input_names]
            (folder / "inputs.json").write_text(json.dumps([list(value.shape) for value in values]))
            for index, value in enumerate(values):
                (folder / f"input{index}").write_bytes(value.tobytes())
            command = [str(self._python), "-c", _CODE, str(folder), str(self._outputs)]
            outcome = run_program(command, folder, title="Paddle Lite")
            if outcome.code or not (folder / "outputs.json").is_file():
                said = blame(outcome.text) or "no message"
                raise ToolError(f"Paddle Lite's x86 runtime did not run the model ({outcome.ended}): {said}")
            shapes = json.loads((folder / "outputs.json").read_text())
            return [
                np.frombuffer((folder / f"output{index}").read_bytes(), "<f4").reshape(shape)
                for index, shape in enumerate(shapes)
            ]

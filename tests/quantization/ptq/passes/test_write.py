"""The INT8 model is written from the state's ranges."""

from __future__ import annotations

import json
from dataclasses import replace

from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.passes.write import write
from picoquant.quantization.ptq.pipeline import run_passes


def test_files_and_description(small_state):
    state = run_passes((place_quantisers,), small_state())
    state = replace(state, ranges=dict.fromkeys([*state.tensors.names, *state.tensors.fused], 2.0))
    assert run_passes((write,), state) is state
    out = state.context.paths.out
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    model = ["model.pdiparams", "model.pdmodel"]
    assert written == [
        "int8_network.npz",
        *model,
        *(f"qat_graph/{name}" for name in model),
        "quantization.json",
    ]
    described = json.loads((out / "quantization.json").read_text())
    assert described["ranges"] == state.ranges
    assert [one["output"] for one in described["operators"]] == [one.output for one in state.operators]
    assert {one["activation_range"] for one in described["operators"]} == {2.0}

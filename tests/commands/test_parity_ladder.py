"""`picoquant eval --ladder` on a small run that finds its objects: what passes, and which step is named as broken."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from picoquant.backends.onnx.export import write_onnx_form
from picoquant.backends.source import Source
from picoquant.evaluation.evaluate import Evaluation
from picoquant.evaluation.paired import Paired
from picoquant.evaluation.parity import Ladder, ParityStep
from picoquant.paddle_program.model_folder import ModelFolder
from tests.command_line import picoquant, refusal
from tests.networks.run_folder import same_weights


@pytest.fixture
def run_dir(run_dir, run_made):
    """Its annotations stay where they were made, so they are made anew here."""
    same_weights(run_dir)
    config = (run_dir / "config.yml").read_text()
    (run_dir / "config.yml").write_text(config.replace(str(run_made), str(run_dir)))
    return run_dir


LOSS = ("--max-loss", 0.3)  # rounding costs this tiny network more than a real one


def climb(run_dir, *more):
    """Without Paddle Lite, which has its own test."""
    return picoquant(
        "eval", "--ladder", "--save-dir", run_dir, *LOSS, *more, PICOQUANT_LITE_OPT="/nowhere/opt"
    )


def test_a_sound_run_passes_and_says_what_was_not_there(run_dir):
    done = climb(run_dir, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    steps = {step["name"]: step for step in found["ladder"]["steps"]}
    assert found["ladder"]["passed"] and found["ladder"]["conclusive"] and found["ladder"]["images"] == 5
    assert "no trained weights" in steps["dygraph"]["not_run"]
    assert "quantised by an older picoquant" in steps["qat_graph"]["not_run"]
    assert "/nowhere/opt" in steps["nb"]["not_run"]
    assert steps["export"]["mAP"] > 0.5 and steps["export"]["difference"] is None
    for name, before in (("int8", "export"), ("onnx", "int8")):
        assert steps[name]["after"] == before
        change = steps[name]["mAP"] - steps[before]["mAP"]
        assert steps[name]["difference"] == pytest.approx(change, abs=1e-9)
        low, high = steps[name]["interval_95"]
        assert low <= high


def test_paddle_lite_is_a_step(run_dir, opt):
    if opt.python is None:
        pytest.skip("Paddle Lite's Python runtime is not beside opt")
    done = picoquant("eval", "--ladder", "--save-dir", run_dir, *LOSS, "--opt", opt.path, "--json")
    assert done.returncode == 0, done.stderr
    (step,) = [step for step in json.loads(done.stdout)["ladder"]["steps"] if step["name"] == "nb"]
    assert (step["name"], step["after"]) == ("nb", "onnx") and step["mAP"] > 0.3
    assert step["note"] == "weights of the INT8 model, computed in float"


def packaged_onnx(run_dir):
    """The run's INT8 ONNX, where a package has it."""
    path = run_dir / "package/rv1126/model_int8.onnx"
    path.parent.mkdir(parents=True)
    write_onnx_form(Source(ModelFolder.open(run_dir / "quantize")), path)
    return path


def test_onnx_with_damaged_weights_is_named(run_dir):
    path = packaged_onnx(run_dir)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, path)
    done = climb(run_dir)
    line = refusal(done, code=1)
    assert "step onnx loses" in line and "against int8" in line and "allowed: 0.3" in line
    assert "step int8" not in line
    row = next(line for line in done.stdout.splitlines() if line.startswith("onnx "))
    assert row.endswith("LOSES TOO MUCH") and "the INT8 ONNX (package/rv1126/model_int8.onnx)" in done.stdout


def test_onnx_that_does_not_load_is_named(run_dir):
    path = packaged_onnx(run_dir)
    model = onnx.load(path)
    model.graph.node[0].op_type = "Nonsense"
    path.write_bytes(model.SerializeToString())
    line = refusal(climb(run_dir), code=1)
    assert "step onnx does not run: ONNX Runtime does not run model_int8.onnx" in line


def test_damaged_scales_of_the_int8_model_are_named(run_dir):
    from picoquant.paddle_program.params import read_params, write_params
    from picoquant.paddle_program.program import read_program

    folder = run_dir / "quantize"
    program = read_program(folder / "model.pdmodel")
    values = read_params(program, folder / "model.pdiparams")
    wrong = {
        name: value * np.float32(0.3) if name.endswith("@channel_scale") else value
        for name, value in values.items()
    }
    write_params(program, wrong, folder / "model.pdiparams")
    line = refusal(climb(run_dir), code=1)
    assert "step int8 loses" in line and "against export" in line and "step onnx" not in line


def test_usage(run_dir, tmp_path):
    assert "leave --backend and --model out" in refusal(climb(run_dir, "--backend", "onnx"))
    assert "give one of them" in refusal(climb(run_dir, "--fidelity", "photos"))
    assert "--max-loss needs --ladder" in refusal(picoquant("eval", "--max-loss", 0.1, "--save-dir", run_dir))
    (run_dir / "empty").mkdir()
    nothing = picoquant("eval", "--ladder", "-c", run_dir / "config.yml", "--save-dir", run_dir / "empty")
    assert "--ladder is of a run" in refusal(nothing)


def step(name, mean, change=None, after=""):
    metrics = {"mAP": mean, "AP50": mean, "AP75": mean}
    paired = None if change is None else Paired(change, change - 0.004, change + 0.004, 1000, ())
    return ParityStep(name, name, after, Evaluation(metrics, {}, [], 9, 1.0), paired)


def test_only_a_loss_above_the_stated_one_breaks():
    steps = (
        step("a", 0.4),
        step("b", 0.39, -0.01, "a"),
        step("c", 0.375, -0.0151, "b"),
        step("d", 0.5, 0.12, "c"),
    )
    ladder = Ladder(steps, 0.015, 9)
    assert [one.name for one in ladder.broken] == ["c"] and ladder.conclusive
    assert ladder.verdict() == (
        "step c loses 0.0151 mAP against b (95 % interval -0.0191 to -0.0111; allowed: 0.015)"
    )
    assert Ladder(steps, 0.02, 9).verdict() == "no step loses more than 0.02 mAP"
    assert "has no more than that to lose" in Ladder(steps, 0.4, 9).verdict()

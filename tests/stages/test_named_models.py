"""Models named on the command line: they win over the recipe's, and their input size must be the reader's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from picoquant.commands.compare_runtimes import evaluate_backends
from picoquant.errors import WeightsError
from picoquant.packaging.open_model import open_model
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.runtimes.backends import running
from tests.command_line import picoquant, refusal, with_sets

SIZES = r"takes images of 32x32 \(height x width\), but they are prepared in 64x96: correct target_size"


@pytest.fixture
def recipe(run_dir, tmp_path):
    """The small run's configuration, with weights that are not there."""
    values = (run_dir / "config.yml").read_text().replace("weights: null", "weights: gone.pdparams")
    (tmp_path / "recipe.yaml").write_text(values)
    return tmp_path / "recipe.yaml"


def test_a_model_named_now_wins_over_the_recipes_weights(recipe, run_dir, tmp_path):
    done = picoquant(
        "eval", "-c", recipe, "--model-dir", run_dir / "export", "--save-dir", tmp_path, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert "which leaves out the file's Global.weights" in done.stderr
    rows = evaluate_backends(str(recipe), [], str(tmp_path), ["paddle"], [str(run_dir / "quantize")]).rows
    assert [row.precision for row in rows] == ["int8"]


def test_a_model_named_now_stands_for_the_recipes_model(recipe, run_dir, tmp_path):
    text = recipe.read_text().replace("weights: gone.pdparams", "weights: null")
    recipe.write_text(text.replace("model_dir: null", "model_dir: gone"))
    paths, sets = [str(run_dir / "quantize")], [f"Global.model_dir={run_dir / 'export'}"]
    rows = evaluate_backends(str(recipe), [], str(tmp_path), ["paddle"], paths).rows
    assert [row.precision for row in rows] == ["int8"]
    rows = evaluate_backends(str(recipe), sets, str(tmp_path), ["paddle"], paths).rows
    assert [row.precision for row in rows] == ["fp32", "int8"]


@pytest.fixture
def other_size(run_dir):
    """The small run's model of 32 x 32, whose infer_cfg.yml says 64 x 96."""
    path = run_dir / "export/infer_cfg.yml"
    values = yaml.safe_load(path.read_text())
    values["Preprocess"][0]["target_size"] = [64, 96]
    path.write_text(yaml.safe_dump(values))
    return run_dir / "export"


def test_both_sizes_are_named_before_anything_runs(other_size, run_dir):
    with pytest.raises(WeightsError, match=f"model.pdmodel {SIZES}"), open_model(other_size):
        pass
    train = [
        f"TrainDataset.{key}" for key in (f"dataset_dir={run_dir}", "image_dir=images", "anno_path=val.json")
    ]
    sets = with_sets([*train, f"Global.model_dir={other_size}"])
    done = picoquant("quantize", *sets, "--save-dir", run_dir)
    assert "takes images of 32x32 (height x width), but they are prepared in 64x96" in refusal(done)
    assert "calibrat" not in done.stderr


def test_without_infer_cfg_the_configurations_size_is_named(run_dir):
    (run_dir / "export/infer_cfg.yml").unlink()
    sets = with_sets([f"Global.model_dir={run_dir / 'export'}"])
    line = refusal(picoquant("eval", "-c", run_dir / "config.yml", *sets, "--save-dir", run_dir / "x"))
    assert "takes images of 32x32 (height x width), but they are prepared in 416x416" in line
    assert "set Global.input_size=[32,32]" in line


def test_an_onnx_file_of_another_size(run_dir, other_size, tmp_path):
    from picoquant.backends.onnx.export import write_onnx_form
    from picoquant.backends.source import Source
    from picoquant.paddle_program.infer_config import read_infer_config, write_infer_config

    config = read_infer_config(other_size)
    folder = ModelFolder.open(other_size, config=replace(config, input_size=(32, 32)))
    write_onnx_form(Source(folder), tmp_path / "model.onnx")
    write_infer_config(config, tmp_path)
    refused = pytest.raises(WeightsError, match=f"model.onnx {SIZES}")
    with open_model(tmp_path / "model.onnx") as opened, refused, running(opened, "onnx"):
        pass


def test_every_command_opens_models_so(other_size, run_dir, tmp_path):
    """What the run itself made, too: whoever edits its infer_cfg.yml learns both sizes before anything runs."""
    with pytest.raises(WeightsError, match=f"model.pdmodel {SIZES}"):
        ModelFolder.open(other_size)
    for command in (
        ["eval", "--save-dir", run_dir],
        ["analyze", "-c", run_dir / "config.yml", "--model", other_size, "--save-dir", tmp_path],
        ["benchmark", "--model", other_size],
        ["predict", "--model", other_size, run_dir, "--out", tmp_path / "out"],
        ["check", "--model", other_size, "--target", "rv1126"],
    ):
        line = refusal(picoquant(*command))
        assert "takes images of 32x32 (height x width), but they are prepared in 64x96" in line, command

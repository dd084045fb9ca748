"""`picoquant analyze` on a run, on a model folder, and on the official model that INT8 breaks."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.command_line import picoquant, refusal, with_sets


@pytest.fixture(scope="module")
def run_dir(evaluated_run, tmp_path_factory):
    """A run with its INT8 model."""
    return shutil.copytree(evaluated_run, tmp_path_factory.mktemp("run") / "run")


def test_the_int8_model_of_a_run_is_compared_with_its_fp32_model(run_dir):
    done = picoquant("analyze", "--save-dir", run_dir, "--images", 1, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["model"], found["reference"], found["images"]) == ("int8", "fp32", 1)
    assert set(found["outputs_snr_db"]) == {"scores", "boxes"}
    described = json.loads((run_dir / "quantize/quantization.json").read_text())
    assert len(found["layers"]) == len(described["operators"])
    ranges = {row["tensor"]: row["range_high"] for row in found["tensors"]}
    assert ranges["image"] == pytest.approx(described["ranges"]["image"], rel=1e-4)
    assert all(row["built_up_db"] is not None for row in found["tensors"][:3])
    for name in ("analysis.json", "analysis.csv", "tensors.csv", "analysis.png"):
        assert (run_dir / "analyze" / name).stat().st_size > 0, name
    table = refusal(picoquant("analyze", "--save-dir", run_dir, "--images", 500))
    assert "--images 500, but the Calibration section gives 8 usable images of TrainDataset" in table


def test_a_model_folder_is_analysed_and_map_measured(run_dir, tmp_path):
    done = picoquant(
        "analyze", "-c", run_dir / "config.yml", "--save-dir", run_dir, "--model", run_dir / "export",
        "--images", 1, "--map", 2, "--top", 1, "--out", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 5 and "mAP of 2 images" in lines[3]
    found = json.loads((tmp_path / "analysis.json").read_text())
    assert found["model"] == "fp32" and found["mAP"]["images"] == 2
    assert set(found["mAP"]) == {"float", "int8", "fidelity", "images"}
    assert found["layers"][0]["mAP_alone"] is not None and found["layers"][1]["mAP_alone"] is None
    line = refusal(picoquant("analyze", "--save-dir", run_dir, "--model", run_dir / "export", "--of", "int8"))
    assert "holds an FP32 model" in line


@pytest.mark.slow
def test_the_layers_that_break_the_official_model_are_found(shared, tmp_path):
    """facts/stack.md: [96,1,3,3] -0.4 dB, stem 0.4, others of the first third to 4; the rest 40 to 60 dB."""
    coco = shared / "datasets/tiny_coco"
    sets = with_sets(
        [
            f"Global.weights={shared / 'weights/picodet_s_320_coco.pdparams'}",
            f"TrainDataset.dataset_dir={coco}",
            f"EvalDataset.dataset_dir={coco}",
            "worker_num=0",
        ]
    )
    done = picoquant("export", "-c", "picodet_s_320_coco", "--save-dir", tmp_path, *sets)
    assert done.returncode == 0, done.stderr
    done = picoquant("analyze", "--save-dir", tmp_path, "--images", 2, "--json", timeout=1800)
    assert done.returncode == 0, done.stderr
    layers = json.loads(done.stdout)["layers"]
    third = len(layers) / 3
    assert all(row["index"] < third for row in layers[:8])
    worst = {tuple(row["weight_shape"]): row["both.scores_db"] for row in reversed(layers[:8])}
    for shape, decibels in (((96, 1, 3, 3), -0.4), ((24, 3, 3, 3), 0.4), ((24, 1, 3, 3), 1.5)):
        assert worst[shape] == pytest.approx(decibels, abs=3)
    later = sorted(row["both.scores_db"] for row in layers if row["index"] > 2 * third)
    assert later[len(later) // 2] > 30

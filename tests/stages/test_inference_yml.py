"""`inference.yml` beside an export, as PaddleX and PaddleDetection from 2.8 on write it."""

from __future__ import annotations

import json

import pytest
import yaml

from picoquant.commands.compare_runtimes import evaluate_backends
from picoquant.packaging.open_model import open_model
from picoquant.stages.evaluate import evaluate_alone
from tests.command_line import picoquant


@pytest.fixture
def exported(run_dir):
    """The small run's model, its preprocessing in `inference.yml` alone and not that of the run's configuration."""
    old = run_dir / "export/infer_cfg.yml"
    values = yaml.safe_load(old.read_text())
    assert values["Preprocess"][0]["target_size"] == [32, 32]  # the configuration's is 416
    (run_dir / "export/inference.yml").write_text(
        yaml.safe_dump({**values, "Global": {"model_name": "PicoDet-S"}})
    )
    old.unlink()
    return run_dir / "export"


def test_a_model_folder_is_evaluated_as_its_inference_yml_says(exported, run_dir):
    sets = [f"Global.model_dir={exported}"]
    alone = evaluate_alone(str(run_dir / "config.yml"), sets, "cpu", str(run_dir))["paddle_inference"]
    assert alone["AP50"] > 0.5
    by_path = evaluate_backends(
        str(run_dir / "config.yml"), [], str(run_dir / "b"), ["paddle"], [str(exported)]
    )
    assert by_path.rows[0].evaluation.metrics == alone
    with open_model(exported) as opened:
        assert opened.config.labels == ("red cell", "white cell", "platelet")


def test_a_model_folder_is_quantised_and_detects_as_its_inference_yml_says(exported, run_dir, tmp_path):
    done = picoquant(
        "predict", run_dir / "images", "--model", exported, "--no-images", "--out", tmp_path, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert sum(len(json.loads(line)["detections"]) for line in done.stdout.splitlines()) > 0
    assert (
        picoquant("benchmark", "--model", exported, "--backend", "paddle", "--save-dir", tmp_path).returncode
        == 0
    )


def test_trained_network_in_paddlexs_form(shared, tmp_path):
    """At 320 px as `inference.yml` says: 0.3073; the configuration's 416 px would give another number."""
    from picoquant import build_detector
    from picoquant.detector.weights import load_weights
    from picoquant.export.paddle_export import export_model
    from picoquant.paddle_program.infer_config import InferConfig

    model = build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    load_weights(model, shared / "weights/picodet_s_npu_bccd.pdparams")
    model.eval()
    config = InferConfig((320, 320), ("RBC", "WBC", "Platelets"))
    folder = export_model(model, tmp_path / "exported", "boxes", (320, 320), config).path
    for old, new in (("infer_cfg.yml", "inference.yml"), ("model.pdmodel", "inference.pdmodel"),
                     ("model.pdiparams", "inference.pdiparams")):  # fmt: skip
        (folder / old).rename(folder / new)
    sets = [
        f"EvalDataset.dataset_dir={shared / 'datasets/bccd'}",
        "EvalDataset.image_dir=JPEGImages",
        f"EvalDataset.anno_path={shared / 'cases/annotations_without_id.json'}",
        f"Global.model_dir={folder}",
        "Global.model_filename=inference.pdmodel",
        "Global.params_filename=inference.pdiparams",
        "worker_num=0",
    ]
    found = evaluate_alone("picodet_s_416_coco_npu", sets, "cpu", str(tmp_path))
    assert found["paddle_inference"]["mAP"] == pytest.approx(0.3073, abs=1e-3)

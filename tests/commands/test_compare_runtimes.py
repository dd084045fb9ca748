"""`picoquant eval --backend`: every runtime over the same images, as table, JSON and CSV."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from picoquant.backends.base import Machine, load_backend
from picoquant.commands.analyze import model_to_analyse
from picoquant.commands.compare_runtimes import evaluate_backends, models_of, open_context
from picoquant.commands.parity_ladder import evaluate_ladder
from picoquant.evaluation.coco_metrics import coco_metrics
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.runtimes.backends import absence
from picoquant.runtimes.benchmark import benchmark
from picoquant.runtimes.model import model_of_folder
from tests.command_line import picoquant, refusal


def test_all_runtimes_in_one_table_json_and_csv(run_dir, opt):
    done = picoquant("eval", "--backend", "all", "--save-dir", run_dir, "--json", "--opt", opt.path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    installed = [name for name in ("ncnn", "mnn") if not absence(load_backend(name), Machine())]
    names = [
        f"{backend}_{kind}"
        for kind in ("fp32", "int8")
        for backend in ("paddle", "paddle_no_onednn", "onnx", "openvino", *installed)
    ]
    lite = ["lite_fp32", "lite_int8"] if opt.python else []
    assert sorted(found["backends"]) == sorted([*names, *lite])
    assert "no trained weights" in found["not_run"]["dygraph_fp32"]
    missing = absence(load_backend("tflite"), Machine())  # no wheel for Python 3.9
    for name in ("tflite_int8", "tflite_16x8_int8"):
        assert (missing or "tensor_5 has no range") in found["not_run"][name]
    rows = found["backends"]
    truth = json.loads((run_dir / "val.json").read_text())
    for name, row in rows.items():
        detections = json.loads((run_dir / f"backends/detections_{name}.json").read_text())
        metrics, per_class = coco_metrics(truth, detections)
        assert {key: row[key] for key in metrics} == pytest.approx(metrics) and row["per_class"] == per_class
        assert 0 < row["latency_ms"] <= row["latency_p90_ms"] and row["bytes"] > 1000
        assert row["difference"] == pytest.approx(row["mAP"] - rows["paddle_fp32"]["mAP"])
        if name.endswith("fp32"):  # what is annotated is what the network finds
            assert row["mAP"] == pytest.approx(rows["paddle_fp32"]["mAP"], abs=0.01) and row["AP50"] > 0.5
        else:
            pair = found["paired"][name]
            assert pair["interval_95"][0] <= pair["difference"] <= pair["interval_95"][1]
    assert found["reference"] == "paddle_fp32" and found["images"] == 5
    with open(run_dir / "backends/results.csv", newline="") as stream:
        table = {row["name"]: row for row in csv.DictReader(stream)}
    assert set(table) == set(rows)
    assert float(table["onnx_int8"]["fidelity"]) == found["fidelity"]["onnx_int8"]["value"]
    assert table["onnx_fp32"]["fidelity"] == ""
    assert float(table["onnx_int8"]["AP50"]) == rows["onnx_int8"]["AP50"]
    for label, value in rows["onnx_int8"]["per_class"].items():
        assert table["onnx_int8"][f"AP {label}"] == ("" if value is None else str(value))
    assert json.loads((run_dir / "backends/results.json").read_text()) == found


KNOWN = {"paddle": "picoquant.backends.paddle", "numpy": "tests.backends.example"}


def test_a_runtime_costs_its_own_row_whatever_it_raises(run_dir, monkeypatch):
    def fails(*_):
        raise RuntimeError("its own\n  word")

    monkeypatch.setattr(load_backend("numpy", KNOWN).runtime, "open_files", fails)
    found = evaluate_backends(None, (), str(run_dir), ("all",), limit=2, known=KNOWN)
    assert [row.name for row in found.rows] == ["paddle_fp32", "paddle_int8"]
    assert found.not_run["numpy_int8"] == "failed (RuntimeError: its own word)"
    head, *rows = found.to_text().splitlines()[:6]
    assert head.split()[-4:] == ["fidelity", "ms", "p90", "MB"]
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    assert cells["numpy_int8"] == ["-"] * 11
    fidelity = found.fidelities["paddle_int8"].value
    assert cells["paddle_int8"][7] == f"{fidelity:.4f}" and 0 < fidelity <= 1
    assert "numpy_int8: not run, failed (RuntimeError: its own word)" in found.to_text()
    with pytest.raises(RuntimeError):  # asked for by name
        evaluate_backends(None, (), str(run_dir), ("numpy",), limit=2, known=KNOWN)

    steps = {step.name: step for step in evaluate_ladder(None, (), str(run_dir), limit=2, known=KNOWN).steps}
    assert steps["numpy"].failure == "failed (RuntimeError: its own word)" and steps["int8"].evaluation
    models = [model_of_folder(ModelFolder.open(run_dir / "quantize"))]
    cases, not_run = benchmark(models, ["paddle", "numpy"], (1,), (1,), 1, 0, strict=False, known=KNOWN)
    assert [case.name for case in cases] == ["paddle_int8"]
    assert not_run == {"numpy_int8": "failed (RuntimeError: its own word)"}


def test_models_by_path_and_a_table_for_a_person(run_dir):
    arguments = ["--model", run_dir / "export", "--model", run_dir / "quantize", "--per-class", "--images", 3]
    done = picoquant("--quiet", "eval", "--backend", "onnx", "--save-dir", run_dir, *arguments)
    assert done.returncode == 0, done.stderr
    about_boxes = ("outside their image", "out of their images")  # they are drawn for a test, anywhere
    assert [line for line in done.stderr.splitlines() if not any(text in line for text in about_boxes)] == []
    lines = done.stdout.splitlines()
    assert lines[0].split()[:6] == ["mAP", "AP50", "AP75", "small", "medium", "large"]
    assert [line.split()[0] for line in lines[1:3]] == ["onnx_fp32", "onnx_int8"]
    assert np.isclose(
        float(lines[2].split()[7]), float(lines[2].split()[1]) - float(lines[1].split()[1]), atol=2e-4
    )
    assert any(line.startswith("white cell") for line in lines)
    assert any(line.startswith("onnx_int8 - FP32") and "over 3 images" in line for line in lines)


def test_what_cannot_be_evaluated_is_one_line(run_dir, tmp_path):
    line = refusal(picoquant("eval", "--backend", "dygraph", "--save-dir", run_dir))
    assert "no trained weights" in line
    line = refusal(picoquant("eval", "--backend", "onnx", "--save-dir", tmp_path / "none"))
    assert "--config is needed" in line
    line = refusal(picoquant("eval", "--model", "nowhere", "--save-dir", run_dir))
    assert "nowhere does not exist: name a folder with model.pdmodel, an .onnx file, or a package" in line
    assert "--per-class need --backend" in refusal(picoquant("eval", "--per-class", "--save-dir", run_dir))


def test_what_cannot_be_simulated_is_one_line(run_dir):
    line = refusal(picoquant("eval", "--target", "rv1126", "--save-dir", run_dir))
    assert "has no range, without which no NPU computes it: quantise the model again" in line
    line = refusal(
        picoquant("eval", "--target", "rv1126", "--model", run_dir / "export", "--save-dir", run_dir)
    )
    assert "--target simulates an INT8 model, and there is none: run `picoquant quantize`" in line
    assert "unknown target rv1127; known" in refusal(
        picoquant("eval", "--target", "rv1127", "--save-dir", run_dir)
    )


def opened(run_dir, *overrides, paths=()):
    """Name and precision of each model that is evaluated, and what `analyze` is about."""
    context = open_context(None, overrides, "cpu", str(run_dir))
    with models_of(context, paths) as models:
        return [(model.name, model.precision) for model in models], model_to_analyse(context, None)[1]


def test_a_run_on_an_exported_model_has_both_models(run_dir, tmp_path):
    assert opened(run_dir) == ([("export", "fp32"), ("quantize", "int8")], "int8")
    exported = (run_dir / "export").rename(tmp_path / "mine")
    text = (run_dir / "config.yml").read_text()
    assert " model_dir: null" in text
    (run_dir / "config.yml").write_text(text.replace(" model_dir: null", f" model_dir: {exported}"))
    assert opened(run_dir) == ([("mine", "fp32"), ("quantize", "int8")], "int8")
    # What a command names stands in place of the run's models.
    assert opened(run_dir, f"Global.model_dir={exported}") == ([("mine", "fp32")], "fp32")
    quantised = f"Global.model_dir={run_dir / 'quantize'}"
    assert opened(run_dir, quantised) == ([("quantize", "int8")], "int8")
    found, _ = opened(run_dir, quantised, paths=[str(exported)])
    assert found == [("quantize", "int8"), ("mine", "fp32")]


def test_fidelity_beside_map_and_on_images_without_labels(run_dir, tmp_path):
    labelled = picoquant("eval", "--backend", "onnx", "--save-dir", run_dir, "--json")
    assert labelled.returncode == 0, labelled.stderr
    expected = json.loads(labelled.stdout)["fidelity"]["onnx_int8"]
    assert expected["reference"] == "onnx_fp32" and expected["detections"] > 0
    assert 0 < expected["interval_95"][0] <= expected["value"] <= expected["interval_95"][1] <= 1
    photos = tmp_path / "photos"
    photos.mkdir()
    truth = json.loads((run_dir / "val.json").read_text())
    for entry in truth["images"]:
        (photos / entry["file_name"]).symlink_to(run_dir / "images" / entry["file_name"])
    asked = ("eval", "--fidelity", photos, "--backend", "onnx", "--save-dir", run_dir)
    done = picoquant(*asked, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["fidelity"]["onnx_int8"]["value"] == pytest.approx(expected["value"])
    assert found["paired"] == {} and found["images"] == len(truth["images"])
    text = picoquant("--quiet", *asked).stdout
    assert "onnx_int8: fidelity 0." in text or "onnx_int8: fidelity 1." in text
    assert "+0.0000" not in text  # nothing is annotated, so there is no mAP


def test_fidelity_needs_both_models_and_images(run_dir, tmp_path):
    asked = ("eval", "--save-dir", run_dir, "--fidelity")
    (tmp_path / "empty").mkdir()
    assert "no image (" in refusal(picoquant(*asked, tmp_path / "empty"))
    assert "no image folder" in refusal(picoquant(*asked, tmp_path / "none"))
    lone = picoquant(*asked, run_dir / "images", "--model", run_dir / "quantize")
    assert "--fidelity compares an INT8 model with the FP32 model" in refusal(lone)

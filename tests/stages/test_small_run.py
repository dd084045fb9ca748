"""All stages for real on a data set of a few images: what a run leaves, skips, refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from picoquant.stages import quantize
from picoquant.stages.plan import load_plan
from picoquant.stages.stage import Context
from picoquant.storage.files import sha256
from picoquant.storage.run_folder import RunFolder
from tests.command_line import picoquant, refusal, with_sets


@pytest.fixture(scope="module")
def run_dir(evaluated_run, tmp_path_factory):
    """A run up to the evaluation (packaging needs Paddle Lite's opt and has its own test)."""
    return shutil.copytree(evaluated_run, tmp_path_factory.mktemp("run") / "run")


def manifest(folder):
    return json.loads((folder / "run.json").read_text())


def test_every_stage_leaves_its_files_and_its_record(run_dir):
    stages = manifest(run_dir)["stages"]
    assert [stages[name]["status"] for name in ("train", "export", "quantize", "evaluate")] == ["done"] * 4
    for name in (
        "train/best.pdparams",
        "train/metrics.csv",
        "export/model.pdmodel",
        "export/infer_cfg.yml",
        "quantize/model.pdmodel",
        "quantize/qat.csv",
        "evaluate/detections_int8.json",
        "run.log",
        "config.yml",
    ):
        assert (run_dir / name).stat().st_size > 0, name
    for model in ("fp32", "int8"):
        assert 0 <= stages["evaluate"]["metrics"][model]["mAP"] <= 1


def test_the_number_of_classes_is_the_annotations(run_dir):
    assert "the configuration says 80" in (run_dir / "stderr.txt").read_text()


def test_running_again_does_nothing_and_says_so(run_dir):
    before = (run_dir / "quantize/model.pdiparams").stat().st_mtime_ns
    done = picoquant("run", "--save-dir", run_dir, "--until", "evaluate", "-c", run_dir / "config.yml")
    assert done.returncode == 0, done.stderr
    for name in ("train", "export", "quantize", "evaluate"):
        assert f"{name}: skipped, done before with the same inputs" in done.stderr
    assert (run_dir / "quantize/model.pdiparams").stat().st_mtime_ns == before


def test_eval_prints_the_runs_numbers_as_json(run_dir):
    done = picoquant("eval", "--save-dir", run_dir, "--json")
    assert done.returncode == 0, done.stderr
    backends = json.loads(done.stdout)["backends"]
    assert backends == manifest(run_dir)["stages"]["evaluate"]["metrics"]


def test_weights_and_export_alone_reach_what_the_run_reached(run_dir):
    reached = manifest(run_dir)["stages"]["evaluate"]["metrics"]["fp32"]
    common = ["eval", "-c", run_dir / "config.yml", "--save-dir", run_dir, "--json"]
    weights = picoquant(*common, "--weights", run_dir / "train/best.pdparams")
    assert weights.returncode == 0, weights.stderr
    exported = picoquant(*common, "--model-dir", run_dir / "export")
    assert exported.returncode == 0, exported.stderr
    for done, backend in ((weights, "paddle_dygraph"), (exported, "paddle_inference")):
        found = json.loads(done.stdout)["backends"][backend]
        assert found["mAP"] == pytest.approx(reached["mAP"], abs=1e-4)


def test_ladder_has_every_step_of_the_run(run_dir, tmp_path):
    folder = shutil.copytree(run_dir, tmp_path / "run")
    done = picoquant("eval", "--ladder", "--target", "rv1126", "--save-dir", folder, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    steps = {step["name"]: step for step in found["ladder"]["steps"]}
    tflite, vendors = ["tflite", "tflite-no-xnnpack", "tflite-16x8"], ["rknn", "tpu_mlir", "esp_ppq"]
    runtimes = ["onnx", "nb", *tflite, "openvino", *vendors, "ncnn", "mnn"]
    assert list(steps) == ["dygraph", "export", "qat_graph", "int8", *runtimes, "simulation_rv1126"]
    before = {name: step["after"] for name, step in steps.items()}
    assert (
        before["dygraph"] is None and before["int8"] == "qat_graph" and before["simulation_rv1126"] == "int8"
    )
    for name in ("dygraph", "export", "qat_graph", "int8", "onnx", "simulation_rv1126"):
        assert steps[name]["not_run"] is None and steps[name]["mAP"] == found["backends"][name]["mAP"]
        assert (folder / f"ladder/detections_{name}.json").is_file()
    assert "no board" in steps["simulation_rv1126"]["note"]
    # Two steps of training reach nothing, and the ladder must not say that nothing is lost without saying so.
    assert found["ladder"]["passed"] and not found["ladder"]["conclusive"]
    assert json.loads((folder / "ladder/results.json").read_text()) == found


def test_the_graph_of_qat_computes_what_the_int8_model_computes(run_dir):
    from picoquant.backends.paddle.runtime import open_predictor
    from picoquant.paddle_program.model_folder import ModelFolder

    image = {"image": np.random.default_rng(2).random((1, 3, 64, 64), np.float32)}
    folders = (run_dir / "quantize", run_dir / "quantize/qat_graph")
    whole, graph = (open_predictor(ModelFolder.open(folder), threads=1)(image) for folder in folders)
    for first, second in zip(whole, graph):
        assert np.median(np.abs(first - second)) < 0.01 * np.abs(second).max()


def test_a_model_exported_for_another_input_size_is_refused(run_dir):
    done = picoquant(
        "eval", "-c", run_dir / "config.yml", "--save-dir", run_dir,
        "--model-dir", run_dir / "export", "--input-size", 96,
    )  # fmt: skip
    assert "exported for an input of [64, 64], Global.input_size is [96, 96]" in refusal(done)


def test_detections_written_give_the_same_numbers_with_pycocotools(run_dir):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found = json.loads((run_dir / "evaluate/detections_fp32.json").read_text())
    assert found
    truth = COCO(str(run_dir / "dataset/annotations/instances_val.json"))
    counted = COCOeval(truth, truth.loadRes(found), "bbox")
    counted.evaluate()
    counted.accumulate()
    counted.summarize()
    reached = manifest(run_dir)["stages"]["evaluate"]["metrics"]["fp32"]["mAP"]
    np.testing.assert_allclose(counted.stats[0], reached, atol=1e-6)


def test_a_model_dir_with_only_the_four_sections_is_quantised(run_dir, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        f"Global: {{model_dir: {run_dir / 'export'}, model_filename: model.pdmodel, include_nms: false}}\n"
        "Distillation: {alpha: 1.0, loss: l2}\n"
        "QuantAware: {use_pact: false, activation_quantize_type: moving_average_abs_max,\n"
        "  weight_bits: 8, activation_bits: 8, quantize_op_types: [conv2d, depthwise_conv2d]}\n"
        "TrainConfig: {train_iter: 1, eval_iter: 1, learning_rate: 1.0e-05,\n"
        "  optimizer_builder: {optimizer: {type: SGD}, weight_decay: 4.0e-05}}\n"
    )
    data = [
        f"{section}.{key}={value}"
        for section, split in (("TrainDataset", "train"), ("EvalDataset", "val"))
        for key, value in (
            ("dataset_dir", run_dir / "dataset"),
            ("image_dir", split),
            ("anno_path", f"annotations/instances_{split}.json"),
        )
    ]
    done = picoquant(
        "run", "-c", tmp_path / "mine.yaml", "--save-dir", tmp_path / "out", "--until", "evaluate",
        *with_sets([*data, "worker_num=0"]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stages = manifest(tmp_path / "out")["stages"]
    assert stages["train"]["status"] == stages["export"]["status"] == "skipped"
    evaluated = stages["evaluate"]["metrics"]
    assert set(evaluated) == {"fp32", "int8"}
    assert (
        evaluated["int8"]["mAP"] == stages["quantize"]["metrics"]["mAP"]
    )  # the same form in the same runtime


def test_a_changed_setting_runs_its_stage_again_and_says_what_changed(run_dir, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    done = picoquant(
        "run", "--save-dir", copy, "-c", copy / "config.yml", "--until", "quantize",
        "--set", "TrainConfig.train_iter=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "export: skipped" in done.stderr
    assert "quantize: again, changed: training" in done.stderr


def test_a_package_without_opt_stops_with_what_to_do_and_leaves_nothing(run_dir):
    done = picoquant("package", "--save-dir", run_dir, "--opt", "/nowhere/paddle_lite_opt")
    line = refusal(done)
    assert "/nowhere/paddle_lite_opt" in line
    assert not (run_dir / "package").exists()


def test_ranges_beside_the_export_are_an_input_of_quantisation(run_dir, tmp_path):
    folder = shutil.copytree(run_dir, tmp_path / "run")
    context = Context(load_plan(str(folder / "config.yml")), RunFolder(folder), "cpu")
    found = [quantize.STAGE.inputs(context)]
    for text in ('{"conv2d_0.w_0": 1.5}', '{"conv2d_0.w_0": 2.5}'):
        (folder / "export/input_ranges.json").write_text(text)
        found.append(quantize.STAGE.inputs(context))
    none, first, second = (one.pop("ranges of the weights", None) for one in found)
    assert none is None and first != second and found[0] == found[1] == found[2]


def test_an_unknown_target_lists_the_known_ones(run_dir):
    line = refusal(picoquant("package", "--save-dir", run_dir, "--target", "rv1127"))
    assert "unknown target rv1127; known, the nearest first: rv1126" in line and "imx8mp" in line


def test_a_second_target_is_put_beside_the_first(run_dir, opt):
    for target in ("rv1126", "imx8mp"):
        done = picoquant("package", "--save-dir", run_dir, "--target", target, "--opt", opt.path)
        assert done.returncode == 0, done.stderr
    for target in ("rv1126", "imx8mp"):
        folder = run_dir / "package" / target
        contents = json.loads((folder / "manifest.json").read_text())
        assert contents["mAP"].keys() == {"fp32", "int8"}
        for name, entry in contents["files"].items():
            assert sha256(folder / name) == entry["sha256"], name
        assert {"model.nb", "model_int8.onnx", "labels.txt", "preprocess.yml"} <= set(contents["files"])
        listed = [name for name in contents["files"] if name.startswith("rknn/images/")]
        assert len(listed) == (8 if target == "rv1126" else 0)  # all that there are to calibrate with


def test_a_layer_kept_in_float_through_the_command_line(run_dir, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    common = ["run", "--save-dir", copy, "-c", copy / "config.yml", "--until", "quantize"]
    before = json.loads((copy / "quantize/quantization.json").read_text())["operators"]
    weight = before[1]["weight"]
    name = weight.rsplit(".", 1)[0]
    sets = with_sets(["Quantize.method=ptq", f"Quantize.keep_float=[{name}]"])
    said = refusal(picoquant(*common, *with_sets(["Package.target=rv1126"]), *sets))
    assert "Quantize.keep_float: rv1126 takes INT8 only" in said and "Quantize.allow_float: true" in said
    sets += with_sets(["Quantize.max_drop=1e-9", "Package.target=arm_cpu"])
    done = picoquant(*common, *sets)
    assert done.returncode == 0, done.stderr
    described = json.loads((copy / "quantize/quantization.json").read_text())
    found = described["mixed_precision"]
    assert [row["layer"] for row in found["keep_float"]["layers"]] == [name]
    assert weight not in {operator["weight"] for operator in described["operators"]}
    assert described["full_check"]["whole"] and 0 <= found["max_drop"]["fp32_mAP"] <= 1
    said = refusal(picoquant(*common, *with_sets(["Quantize.keep_float=[conv_1]", "Package.target=arm_cpu"])))
    assert "no layer is called conv_1; nearest: conv2d_" in said

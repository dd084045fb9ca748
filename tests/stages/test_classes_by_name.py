"""Classes of models and data sets that stand in another order, or that differ: in every command that uses both."""

from __future__ import annotations

import json
import logging

import pytest
import yaml

from picoquant.commands.analyze import AnalyzeOptions, analyze
from picoquant.commands.compare_runtimes import evaluate_backends
from picoquant.config.recipe import Recipe
from picoquant.data.class_names import same_classes
from picoquant.errors import DataError
from picoquant.stages import datasets
from picoquant.stages.evaluate import evaluate_alone
from picoquant.stages.model import trained_classes
from picoquant.stages.plan import Plan, load_plan
from picoquant.stages.stage import Context
from picoquant.storage.run_folder import RunFolder
from tests.command_line import picoquant, refusal, with_sets
from tests.data.coco_sets import coco_content, write_set

OTHER = "none of them: use it on the data set it was made for"


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reordered(content):
    """The same categories in another order, with ids that fall in that order."""
    new = {entry["id"]: 50 - 7 * place for place, entry in enumerate(reversed(content["categories"]))}
    content["categories"].reverse()
    for entry in content["categories"]:
        entry["id"] = new[entry["id"]]
    for entry in content["annotations"]:
        entry["category_id"] = new[entry["category_id"]]


def renamed(content):
    for entry in content["categories"]:
        entry["name"] = f"thing {entry['id']}"


@pytest.fixture
def run_dir(run_dir, run_made):
    """The small run with a data set of its own, to change."""
    config = run_dir / "config.yml"
    config.write_text(config.read_text().replace(str(run_made), str(run_dir)))
    return run_dir


def scores(run_dir, **more):
    found = evaluate_backends(None, [], str(run_dir), ["paddle"], **more)
    return {row.name: (row.evaluation.metrics, row.evaluation.per_class) for row in found.rows}


def test_a_data_set_in_another_order_gives_the_same_map(run_dir, caplog):
    before = scores(run_dir)
    assert before["paddle_fp32"][0]["AP50"] > 0.5
    rewrite(run_dir / "val.json", reordered)
    with caplog.at_level(logging.WARNING, "picoquant"):
        assert scores(run_dir) == before
        sets = [f"Global.model_dir={run_dir / 'export'}"]
        alone = evaluate_alone(str(run_dir / "config.yml"), sets, "cpu", str(run_dir))
    assert alone["paddle_inference"] == before["paddle_fp32"][0]
    lines = [record.message for record in caplog.records if "matched by name" in record.message]
    assert (
        f"export has its classes in another order (red cell, white cell, platelet) than {run_dir}" in lines[0]
    )
    assert len(lines) == 3  # once for each model, and once more for `eval --model-dir`
    written = json.loads((run_dir / "backends/detections_paddle_fp32.json").read_text())
    assert {entry["category_id"] for entry in written} <= {50, 43, 36}


def test_some_classes_in_common(run_dir, caplog):
    before = scores(run_dir)["paddle_fp32"][1]
    rewrite(run_dir / "val.json", lambda content: content["categories"][0].update(name="another"))
    after = scores(run_dir)["paddle_fp32"][1]
    assert after == {"another": 0.0, **{name: before[name] for name in ("white cell", "platelet")}}
    assert "share 2 classes, matched by name; 1 only in the model, not counted (red cell)" in caplog.text


def test_other_classes_are_an_error_of_eval_and_analyze(run_dir):
    rewrite(run_dir / "val.json", renamed)
    with pytest.raises(DataError, match=f"export knows the classes red cell, .*thing 1, .*{OTHER}"):
        scores(run_dir)
    config, sets = str(run_dir / "config.yml"), [f"Global.model_dir={run_dir / 'export'}"]
    with pytest.raises(DataError, match=OTHER):
        evaluate_alone(config, sets, "cpu", str(run_dir))
    with pytest.raises(DataError, match=OTHER):
        analyze(config, ["Calibration.images=val"], str(run_dir), AnalyzeOptions(images=1))
    with pytest.raises(DataError, match=OTHER):
        evaluate_backends(None, [], str(run_dir), ["all"])


def test_other_classes_are_an_error_of_quantize_package_and_benchmark(run_dir):
    rewrite(run_dir / "val.json", renamed)
    train = [
        f"TrainDataset.{key}"
        for key in (f"dataset_dir={run_dir}", "image_dir=images", "anno_path=val.json", "box_format=xywh")
    ]
    sets = with_sets([*train, f"Global.model_dir={run_dir / 'export'}"])
    for command in (["quantize", *sets], ["package", "--target", "generic_onnx"], ["benchmark"]):
        assert OTHER in refusal(picoquant(*command, "--save-dir", run_dir)), command


@pytest.fixture
def two_files(tmp_path):
    """A recipe whose two files list the same categories in two orders."""
    train = write_set(tmp_path / "train", 4)
    content = coco_content([f"{number}.png" for number in range(4)])
    content["categories"] = [{"id": 1, "name": "three"}, {"id": 2, "name": "seven"}]
    for entry in content["annotations"]:
        entry["category_id"] = 2
    held_out = write_set(tmp_path / "val", 4, content)
    sets = [
        f"{section}.{key}={getattr(settings, key)}"
        for section, settings in (("TrainDataset", train), ("EvalDataset", held_out))
        for key in ("dataset_dir", "image_dir", "anno_path")
    ]
    return Context(load_plan("picodet_s_416_coco_npu", sets), RunFolder(tmp_path / "out"), "cpu")


@pytest.mark.parametrize("first", ["TrainDataset", "EvalDataset"])
def test_the_two_files_of_a_recipe_are_brought_together(two_files, caplog, first):
    datasets.load(two_files, first)
    train, held_out = (datasets.load(two_files, name) for name in ("TrainDataset", "EvalDataset"))
    same_classes(train, held_out)
    assert train.class_names == held_out.class_names == ("seven", "three")
    assert held_out.category_ids == (2, 1)
    assert [record.classes.tolist() for record in held_out.records] == [[0]] * 4
    assert {entry["category_id"] for entry in held_out.ground_truth()["annotations"]} == {2}
    said = "EvalDataset has its classes in another order (three, seven) than TrainDataset (seven, three)"
    assert said in caplog.text


def test_classes_that_only_one_of_the_two_files_has(two_files):
    path = datasets.settings_of(two_files, "EvalDataset").annotation_file
    rewrite(path, lambda content: content["categories"][0].update(name="two"))
    train, held_out = (datasets.load(two_files, name) for name in ("TrainDataset", "EvalDataset"))
    assert held_out.class_names == ("two", "seven")
    with pytest.raises(DataError, match="'three' is in one of them only; give both the same categories"):
        same_classes(train, held_out)


@pytest.mark.parametrize(
    ("record", "classes"),
    [
        ({"status": "done", "metrics": {"classes": ["b", "a"]}}, ("b", "a")),
        ({"status": "done", "metrics": {"mAP": 0.5}}, ("three", "seven")),  # numbered by id, as once it was
        ({"status": "failed"}, ("seven", "three")),
        (None, ("seven", "three")),
    ],
)
def test_weights_of_a_run_know_their_classes(two_files, tmp_path, record, classes):
    folder = tmp_path / "earlier" / "train"
    folder.mkdir(parents=True)
    (folder / "best.pdparams").touch()
    if record:
        (folder.parent / "run.json").write_text(json.dumps({"stages": {"train": record}}))
    document = {**two_files.plan.recipe.document, "Global": {"weights": str(folder / "best.pdparams")}}
    context = Context(Plan(Recipe(document, "")), None, "cpu")
    # The file lists 7, seven, before 3, three.
    assert trained_classes(context, datasets.load(context, "TrainDataset")) == classes


def case_settings(shared, name):
    return [
        f"EvalDataset.dataset_dir={shared / 'datasets/bccd'}",
        "EvalDataset.image_dir=JPEGImages",
        f"EvalDataset.anno_path={shared / 'cases' / name}.json",
        f"Global.weights={shared / 'weights/picodet_s_npu_bccd.pdparams'}",
        "Global.input_size=[320,320]",
        "worker_num=0",
    ]


def test_categories_in_another_order_than_their_ids(shared, tmp_path):
    sets = case_settings(shared, "category_order")
    found = evaluate_alone("picodet_s_416_coco_npu", sets, "cpu", str(tmp_path))
    assert found["paddle_dygraph"]["mAP"] == pytest.approx(0.3073, abs=1e-4)


def test_export_and_package_name_the_classes_as_the_file_orders_them(shared, tmp_path):
    sets = with_sets(case_settings(shared, "category_order"))
    done = picoquant("export", "-c", "picodet_s_416_coco_npu", "--save-dir", tmp_path, *sets)
    assert done.returncode == 0, done.stderr
    labels = yaml.safe_load((tmp_path / "export/infer_cfg.yml").read_text())["label_list"]
    assert labels == ["RBC", "WBC", "Platelets"]
    sets = [f"Global.model_dir={tmp_path / 'export'}", *case_settings(shared, "image_ids_as_text")[:3]]
    found = evaluate_backends("picodet_s_416_coco_npu", [*sets, "worker_num=0"], str(tmp_path), ["paddle"])
    assert found.rows[0].evaluation.metrics["mAP"] == pytest.approx(0.3073, abs=1e-3)
    written = json.loads((tmp_path / "backends/detections_paddle_fp32.json").read_text())
    assert written[0]["image_id"] == "img_BloodImage_00000"

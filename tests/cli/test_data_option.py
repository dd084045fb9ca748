"""`--data FOLDER`: whatever the format, the folder alone is enough; and `type:` in a configuration."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from picoquant.config.recipe import load_recipe
from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from picoquant.stages.datasets import identity
from picoquant.stages.plan import Plan, load_plan
from tests.command_line import SMALL, picoquant, refusal, with_sets
from tests.data.formats.converted import Source, write_yolo
from tests.data.formats.test_yolo import BOX, small

SETS = with_sets([text for text in SMALL if not text.startswith("Synthetic")] + ["pretrain_weights=null"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same images as COCO and YOLO, and a training on the YOLO ones."""
    root = tmp_path_factory.mktemp("formats")
    write_synthetic(root / "coco", SyntheticSet(train_images=8, val_images=4, image_size=96))
    for part, folder in (("train", "train"), ("val", "valid")):
        source = Source(root / f"coco/annotations/instances_{part}.json", root / "coco" / part)
        write_yolo(source, root / "yolo" / folder / "images", root / "yolo" / folder / "labels")
    names = json.dumps(source.names)
    (root / "yolo/data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnames: {names}\n")
    done = picoquant("train", "--data", "yolo", "--save-dir", "run", *SETS, cwd=root)
    return SimpleNamespace(root=root, names=source.names, done=done)


def test_a_run_on_a_folder_alone(folders):
    assert folders.done.returncode == 0, folders.done.stderr
    names = ", ".join(folders.names)
    for section, part in (("TrainDataset", "train"), ("EvalDataset", "val")):
        assert f"{section}: yolo is YOLO (data.yaml), part {part}, 5 classes: {names}" in folders.done.stderr
    run = json.loads((folders.root / "run/run.json").read_text())
    assert run["stages"]["train"]["metrics"]["classes"] == folders.names


def test_other_labels_are_another_data_set(folders):
    plan = load_plan(
        "picodet_s_qat_dis", [f"TrainDataset={{type: auto, dataset_dir: {folders.root / 'yolo'}}}"]
    )
    context = SimpleNamespace(plan=plan, loaded={})
    before = identity(context, "TrainDataset")
    label = next((folders.root / "yolo/train/labels").glob("*.txt"))
    text = label.read_text()
    label.write_text(f"{text}0 0.5 0.5 0.25 0.25\n")
    assert identity(context, "TrainDataset")["files"] != before["files"]
    label.write_text(text)
    assert identity(context, "TrainDataset") == before


@pytest.mark.parametrize("command", ["run", "quantize", "eval"])
def test_what_is_no_data_set_is_refused_in_one_line(tmp_path, command):
    (tmp_path / "nothing").mkdir()
    more = ["--config", "quickstart", "--weights", "none.pdparams"] if command == "eval" else []
    said = refusal(picoquant(command, "--data", "nothing", "--save-dir", "out", *more, *SETS, cwd=tmp_path))
    assert "nothing holds no data set that is known; looked for YOLO (data.yaml; " in said


def test_a_part_that_is_not_there_is_found_out_first(tmp_path):
    root = small(tmp_path / "cells", BOX)
    (root / "data.yaml").write_text("train: images\nnames: [a, b]\n")
    said = refusal(picoquant("train", "--data", "cells", "--save-dir", "out", *SETS, cwd=tmp_path))
    assert (
        "cells: YOLO (data.yaml) without a part val, only train; name images to train on, and others" in said
    )
    (root / "data.yaml").write_text("train: images\nval: valid/images\nnames: [a, b]\n")
    said = refusal(picoquant("train", "--data", "cells", "--save-dir", "out", *SETS, cwd=tmp_path))
    assert (
        "cells/data.yaml: val is 'valid/images', which is not there (looked for cells/valid/images)" in said
    )


def test_run_needs_a_recipe_or_data(tmp_path):
    assert "--config is needed" in refusal(picoquant("run", cwd=tmp_path)) and not list(tmp_path.iterdir())


YOLO = "{type: yolo, dataset_dir: cells}"


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        (f"TrainDataset: {YOLO}", [], ("yolo", "cells", "", None)),
        (
            "TrainDataset: {name: YOLODataSet, dataset_dir: cells}",
            [],
            ("yolo", "cells", "train2017", "annotations"),
        ),
        ("TrainDataset: !YOLODataSet {dataset_dir: cells, image_dir: a}", [], ("yolo", "cells", "a", None)),
        ("TrainDataset: !LabelMeDataSet {dataset_dir: cells}", [], ("labelme", "cells", "", None)),
        ("TrainDataset: {type: labelme, dataset_dir: cells}", [], ("labelme", "cells", "", None)),
        (
            "TrainDataset: {name: COCODetDataset, dataset_dir: cells, image_dir: images, "
            "anno_path: annotations/x.json}",
            [],
            ("coco", "cells", "images", "annotations"),
        ),
        ("", ["TrainDataset.dataset_dir=cells", "TrainDataset.type=yolo"], ("yolo", "cells", "", None)),
        ("", [f"TrainDataset={YOLO}"], ("yolo", "cells", "", None)),
        ("", ["TrainDataset.dataset_dir=cells"], ("coco", "cells", "train2017", "annotations")),
    ],
)
def test_types_in_a_configuration(tmp_path, text, overrides, expected):
    path = tmp_path / "cells.yml"
    path.write_text(f"_BASE_: picodet_s_416_coco_npu.yml\n{text}\n")
    if "YOLODataSet, " in text:  # a name does not replace what a base says, as in PaddleDetection
        expected = ("coco", *expected[1:])
    settings = Plan(load_recipe(str(path), overrides)).train_dataset
    found = (settings.format, settings.dataset_dir, settings.image_dir, settings.anno_path)
    assert found[:3] == expected[:3]
    assert found[3] is None if expected[3] is None else found[3].startswith(expected[3])


def test_auto_in_a_configuration_keeps_what_stands_beside_it(tmp_path):
    root = small(tmp_path / "cells", BOX, BOX)
    path = tmp_path / "cells.yml"
    path.write_text(
        "_BASE_: picodet_s_416_coco_npu.yml\n"
        f"TrainDataset: {{type: auto, dataset_dir: {root}, allow_empty: true, sample_num: 1, classes: [x, y]}}\n"
    )
    settings = Plan(load_recipe(str(path))).train_dataset
    assert (settings.format, settings.split, settings.section) == ("yolo", "train", "TrainDataset")
    assert (settings.allow_empty, settings.sample_num, settings.classes) == (True, 1, ("x", "y"))


def test_a_folder_is_recognised_once(tmp_path, monkeypatch):
    from picoquant.data.formats import folder

    small(tmp_path)
    seen = []
    monkeypatch.setattr(
        folder, "recognise", lambda place, own=folder.recognise: seen.append(place) or own(place)
    )
    plan = load_plan(
        "quickstart", [f"{part}Dataset={{type: auto, dataset_dir: {tmp_path}}}" for part in ("Train", "Eval")]
    )
    assert (plan.train_dataset.format, plan.eval_dataset.format) == ("yolo", "yolo")
    assert len(seen) == 1

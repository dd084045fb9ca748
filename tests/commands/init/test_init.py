"""`picoquant init`: the recipe it writes is read as a run reads it."""

from __future__ import annotations

import json
import os
import shlex
import signal
from types import SimpleNamespace

import pytest

from picoquant.cli import console
from picoquant.cli.main import cli
from picoquant.commands.init.choices import Choice, choose_schedule
from picoquant.commands.init.machine import Machine
from picoquant.commands.init.text import Facts, recipe_text
from picoquant.data.formats.load import load_dataset
from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from picoquant.data.settings import DatasetSettings
from picoquant.stages.plan import load_plan
from picoquant.targets.profile_files import known_targets
from tests.data.formats import converted
from tests.data.formats.converted import Source

NAMES = ["disc", "square", "triangle", "ring", "cross"]


@pytest.fixture
def picoquant(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty folder: exit code, what it printed, the last line of what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            code = console.run_to_exit(lambda: cli([*map(str, words)], standalone_mode=False), False)
        finally:
            signal.signal(signal.SIGTERM, before)
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """The same images in every format that `--data` knows, in a folder of its name."""
    root = tmp_path_factory.mktemp("formats")
    write_synthetic(root / "coco", SyntheticSet(train_images=8, val_images=4, image_size=96))
    for part, folder in (("train", "train"), ("val", "valid")):
        source = Source(root / f"coco/annotations/instances_{part}.json", root / "coco" / part)
        converted.write_yolo(source, root / "yolo" / folder / "images", root / "yolo" / folder / "labels")
        converted.write_voc(source, root / "voc" / folder, root / "voc" / folder)
        converted.write_labelme(source, root / "labelme" / folder)
    names = json.dumps(source.names)
    (root / "yolo/data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnames: {names}\n")
    return SimpleNamespace(root=root, names=source.names)


def next_command(done):
    """The last line, which is indented."""
    assert done.out.splitlines()[-1].startswith("    picoquant run ")
    return shlex.split(done.out.splitlines()[-1])


@pytest.mark.parametrize("kind", ["coco", "yolo", "yolo/data.yaml", "voc", "labelme"])
def test_every_format(formats, kind, picoquant, tmp_path):
    done = picoquant("init", "--data", formats.root / kind, "--target", "imx8mp")
    assert done.code == 0, done.err
    name = kind.partition("/")[0]
    assert next_command(done) == (f"picoquant run --config {name}.yaml --save-dir output/{name}".split())
    plan = load_plan(f"{name}.yaml")
    train, held_out = load_dataset(plan.train_dataset, True), load_dataset(plan.eval_dataset, False)
    assert (len(train), len(held_out)) == (8, 4)
    assert sorted(train.class_names) == sorted(formats.names) and train.class_names == held_out.class_names
    assert plan.num_classes == plan.detector.num_classes == 5 and plan.input_size == (320, 320)
    assert [target.name for target in plan.targets] == ["imx8mp"]
    schedule = plan.training
    assert (schedule.epochs, plan.train_reader.batch_size, schedule.learning_rate.base_lr) == (300, 4, 0.03)
    assert plan.pretrain_weights is None and plan.quantization.train.train_iter == 60
    text = (tmp_path / f"{name}.yaml").read_text()
    (trial,) = (shlex.split(line[1:]) for line in text.splitlines() if "_trial " in line)
    assert trial[:6] == f"picoquant run --config {name}.yaml --save-dir output/{name}_trial".split()
    tried = load_plan(f"{name}.yaml", trial[7::2])
    tried.check()
    assert (tried.training.epochs, tried.calibration.count, tried.quantization.train.train_iter) == (1, 16, 4)
    assert f"#     {done.out.splitlines()[-1].strip()}" in text.splitlines()
    assert "two of the network's strides" in text and "an estimate" in text


def test_no_file_is_replaced(formats, picoquant, tmp_path):
    (tmp_path / "coco.yaml").write_text("mine")
    done = picoquant("init", "--data", formats.root / "coco", "--target", "rv1126")
    assert done.code == 2 and "coco.yaml is there already and stays as it is" in done.err
    assert (tmp_path / "coco.yaml").read_text() == "mine"
    (tmp_path / "link.yaml").symlink_to(tmp_path / "nowhere")
    done = picoquant("init", "--data", formats.root / "coco", "--target", "rv1126", "--output", "link.yaml")
    assert done.code == 2 and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["cells.txt", "cells", "gone/cells.yaml"])
def test_a_name_that_is_none_is_refused(formats, name, picoquant, tmp_path):
    done = picoquant("init", "--data", formats.root / "coco", "--target", "rv1126", "--output", name)
    assert done.code == 2 and f"--output {name}: " in done.err and not list(tmp_path.iterdir())


def test_every_target_and_all(formats, picoquant):
    for name in (*known_targets(), "all"):  # and a recipe called all.yaml beside it
        done = picoquant(
            "init", "--data", formats.root / "coco", "--target", name, "--output", f"{name}.yaml"
        )
        assert done.code == 0, done.err
        found = [target.name for target in load_plan(f"{name}.yaml").targets]
        assert found == (known_targets() if name == "all" else [name])
    two = ["--target", "rv1126", "--target", "a311d", "--output", "two.yaml"]
    assert picoquant("init", "--data", formats.root / "coco", *two).code == 0
    assert [target.name for target in load_plan("two.yaml").targets] == ["rv1126", "a311d"]


def test_an_unknown_target_and_none(formats, picoquant, tmp_path):
    done = picoquant("init", "--data", formats.root / "coco", "--target", "rv1127")
    assert done.code == 2 and "unknown target rv1127" in done.err
    done = picoquant("init", "--data", formats.root / "coco")
    assert done.code == 2 and "--target is needed: a311d, a311d_android, arm_cpu" in done.err
    assert not list(tmp_path.iterdir())


def test_what_stops_a_training_is_said_as_the_check_says_it(formats, picoquant, tmp_path):
    root = tmp_path / "set"
    write_synthetic(root, SyntheticSet(train_images=8, val_images=4, image_size=96))
    for image in (root / "val").iterdir():
        image.unlink()
    done = picoquant("init", "--data", root, "--target", "rv1126")
    checked = picoquant("data", "check", root)
    assert done.code == checked.code == 2
    assert done.err.splitlines()[-1] == checked.err.splitlines()[-1]
    section = "stops a training:\n"
    assert done.out.partition(section)[2] == checked.out.partition(section)[2] != ""
    assert not (tmp_path / "set.yaml").exists()


def test_a_folder_without_a_data_set(picoquant, tmp_path):
    (tmp_path / "empty").mkdir()
    done = picoquant("init", "--data", "empty", "--target", "rv1126")
    assert done.code == 2 and "empty holds no data set that is known" in done.err


def test_one_set_of_images_is_split_when_asked(formats, picoquant, tmp_path):
    (tmp_path / "my photos").mkdir()
    source = Source(formats.root / "coco/annotations/instances_train.json", formats.root / "coco/train")
    converted.write_labelme(source, tmp_path / "my photos")
    done = picoquant("init", "--data", "my photos", "--target", "rv1126")
    assert done.code == 2 and "my photos holds one set of images (train)" in done.err
    assert "--val 0.2 puts a fifth of them aside" in done.err and not (tmp_path / "my_photos.yaml").exists()
    done = picoquant("init", "--data", "my photos", "--target", "rv1126", "--val", "0.25")
    assert done.code == 0, done.err
    plan = load_plan("my_photos.yaml")
    train, held_out = load_dataset(plan.train_dataset, True), load_dataset(plan.eval_dataset, False)
    assert len(train) + len(held_out) == 8 and len(train) > len(held_out) > 0
    assert {record.path for record in train.records}.isdisjoint(record.path for record in held_out.records)
    done = picoquant(
        "init", "--data", "my photos", "--target", "rv1126", "--val", "0.5", "--output", "my_photos.yml"
    )
    assert done.code == 2 and "my_photos_parts/instances_train.json is there already" in done.err
    done = picoquant("init", "--data", formats.root / "coco", "--target", "rv1126", "--val", "0.2")
    assert done.code == 2 and "holds train and val already; leave it out" in done.err


def test_a_folder_with_spaces_is_quoted(formats, picoquant, tmp_path):
    os.symlink(formats.root / "coco", tmp_path / "red cells")
    done = picoquant("init", "--data", "red cells", "--target", "rv1126", "--output", "red cells.yaml")
    assert done.code == 0, done.err
    assert next_command(done)[3:] == ["red cells.yaml", "--save-dir", "output/red cells"]
    assert load_plan("red cells.yaml").train_dataset.dataset_dir == "red cells"


def test_boxes_too_small_in_the_usual_input_raise_it(picoquant, tmp_path):
    """5 of 320 image pixels are 7 in the default input of 416, which the check refuses, and 10 in one of 640."""
    root = tmp_path / "dots"
    write_synthetic(root, SyntheticSet(train_images=8, val_images=4, image_size=320))
    for part in ("train", "val"):
        path = root / f"annotations/instances_{part}.json"
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            entry["bbox"][2:] = [5, 5]
        path.write_text(json.dumps(content))
    assert picoquant("data", "check", root).code == 2
    done = picoquant("init", "--data", root, "--target", "rv1126")
    assert done.code == 0, done.err
    plan = load_plan("dots.yaml")
    assert plan.input_size == (640, 640)
    assert "cut the images into tiles" in (tmp_path / "dots.yaml").read_text().replace("\n# ", " ")


def test_names_from_files_stay_in_their_comments_and_values(tmp_path):
    """A line break, a YAML break, an undecodable byte of a path, a letter outside of 16 bits."""
    names = ("a\nepoch: 7", "b\u2028c", "\U0001f9ab")
    settings = DatasetSettings(
        "voc", "cells\udcff\U0001f9ab", anno_path="x\n.txt", classes=("\U0001f9ab", "b\x85c")
    )
    schedule = choose_schedule(205, 320, Machine(2, None), 5e8)
    sets = {"TrainDataset": (settings, "1 image"), "EvalDataset": (settings, "1\nepoch: 8")}
    facts = Facts("a\nepoch: 9", "b", "c", "2 CPUs", sets, names, ["rv1126"], Choice(320, "why"), schedule)
    (tmp_path / "cells.yaml").write_text(recipe_text(facts), encoding="utf-8")
    plan = load_plan(str(tmp_path / "cells.yaml"))
    assert plan.training.epochs == 60 and plan.num_classes == 3
    assert plan.train_dataset.dataset_dir == settings.dataset_dir
    assert (plan.train_dataset.anno_path, plan.train_dataset.classes) == (
        settings.anno_path,
        settings.classes,
    )

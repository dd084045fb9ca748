"""Images and models that quantisation cannot take, or only just, through the whole command line."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from picoquant.paddle_program.editing.program_model import ProgramModel
from tests.command_line import SMALL, data_sets, picoquant, refusal, with_sets

SETTINGS = [text for text in SMALL if not text.startswith("Synthetic")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run up to the export, on 8 training images of 96 px; the network's input has 64."""
    folder = tmp_path_factory.mktemp("run")
    done = picoquant("run", "-c", "quickstart", "--save-dir", folder, "--until", "export", *with_sets(SMALL))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def data(exported, tmp_path):
    """A data set of one's own, to break."""
    return shutil.copytree(exported / "dataset", tmp_path / "set")


def quantised(exported, data, out, *sets, method="ptq", model=None):
    model = f"Global.model_dir={model or exported / 'export'}"
    own = [f"Quantize.method={method}", model, "Global.include_nms=false", "Global.Evaluation=false"]
    return picoquant(
        "run", "-c", "picodet_s_qat_dis", "--save-dir", out, "--until", "quantize",
        *with_sets([*SETTINGS, *data_sets(data), *own, *sets]),
    )  # fmt: skip


def test_an_empty_folder(exported, data, tmp_path):
    shutil.rmtree(data / "train")
    (data / "train").mkdir()
    line = refusal(quantised(exported, data, tmp_path / "out"))
    assert "TrainDataset" in line and "8" in line and str(data / "train") in line


def test_fewer_images_than_asked_for(exported, data, tmp_path):
    line = refusal(quantised(exported, data, tmp_path / "out", "Calibration.count=50"))
    assert "Calibration.count is 50, but TrainDataset has 8 usable images" in line
    line = refusal(quantised(exported, data, tmp_path / "out", "Calibration=balanced_64"))
    assert "Calibration.count is 64, but TrainDataset has 8 usable images" in line


def test_images_of_another_size_are_resized_and_one_image_is_warned_of(exported, data, tmp_path):
    path = data / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    first = sorted(content["images"], key=lambda image: image["id"])[0]
    picture = cv2.imread(str(data / "train" / first["file_name"]))
    cv2.imwrite(str(data / "train" / first["file_name"]), cv2.resize(picture, (310, 150)))
    first.update(width=310, height=150)
    path.write_text(json.dumps(content))
    done = quantised(exported, data, tmp_path / "out", "Calibration.count=1")
    assert done.returncode == 0, done.stderr
    assert "calibrated on 1 image only" in done.stderr
    metrics = json.loads((tmp_path / "out/run.json").read_text())["stages"]["quantize"]["metrics"]
    assert metrics["calibration_images"] == 1 and metrics["fully_quantized"]


@pytest.fixture(scope="module")
def listed(exported, tmp_path_factory):
    """A data set, a folder with `mine.yaml` and its list of two images, and what quantising with it left in `out`."""
    folder = tmp_path_factory.mktemp("listed")
    data = shutil.copytree(exported / "dataset", folder / "set")
    names = sorted(path.name for path in (data / "train").iterdir())
    (folder / "mine.txt").write_text(f"{names[2]}\n{names[5]}\n")
    (folder / "mine.yaml").write_text("images: train\nfiles: mine.txt\n")  # beside it
    done = quantised(exported, data, folder / "out", f"Calibration={folder / 'mine.yaml'}")
    assert done.returncode == 0, done.stderr
    return data, folder


def test_a_list_of_images_by_name(exported, listed):
    data, folder = listed
    metrics = json.loads((folder / "out/run.json").read_text())["stages"]["quantize"]["metrics"]
    assert metrics["calibration_images"] == 2
    # Another list is another input.
    (folder / "mine.txt").write_text("nobody.png\n")
    line = refusal(quantised(exported, data, folder / "out", f"Calibration={folder / 'mine.yaml'}"))
    assert "mine.txt, line 1: nobody.png is no image of TrainDataset" in line


def test_a_model_that_is_quantised_already(exported, listed, tmp_path):
    data, folder = listed
    line = refusal(quantised(exported, data, tmp_path / "again", model=folder / "out/quantize"))
    assert "quantised already" in line and "FP32" in line


def edited(exported, folder, edit):
    """The exported model with a change: `edit(model)`."""
    path = shutil.copytree(exported / "export", folder)
    model = ProgramModel.load(path)
    found = edit(model)
    model.save(path)
    return path, found


def test_a_convolution_that_cannot_be_quantised_is_named(exported, data, tmp_path):
    def compute_a_weight(model):
        conv = [op for op in model.operators if op.type == "conv2d"][3]
        weight = conv.input("Filter")[0]
        result = model.add_tensor("made_of_it", weight)
        model.insert(model.index(conv), "scale", {"X": [weight]}, {"Out": [result]}, {"scale": 2.0})
        conv.rename_input(weight, result)
        return conv.output("Output")[0]

    model, name = edited(exported, tmp_path / "model", compute_a_weight)
    line = refusal(quantised(exported, data, tmp_path / "out", model=model))
    assert f"conv2d {name} cannot be quantised: its weight made_of_it is computed" in line


def test_an_activation_that_is_not_finite(exported, data, tmp_path):
    """White is 1 for the network, black 0: only the white image makes the stem overflow."""

    def huge_stem(model):
        weight = next(op for op in model.operators if op.type == "conv2d").input("Filter")[0]
        model.write(weight, np.full_like(model.values[weight], 3e38))

    model, _ = edited(exported, tmp_path / "model", huge_stem)
    for number, path in enumerate(sorted((data / "train").iterdir())):
        cv2.imwrite(str(path), np.full((96, 96, 3), 255 if number == 5 else 0, np.uint8))
    white = sorted(path.name for path in (data / "train").iterdir())[5]
    own = ["Calibration.shuffle=false", "Calibration.batch_size=4"]
    line = refusal(quantised(exported, data, tmp_path / "out", *own, model=model))
    assert "activation " in line and "is not finite" in line and " of elementwise_add" in line
    assert f"calibration image 6, {white}, (in the order of Calibration)" in line


def test_a_distillation_node_that_does_not_exist(exported, data, tmp_path):
    own = ["Distillation.node=[batch_norm_1.tmp_99]", "Quantize.training=configured"]
    line = refusal(quantised(exported, data, tmp_path / "out", *own, method="qat"))
    assert "batch_norm_1.tmp_99" in line and "batch_norm_1" in line.replace("batch_norm_1.tmp_99", "")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("Quantize.rounding=adaround", "'adaround' is not supported; known: nearest, reconstructed"),
        ("Quantize.ranges=percentil", "'percentil' is not supported (did you mean percentile?)"),
        ("Quantize.max_dropp=0.01", "unknown key max_dropp (did you mean max_drop?)"),
        ("Quantize.keep_float=[3]", "Quantize.keep_float: expected names of layers, found 3"),
        ("Quantize.learned_ranges=lsq", "Quantize.training: levels keeps the calibrated ranges"),
        ("Quantize.freeze_last=1.5", "Quantize.freeze_last: expected a number between 0 and 1, found 1.5"),
        ("Distillation.loss=l1", "Distillation.loss: 'l1' is not supported (did you mean l2?)"),
    ],
)
def test_settings_that_cannot_be_honoured_stop_the_run_before_training(tmp_path, setting, message):
    done = picoquant("run", "-c", "quickstart", "--save-dir", tmp_path, *with_sets([*SMALL, setting]))
    assert message in refusal(done)
    assert not (tmp_path / "train").exists()


def test_max_drop_without_evaluation_stops_the_run_before_training(tmp_path):
    sets = [*SMALL, "Quantize.max_drop=0.01", "Global.Evaluation=false", "Package.target=arm_cpu"]
    done = picoquant("run", "-c", "quickstart", "--save-dir", tmp_path, *with_sets(sets))
    assert "Quantize.max_drop needs the mAP" in refusal(done) and not (tmp_path / "train").exists()

"""An input that is not square goes through every form: trained weights, images of 384 x 192 made 320 x 160.

Wrong width or height anywhere (anchor points, decoding, resize, a form's input) would leave next to no mAP. Nothing is
stretched: a network that was trained on round things finds oval ones badly.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from tests.command_line import data_sets, picoquant, with_sets

SIZE = [320, 160]  # the levels have 40 x 20, 20 x 10, 10 x 5 and 5 x 3 cells
SQUARE = 192  # side of the generated images, two of which are put one upon the other
TARGETS = ("rv1126", "imx8mp", "openvino", "generic_onnx")


def stack(folder: Path, part: str) -> None:
    """Make of each two images of a generated data set one, twice as high as wide."""
    path = folder / f"annotations/instances_{part}.json"
    content = json.loads(path.read_text())
    pairs = list(zip(content["images"][::2], content["images"][1::2]))
    for upper, lower in pairs:
        files = [folder / part / image["file_name"] for image in (upper, lower)]
        cv2.imwrite(str(files[0]), np.concatenate([cv2.imread(str(file)) for file in files]))
        files[1].unlink()
        upper["height"] = 2 * SQUARE
        for one in content["annotations"]:
            if one["image_id"] == lower["id"]:
                one["image_id"], one["bbox"][1] = upper["id"], one["bbox"][1] + SQUARE
                one.pop("segmentation", None)
    content["images"] = [upper for upper, _ in pairs]
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def run_dir(opt, root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("portrait")
    write_synthetic(folder / "images", SyntheticSet(train_images=16, val_images=40, image_size=SQUARE))
    for part in ("train", "val"):
        stack(folder / "images", part)
    sets = [
        f"Global.input_size={SIZE}", f"Global.weights={root}/weights/quickstart.safetensors", "Quantize.method=ptq",
        "Synthetic=", "EvalReader.batch_size=4", "worker_num=0", f"Package.target=[{', '.join(TARGETS)}]",
        *data_sets(folder / "images"),
    ]  # fmt: skip
    done = picoquant(
        "run",
        "-c",
        "quickstart",
        "--save-dir",
        folder / "run",
        "--opt",
        opt.path,
        *with_sets(sets),
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.slow
def test_every_form_finds_what_the_network_finds(run_dir):
    names = ["dygraph", "paddle", "onnx", "openvino", "ncnn", "mnn"]
    arguments = [part for name in names for part in ("--backend", name)]
    done = picoquant("eval", "--save-dir", run_dir, "--target", "rv1126", "--json", *arguments, timeout=1800)
    assert done.returncode == 0, done.stderr
    found = {name: row["mAP"] for name, row in json.loads(done.stdout)["backends"].items()}
    truth = found["dygraph_fp32"]
    assert truth > 0.6 and "simulation_rv1126_int8" in found
    assert len(found) == 12 and {name for name, mAP in found.items() if abs(mAP - truth) > 0.02} == set()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_packages_hold(target, run_dir):
    package = run_dir / "package" / target
    done = picoquant("verify", package)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = (
        json.loads((package / "settings.json").read_text()) if (package / "settings.json").is_file() else {}
    )
    assert settings.get("size", SIZE) == SIZE


@pytest.mark.slow
def test_one_piece_on_the_npu(run_dir):
    done = picoquant(
        "check", "--model", run_dir / "quantize", "--target", "rv1126", "--save-dir", run_dir, "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["npu_pieces"] == 1 and found["rules_broken"] == []


@pytest.mark.slow
def test_parts_of_an_image_give_boxes_inside_of_it(run_dir, tmp_path):
    """Parts of 320 x 160 pixels fill the input as they are; objects lie where the whole image has them."""
    image = sorted((run_dir.parent / "images/val").iterdir())[0]
    boxes = {}
    for name, options in (("whole", ()), ("parts", ("--slice", "320,160", "--overlap", "0.5"))):
        done = picoquant(
            "predict",
            image,
            "--save-dir",
            run_dir,
            "--out",
            tmp_path / name,
            "--no-images",
            "--json",
            *options,
        )
        assert done.returncode == 0, done.stderr
        boxes[name] = json.loads(done.stdout.splitlines()[0])["detections"]
    for found in boxes["parts"]:
        x1, y1, x2, y2 = found["box"]
        assert 0 <= x1 < x2 <= SQUARE and 0 <= y1 < y2 <= 2 * SQUARE
    assert boxes["whole"] and all(
        any(
            other["class"] == one["class"] and _iou(one["box"], other["box"]) > 0.5
            for other in boxes["parts"]
        )
        for one in boxes["whole"]
        if one["score"] > 0.7
    )


def _iou(one, other) -> float:
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    common = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / (sum(areas) - common)

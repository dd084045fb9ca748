"""The generated data set: reproducible, whole, well formed, and careful with what is there."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from picoquant.data.formats import synthetic
from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.shapes import CLASS_NAMES, draw_image
from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from picoquant.errors import ConfigError, DataError

SMALL = SyntheticSet(seed=5, train_images=12, val_images=6, image_size=96)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_settings_give_the_same_bytes(tmp_path):
    for name in "ab":
        write_synthetic(tmp_path / name, SMALL)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert len(digest(tmp_path / "a")) == 12 + 6 + 3
    write_synthetic(tmp_path / "c", SyntheticSet(seed=6, train_images=12, val_images=6, image_size=96))
    assert digest(tmp_path / "a")["train/000000.jpg"] != digest(tmp_path / "c")["train/000000.jpg"]


def test_it_loads_and_has_what_it_promises(tmp_path):
    wanted = SyntheticSet(train_images=80, val_images=3, image_size=160)
    train, val = write_synthetic(tmp_path / "set", wanted)
    dataset = load_coco(train, training=False)
    assert dataset.class_names == CLASS_NAMES
    assert len(dataset) == 80
    assert len(load_coco(val, training=False)) == 3
    assert val.section == "EvalDataset"
    counts = [len(record.boxes) for record in dataset.records]
    assert 2 <= np.mean(counts) <= 4
    assert 0 in counts
    boxes = np.concatenate([record.boxes for record in dataset.records])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.max(axis=1).min() >= 20
    assert len(set(np.concatenate([record.classes for record in dataset.records]))) == 5
    assert (dataset.repairs.clipped_boxes, dataset.repairs.dropped_boxes) == (0, 0)
    image = cv2.imread(dataset.records[0].path)
    assert image.shape == (160, 160, 3)


def test_boxes_lie_tight_around_what_is_seen():
    rng = np.random.default_rng(1)
    image, drawn = draw_image(rng, 128, objects=1, smallest=0.4, largest=0.5)
    assert image.dtype == np.uint8
    (shape,) = drawn
    x1, y1, x2, y2 = shape.box
    # Shapes are saturated and backgrounds dull; count saturated pixels in and around the box.
    spread = image.max(axis=2).astype(int) - image.min(axis=2)
    inside = np.zeros((128, 128), bool)
    inside[y1:y2, x1:x2] = True
    assert (spread[inside] > 60).sum() > 0.8 * shape.area
    assert 0.3 * (x2 - x1) * (y2 - y1) < shape.area <= (x2 - x1) * (y2 - y1)


def test_it_is_used_again_until_settings_or_images_change(tmp_path, caplog):
    folder = tmp_path / "set"
    caplog.set_level(logging.INFO, "picoquant")
    write_synthetic(folder, SMALL)
    before = (folder / "train" / "000000.jpg").stat().st_mtime_ns
    write_synthetic(folder, SMALL)
    assert "is there already" in caplog.text
    assert (folder / "train" / "000000.jpg").stat().st_mtime_ns == before
    (folder / "val" / "000001.jpg").unlink()
    write_synthetic(folder, SMALL)
    assert (folder / "val" / "000001.jpg").is_file()
    write_synthetic(folder, SyntheticSet(seed=7, train_images=2, val_images=1, image_size=64))
    assert len(list((folder / "train").iterdir())) == 2


def test_killed_half_way_it_leaves_nothing(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "replace_folder", stop)
        with pytest.raises(KeyboardInterrupt):
            write_synthetic(tmp_path / "set", SMALL)
    assert not list(tmp_path.iterdir())
    (tmp_path / ".set.new").mkdir()  # what a kill -9 leaves behind
    write_synthetic(tmp_path / "set", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_other_content_is_not_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="is no generated data set; choose another folder"):
        write_synthetic(tmp_path, SMALL)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize("change", [{"train_images": 0}, {"smallest": 0.6}, {"empty": 2}, {"seed": -1}])
def test_settings_are_checked(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        SyntheticSet(**change)

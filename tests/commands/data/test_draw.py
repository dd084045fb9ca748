"""`picoquant data draw`: a sheet of images with their boxes."""

from __future__ import annotations

import json

import cv2
import numpy as np

from picoquant.prediction.draw import colour


def sheet_of(picoquant, source, out, *more):
    done = picoquant("draw", source, "--out", out, "--json", *more)
    assert done.code == 0, done.err
    return cv2.imread(str(out))[:, :, ::-1], json.loads(done.out)["images"]


def test_size_places_and_colours(broken, picoquant, tmp_path):
    # 60x40 images at a side of 120: 120x80. Five: three columns, two rows; 8 pixels between.
    sheet, cells = sheet_of(picoquant, broken(), tmp_path / "a.png", "--count", 5, "--side", 120)
    assert sheet.shape == (2 * 80 + 3 * 8, 3 * 120 + 4 * 8, 3)
    assert [(cell["row"], cell["column"]) for cell in cells] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert (sheet[:8] == 255).all() and (
        sheet[96:, 264:] == 255
    ).all()  # the gap, and the place without an image
    for cell in cells:
        top, left = 8 + (cell["row"] - 1) * 88, 8 + (cell["column"] - 1) * 128
        # The box [10, 5, 30, 20] of class 0 ends at (60, 40) there; its right side is drawn in the class's colour.
        side = sheet[top + 30 : top + 38, left + 60]
        assert (side == colour(0)).all()
        assert not (sheet[top + 45 : top + 75, left + 60 : left + 62] == colour(0)).all(axis=-1).any()


def test_a_seed_is_a_choice(broken, picoquant, tmp_path):
    root = broken(count=30)
    first, cells = sheet_of(picoquant, root, tmp_path / "a.png", "--count", 4, "--side", 64)
    again, _ = sheet_of(picoquant, root, tmp_path / "b.png", "--count", 4, "--side", 64)
    _, others = sheet_of(picoquant, root, tmp_path / "c.png", "--count", 4, "--side", 64, "--seed", 1)
    assert np.array_equal(first, again)
    assert [cell["file"] for cell in others] != [cell["file"] for cell in cells]


def test_val_is_drawn_where_asked_for(broken, picoquant, tmp_path):
    root = broken()
    _, cells = sheet_of(picoquant, root, tmp_path / "a.png", "--val-images")
    assert len(cells) == 6 and all("/valid/" in cell["file"] for cell in cells)
    done = picoquant(
        "draw", root / "train/_annotations.coco.json", "--out", tmp_path / "b.png", "--val-images"
    )
    assert done.code == 2 and "there is no EvalDataset to draw" in done.err


def test_names_in_any_script_do_not_stop_it(broken, picoquant, tmp_path):
    def edit(content):
        content["categories"][0]["name"] = "赤血球"
        content["categories"][1]["name"] = "خلية"

    sheet, _ = sheet_of(picoquant, broken(edit), tmp_path / "a.png")
    assert (sheet == colour(0)).all(axis=-1).sum() > 100


def test_images_that_cannot_be_read_are_left_out_and_said(broken, picoquant, tmp_path):
    root = broken()
    (root / "train/1.png").write_bytes(b"")
    (root / "train/2.png").unlink()
    done = picoquant("draw", root, "--out", tmp_path / "a.png")
    assert done.code == 0
    assert len(done.out.splitlines()) == 4 + 1
    assert "train/1.png is empty" in done.err and "1 of 6 images of TrainDataset are missing" in done.err


def test_nothing_to_draw_and_a_file_that_is_there_are_refused(broken, picoquant, tmp_path):
    root = broken(val=lambda content: content.update(annotations=[]))
    (tmp_path / "a.png").write_text("mine")
    done = picoquant("draw", root, "--out", tmp_path / "a.png")
    assert done.code == 2 and "a.png is there already" in done.err
    assert (tmp_path / "a.png").read_text() == "mine"
    for number in range(6):
        (root / f"train/{number}.png").write_bytes(b"")
    done = picoquant("draw", root, "--out", tmp_path / "b.png")
    assert done.code == 2 and "no image of" in done.err and "can be read" in done.err
    assert not (tmp_path / "b.png").exists()

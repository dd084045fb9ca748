"""What is drawn into an image: boxes, class names of any script, scores."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from picoquant.data.images import read_image
from picoquant.postprocess import Detections
from picoquant.prediction import fonts
from picoquant.prediction.draw import Painter, colour
from picoquant.prediction.fonts import Run, base_font, split_runs, visible_text
from tests.command_line import picoquant

UNASSIGNED = chr(0x10FFFD)  # private use: no font of a system has it
EM = 1000


def make_font(path: Path, letters: str) -> str:
    """A font in which each of the letters is a filled square of the height of the line, one em wide."""
    names = {ord(letter): f"glyph{index}" for index, letter in enumerate(letters)}
    pen = TTGlyphPen(None)
    for place in ((0, -200), (0, 800), (EM, 800), (EM, -200)):
        (pen.moveTo if place == (0, -200) else pen.lineTo)(place)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(EM)
    order = [".notdef", *names.values()]
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    builder.setupGlyf({name: square if name != ".notdef" else TTGlyphPen(None).glyph() for name in order})
    builder.setupHorizontalMetrics(dict.fromkeys(order, (EM, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.save(path)
    return str(path)


def found(label: int, box: list[float]) -> Detections:
    return Detections(np.array([label]), np.array([0.9], np.float32), np.array([box], np.float32))


def drawn(labels, label=0, more=(), size=(100, 300)):
    image = np.zeros((*size, 3), np.uint8)
    return Painter(labels, lambda: list(more)).draw(image, found(label, [50, 40, 150, 90]))


def test_boxes_are_drawn_where_they_are():
    image = np.zeros((100, 200, 3), np.uint8)
    painted = Painter(("a", "b")).draw(image, found(1, [50, 40, 150, 90]))
    assert (image == 0).all()
    for x, y in ((50, 70), (150, 70), (100, 90)):
        assert tuple(painted[y, x]) == colour(1)
    assert (painted[50:85, 60:140] == 0).all() and (painted[:, 160:] == 0).all()


def test_the_surest_is_on_top():
    both = Detections(
        np.array([0, 1]), np.array([0.9, 0.8], np.float32), np.array([[20, 40, 90, 90]] * 2, np.float32)
    )
    painted = Painter(("a", "b")).draw(np.zeros((100, 100, 3), np.uint8), both)
    assert tuple(painted[70, 20]) == colour(0)


@pytest.mark.parametrize("box", [[250, 1, 299, 30], [-20, -20, 2, 2], [295, 95, 400, 400]])
def test_a_label_stays_inside_the_image(box):
    image = np.zeros((100, 300, 3), np.uint8)
    whole = Painter(["Thrombocyte"]).draw(image, found(0, [10, 50, 290, 90]))
    painted = Painter(["Thrombocyte"]).draw(image, found(0, box))

    def filled(pixels):
        return ((pixels == colour(0)).all(axis=2)).sum()

    label = filled(whole) - 2 * (281 + 39)
    assert filled(painted) > 0.9 * label  # none of it is cut off


def test_latin_greek_cyrillic_and_arabic_need_no_font_of_the_system():
    def never():
        raise AssertionError("fonts were looked for")

    names = ["Zell\u00fcberrest", "\u03b1\u03b2", "\u0434\u0435\u0444\u0435\u043a\u0442"]
    painter = Painter(names, never)
    assert [painter._names[label] for label in range(3)] == [(Run(name, base_font()),) for name in names]
    # Two names of the same length are two pictures, and neither is the number's.
    pictures = [drawn([name]) for name in ("\u03b1\u03b2", "\u03b2\u03b1", "")]
    assert not any((a == b).all() for a, b in zip(pictures, pictures[1:]))


def test_a_name_in_the_font_that_has_it(tmp_path):
    cjk = make_font(tmp_path / "cjk.ttf", "\u732b\u72ac9. 0")
    painted = drawn(["\u732b\u72ac"], more=[cjk])
    # Two squares of 11 pixels, black on red or white on it, without a gap between them.
    ink = (painted[30] != colour(0)).any(axis=1) & (painted[30] > 0).any(axis=1)
    start = int(np.flatnonzero(ink)[0])
    assert ink[start : start + 22].all()


def test_a_name_of_two_scripts_is_drawn_by_two_fonts(tmp_path):
    han = make_font(tmp_path / "han.ttf", "\u732b")
    hangul = make_font(tmp_path / "hangul.ttf", "\ud55c")
    base = base_font()
    assert split_runs("\u732b\ud55c\u200d a", [base, han, hangul]) == (
        Run("\u732b", han),
        Run("\ud55c\u200d ", hangul),
        Run("a", base),
    )
    both = make_font(tmp_path / "both.ttf", "\u732b\ud55c a")
    assert split_runs("\u732b\ud55c a", [base, han, hangul, both]) == (Run("\u732b\ud55c a", both),)
    assert split_runs("\u732b\u72ac", [base, han, hangul]) == ()
    assert split_runs("a", [str(tmp_path / "none.ttf"), base]) == (Run("a", base),)


def test_what_no_font_has_is_drawn_as_its_number_and_said_once(caplog):
    labels = ["a", f"x{UNASSIGNED}", UNASSIGNED, "b"]
    with caplog.at_level(logging.WARNING):
        painter = Painter(labels, list)
        image = np.zeros((100, 300, 3), np.uint8)
        pictures = [painter.draw(image, found(label, [50, 40, 150, 90])) for label in (1, 1, 2)]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(
        f"no font here has {UNASSIGNED}: 2 class names are drawn as numbers (1 = x{UNASSIGNED}"
    )
    assert (pictures[0] == drawn(["", "1"], 1)).all() and (pictures[2] == drawn(["", "", "2"], 2)).all()
    caplog.clear()
    assert (drawn(["", "\u200b", "\n"], 1) == drawn(["", "1"], 1)).all()  # nothing to be seen: no name
    assert not caplog.records


def test_without_fribidi_arabic_is_a_number_not_a_riddle(monkeypatch, caplog):
    monkeypatch.setattr(fonts, "_can_shape", lambda: False)
    arabic = "\u0634\u062e\u0635"
    assert (drawn([arabic]) == drawn(["0"])).all()
    assert "Pillow finds no fribidi" in caplog.text and "apt-get install libfribidi0" in caplog.text


def test_a_name_becomes_one_line():
    assert visible_text(" red\n blood\tcell ") == "red blood cell"
    assert visible_text("e\u0301") == "\u00e9"  # composed: one glyph
    assert visible_text("a\x00\ud800b") == "ab" and visible_text("\u200d \ufe0f") == ""


def test_fonts_that_suit_labels_come_first(monkeypatch):
    names = [
        "/f/Zapf.ttf", "/f/LastResort.otf", "/f/NotoColorEmoji.ttf", "/f/NotoSans-Bold.ttf", "/f/NotoSans-Regular.ttf",
        "/f/NotoSansCJK-Regular.ttc", "/f/wqy-microhei.ttc", "/f/Aaa-Italic.ttf", "/f/NotoSansSC-Regular.otf",
    ]  # fmt: skip
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: names)
    assert [Path(path).stem for path in fonts.system_fonts()] == [
        "NotoSansSC-Regular", "NotoSansCJK-Regular", "wqy-microhei", "NotoSans-Regular", "NotoSans-Bold", "Zapf",
        "Aaa-Italic",
    ]  # fmt: skip


def test_a_font_put_into_the_home_folder_draws_the_names(run_made, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(run_made / "export", model)
    config = yaml.safe_load((model / "infer_cfg.yml").read_text(encoding="utf-8"))
    count = len(config["label_list"])
    config["label_list"] = [chr(0x10F000 + number) for number in range(count)]
    (model / "infer_cfg.yml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")

    def predict(out, home):
        arguments = ["--model", model, "--threshold", 0.3, "--out", tmp_path / out]
        done = picoquant("predict", run_made / "images", *arguments, XDG_DATA_HOME=str(home))
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in (tmp_path / out / "detections.jsonl").read_text().splitlines()]
        assert {found["label"] for row in rows for found in row["detections"]} <= set(config["label_list"])
        return done.stderr, [read_image(row["annotated"]) for row in rows if row["detections"]]

    said, numbers = predict("numbers", tmp_path / "empty")
    assert said.count("no font here has") == 1
    make_font(tmp_path / "home/fonts/own.ttf", "".join(config["label_list"]))
    said, names = predict("names", tmp_path / "home")
    assert "no font here has" not in said
    assert names and any((a != b).any() for a, b in zip(numbers, names))

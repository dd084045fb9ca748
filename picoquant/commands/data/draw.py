"""`picoquant data draw`: a contact sheet of labelled images."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.commands.data.sources import Sources
from picoquant.commands.data.written import refuse_overwriting
from picoquant.data.dataset import Dataset, Record
from picoquant.data.formats.load import load_dataset
from picoquant.data.images import UnreadableImageError, read_image
from picoquant.data.seeds import CHOICE, generator
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError
from picoquant.postprocess import Detections
from picoquant.prediction.draw import Painter
from picoquant.storage.files import whole_file

LOG = logging.getLogger("picoquant")

GAP = 8  # pixels between images, white


@dataclass(frozen=True)
class Cell:
    """An image on the sheet: its path, row and column (from 1), and boxes."""

    path: str
    row: int
    column: int
    boxes: int


def draw_sheet(
    settings: DatasetSettings, out: Path, count: int, side: int, seed: int, force: bool
) -> list[Cell]:
    """Draw images with their boxes and class names, row by row in the data set's order.

    Args:
        settings: the data set. Of TrainDataset images with objects are drawn, unless it keeps others.
        out: the PNG.
        count: images at most; they are drawn at random.
        side: longer side of an image on the sheet, pixels.
        seed: of the choice.
        force: replace the file if it is there.

    Raises: `DataError` when no image can be drawn, `UserError` for a file that is there already.
    """
    refuse_overwriting([out], force, [])
    problems: list[DataError] = []
    dataset = load_dataset(settings, settings.section == "TrainDataset", problems)
    for problem in problems if len(dataset) else ():
        LOG.warning("%s", problem)
    chosen = _readable(dataset, count, side, seed)
    if not chosen:
        raise problems[0] if problems else DataError(f"no image of {settings.annotation_file} can be read")
    labels = [*dataset.class_names, *(f"{name} (crowd)" for name in dataset.class_names)]
    across = math.ceil(math.sqrt(len(chosen)))
    rows = [chosen[start : start + across] for start in range(0, len(chosen), across)]
    tops = np.cumsum([GAP, *(max(image.shape[0] for _, image in row) + GAP for row in rows)]).tolist()
    sheet = np.full((tops[-1], across * (side + GAP) + GAP, 3), 255, np.uint8)
    cells, painter = [], Painter(labels)
    for place, (record, image) in enumerate(chosen):
        row, column = divmod(place, across)
        drawn = painter.draw(image, _objects(record, image, dataset.num_classes))
        top, left = tops[row], GAP + column * (side + GAP)
        sheet[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
        cells.append(Cell(record.path, row + 1, column + 1, len(record.boxes)))
    _write(sheet, out)
    return cells


def _readable(dataset: Dataset, count: int, side: int, seed: int) -> list[tuple[Record, np.ndarray]]:
    """Records chosen at random, in the data set's order, and their images [H, W, 3] at the size of the sheet."""
    import cv2

    found = {}
    for place in generator(seed, CHOICE).permutation(len(dataset)).tolist():
        if len(found) == count:
            break
        try:
            image = read_image(dataset.records[place].path)
        except UnreadableImageError as error:
            LOG.warning("%s", error)
            continue
        height, width = image.shape[:2]
        scale = side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        found[place] = cv2.resize(image, size, interpolation=how)
    return [(dataset.records[place], found[place]) for place in sorted(found)]


def _objects(record: Record, image: np.ndarray, classes: int) -> Detections:
    """The record's boxes in pixels of the image as drawn; crowds count as classes behind the others."""
    height, width = image.shape[:2]
    scale = np.array([width / record.width, height / record.height] * 2, np.float32)
    labels = record.classes.astype(np.int64) + classes * record.is_crowd
    return Detections(labels, np.full(len(labels), np.nan, np.float32), record.boxes * scale)


def _write(sheet: np.ndarray, out: Path) -> None:
    import cv2

    _, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    with whole_file(out, "wb") as stream:
        stream.write(data.tobytes())


def as_json(out: Path, cells: Sequence[Cell]) -> dict[str, Any]:
    """For programs: the picture, and which image is where on it."""
    images = [{"file": one.path, "row": one.row, "column": one.column, "boxes": one.boxes} for one in cells]
    return {"picture": str(out), "images": images}


def text_of(out: Path, cells: Sequence[Cell]) -> str:
    """Which image is where on the sheet."""
    lines = [f"row {one.row}, column {one.column}: {one.path}, {one.boxes} boxes" for one in cells]
    return "\n".join([*lines, f"written: {out}"])


def section_of(sources: Sources, val: bool) -> DatasetSettings:
    """The data set that is drawn: `EvalDataset` where asked for, else the first there is.

    Raises: `DataError` where there is no EvalDataset.
    """
    if not val:
        return next(iter(sources.settings.values()))
    if "EvalDataset" not in sources.settings:
        raise DataError("there is no EvalDataset to draw; leave --val-images out")
    return sources.settings["EvalDataset"]

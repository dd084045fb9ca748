"""A generated data set in COCO format: what the pipeline runs on when there are no images at hand."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from picoquant.data.seeds import SHAPES, generator
from picoquant.data.settings import DatasetSettings
from picoquant.errors import ConfigError, DataError
from picoquant.storage.files import disk_errors, recover_folder, replace_folder, write_json
from picoquant.utils import setting_checks as checks
from picoquant.utils.progress import Progress

LOG = logging.getLogger("picoquant")

_MARK = "synthetic.json"  # settings of the set; also says that the folder is ours to replace
_VERSION = 1  # of the drawing: a set drawn by other code is drawn anew
_QUALITY = 95  # of JPEG
_SPLITS = ("train", "val")
_MOST_OBJECTS = 5


@dataclass(frozen=True)
class SyntheticSet:
    """What to generate.

    seed: of all that is random. train_images, val_images: how many. image_size: side in pixels.
    smallest, largest: diameters of the shapes, parts of the side. empty: probability that an image
    has no shape; the others have 1 to 5, three on average.
    """

    seed: int = 0
    train_images: int = 400
    val_images: int = 200
    image_size: int = 192
    smallest: float = 0.16
    largest: float = 0.5
    empty: float = 0.04

    def __post_init__(self) -> None:
        checks.whole("seed", self.seed, 0)
        checks.whole("train_images", self.train_images, 1)
        checks.whole("val_images", self.val_images, 1)
        checks.whole("image_size", self.image_size, 32)
        checks.fraction("empty", self.empty)
        checks.span("smallest and largest", [self.smallest, self.largest])
        if not (self.smallest >= 0.05 and self.largest <= 0.9):
            raise ConfigError("smallest and largest must lie between 0.05 and 0.9")


def write_synthetic(folder: Path, wanted: SyntheticSet) -> tuple[DatasetSettings, DatasetSettings]:
    """Write the set into `folder`, or leave the one that is there when it has these settings.

    The folder appears whole or not at all: `train/`, `val/`, `annotations/instances_train.json` and
    `annotations/instances_val.json`. The same settings give the same bytes.

    Returns: the settings of TrainDataset and EvalDataset.

    Raises: `DataError` when the folder holds something else.
    """
    folder = Path(folder)
    recover_folder(folder)
    if _is_there(folder, wanted):
        LOG.info("generated data set in %s is there already", folder)
    else:
        _write(folder, wanted)
    return tuple(
        DatasetSettings(
            format="coco",
            dataset_dir=str(folder),
            image_dir=split,
            anno_path=f"annotations/instances_{split}.json",
            section=section,
        )
        for split, section in zip(_SPLITS, ("TrainDataset", "EvalDataset"))
    )


def _is_there(folder: Path, wanted: SyntheticSet) -> bool:
    """Whether the set is complete.

    Raises: `DataError` when there is something else in the folder.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} is there and is no generated data set; choose another folder or remove it"
        ) from error
    images = sum(len(list((folder / split).glob("*.jpg"))) for split in _SPLITS)
    return found == _described(wanted) and images == wanted.train_images + wanted.val_images


def _described(wanted: SyntheticSet) -> dict[str, Any]:
    return {"version": _VERSION, **asdict(wanted)}


def _write(folder: Path, wanted: SyntheticSet) -> None:
    new = folder.with_name(f".{folder.name}.new")
    total = wanted.train_images + wanted.val_images
    progress = Progress("generate images", total, "image")
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
        try:
            _write_split(new, "train", wanted.train_images, wanted, progress, 0)
            _write_split(new, "val", wanted.val_images, wanted, progress, wanted.train_images)
            write_json(new / _MARK, _described(wanted))
            replace_folder(new, folder)
        finally:
            progress.close()
            shutil.rmtree(new, ignore_errors=True)
    LOG.info("wrote %d generated images into %s", total, folder)


def _write_split(
    root: Path, split: str, count: int, wanted: SyntheticSet, progress: Progress, done: int
) -> None:
    """Images and annotations of one half; `done` images are there already."""
    import cv2

    from picoquant.data.formats.shapes import CLASS_NAMES, draw_image

    (root / split).mkdir(parents=True)
    images, annotations = [], []
    size = wanted.image_size
    for index in range(count):
        rng = generator(wanted.seed, SHAPES, _SPLITS.index(split), index)
        objects = 0 if rng.random() < wanted.empty else int(rng.integers(1, _MOST_OBJECTS + 1))
        pixels, drawn = draw_image(rng, size, objects, wanted.smallest, wanted.largest)
        name = f"{index:06d}.jpg"
        data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        (root / split / name).write_bytes(data.tobytes())
        images.append({"id": index + 1, "file_name": name, "width": size, "height": size})
        for shape in drawn:
            x1, y1, x2, y2 = shape.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": shape.label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": shape.area,
                    "iscrowd": 0,
                }
            )
        progress.update(done + index + 1)
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASS_NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(root / "annotations" / f"instances_{split}.json", content)

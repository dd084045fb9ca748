"""A data set in memory: which images there are and what is on them.

G is the number of objects of an image. Boxes are x1, y1, x2, y2 in image pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import PicoquantError


@dataclass(frozen=True)
class Record:
    """One image and its objects.

    boxes: [G, 4] float32, clipped to the image; classes: [G] int32, 0 to the number of classes - 1;
    is_crowd: [G] bool, regions that are no training targets. width, height: as annotated.
    """

    image_id: int
    path: str
    width: int
    height: int
    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray


@dataclass(frozen=True)
class Repairs:
    """What was changed while loading, by count; `missing` are names of image files."""

    clipped_boxes: int = 0
    dropped_boxes: int = 0
    empty_images: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Records in the order of their image ids.

    class_names and category_ids are indexed by class; category ids are those of the annotation file.
    format: `coco`, `voc` or `folder`. section is the configuration's name for this data set, for
    messages. annotations is what a COCO file holds, kept of data sets that are evaluated on.
    """

    records: tuple[Record, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    section: str = "TrainDataset"
    annotation_file: Path | None = None
    format: str = "coco"
    repairs: Repairs = field(default_factory=Repairs)
    annotations: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not an object of each is there."""
        return len(self.class_names)

    @property
    def image_ids(self) -> list[int]:
        """Image ids in the order of the records."""
        return [record.image_id for record in self.records]

    def ground_truth(self) -> Mapping[str, Any]:
        """The annotations as a COCO mapping, as `pycocotools` takes them.

        For a data set in COCO format it is what the file holds, nothing clipped or left out, so that
        mAP is the one anybody computes from that file. It must not be changed.

        Raises: `PicoquantError` for a COCO data set that was loaded to train on: its file's content is not kept.
        """
        if self.annotations is not None:
            return self.annotations
        if self.format == "coco":
            raise PicoquantError(
                f"{self.section} was loaded for training: it has no ground truth to evaluate on"
            )
        images, annotations = [], []
        for record in self.records:
            images.append(
                {
                    "id": record.image_id,
                    "file_name": Path(record.path).name,
                    "width": record.width,
                    "height": record.height,
                }
            )
            for box, label, crowd in zip(record.boxes, record.classes, record.is_crowd):
                x1, y1, x2, y2 = (float(value) for value in box)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": record.image_id,
                        "category_id": self.category_ids[int(label)],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": (x2 - x1) * (y2 - y1),
                        "iscrowd": int(crowd),
                    }
                )
        categories = [
            {"id": number, "name": name} for number, name in zip(self.category_ids, self.class_names)
        ]
        return {"images": images, "annotations": annotations, "categories": categories}

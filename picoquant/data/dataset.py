"""A data set in memory: which images there are and what is on them.

G is the number of objects of an image, M that of a whole annotation file. Boxes are x1, y1, x2, y2 in image pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from picoquant.errors import PicoquantError


@dataclass(frozen=True)
class Record:
    """One image and its objects.

    boxes: [G, 4] float32, clipped to the image; classes: [G] int32, 0 to the number of classes - 1;
    is_crowd: [G] bool, regions that are no training targets. width, height: as annotated, or the file's own
    where the annotated size is wrong.
    """

    image_id: int
    path: str
    width: int
    height: int
    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray


_COLUMNS = ("boxes", "classes", "is_crowd")


@dataclass(frozen=True, eq=False)
class PackedRecords(Sequence[Record]):
    """Records that are made when they are asked for; three arrays for each of 120,000 images take long to send.

    Attributes:
        image_id, width, height: [N], as the records have them; paths: N.
        starts: [N + 1] where each image's objects begin.
        boxes: [M, 4]; classes: [M]; is_crowd: [M].
    """

    image_id: np.ndarray
    paths: tuple[str, ...]
    width: np.ndarray
    height: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray

    @classmethod
    def of(cls, records: Sequence[Record]) -> Sequence[Record]:
        """The same records; themselves, where they are packed, there are none, or two have arrays of other types."""
        if isinstance(records, cls):
            return records
        kinds = {tuple(getattr(record, name).dtype for name in _COLUMNS) for record in records}
        if len(kinds) != 1:
            return records
        counts = [len(record.classes) for record in records]
        return cls(
            np.array([record.image_id for record in records], np.int64),
            tuple(record.path for record in records),
            *(
                np.array([getattr(record, side) for record in records], np.int64)
                for side in ("width", "height")
            ),
            np.concatenate([[0], np.cumsum(counts)]),
            *(np.concatenate([getattr(record, name) for record in records]) for name in _COLUMNS),
        )

    def at(self, places: np.ndarray) -> PackedRecords:
        """The records at some places [K], in that order."""
        counts = np.diff(self.starts)[places]
        starts = np.concatenate([[0], np.cumsum(counts)])
        objects = np.repeat(self.starts[:-1][places] - starts[:-1], counts) + np.arange(starts[-1])
        return PackedRecords(
            self.image_id[places],
            tuple(self.paths[place] for place in places.tolist()),
            self.width[places],
            self.height[places],
            starts,
            *(getattr(self, name)[objects] for name in _COLUMNS),
        )

    def have(self, objects: np.ndarray) -> np.ndarray:
        """[N] bool: whether an image has one of some objects [M] bool."""
        counted = np.concatenate([[0], np.cumsum(objects)])
        return counted[self.starts[1:]] > counted[self.starts[:-1]]

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Record, ...]: ...

    def __getitem__(self, place: int | slice) -> Record | tuple[Record, ...]:
        if isinstance(place, slice):
            return tuple(self._record(number) for number in range(len(self))[place])
        return self._record(range(len(self))[place])

    def __iter__(self) -> Iterator[Record]:
        starts = self.starts.tolist()
        columns = (self.image_id.tolist(), self.paths, self.width.tolist(), self.height.tolist())
        for *image, start, stop in zip(*columns, starts, starts[1:]):
            mine = slice(start, stop)
            yield Record(*image, self.boxes[mine], self.classes[mine], self.is_crowd[mine])

    def _record(self, number: int) -> Record:
        mine = slice(self.starts[number], self.starts[number + 1])
        sides = int(self.width[number]), int(self.height[number])
        objects = (getattr(self, name)[mine] for name in _COLUMNS)
        return Record(int(self.image_id[number]), self.paths[number], *sides, *objects)


@dataclass(frozen=True)
class Annotations:
    """The objects of a COCO file as COCO's evaluation counts them: nothing clipped, rounded or left out.

    image_id: [M] int64; classes: [M] int32; boxes: [M, 4] float64, x y width height; area: [M] float64;
    is_crowd: [M] bool; ignored: [M] bool, marked `ignore`, which is not trained on. In the order of the file.
    """

    image_id: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    is_crowd: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class Repairs:
    """What was changed while loading, by count.

    empty_images were left out, those that hold crowds alone are crowd_images; `missing` are names of image files.
    unreadable: path of an image file -> a sentence that says what is wrong with it, as far as its header tells; such
    images stay among the records, and readers pass them by or stop at them.
    """

    clipped_boxes: int = 0
    dropped_boxes: int = 0
    empty_images: int = 0
    crowd_images: int = 0
    missing: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """Records in the order of their image ids.

    class_names and category_ids are indexed by class. A category id is None for a class that a model knows and
    the data set lacks (`class_names.in_order`).

    Ids of images and categories are whole numbers: those of the annotation file, or numbers given on reading where
    the file has others (texts, for example); own_image_ids and own_category_ids then say what the file calls them.
    Ids of annotations are always given anew.

    annotations: what COCO counts, kept of COCO data sets that are evaluated on; others have what their records
    hold. format: `coco`, `voc` or `folder`. section is the
    configuration's name for this data set, for messages.
    """

    records: Sequence[Record]
    class_names: tuple[str, ...]
    category_ids: tuple[int | None, ...]
    section: str = "TrainDataset"
    annotation_file: Path | None = None
    format: str = "coco"
    repairs: Repairs = field(default_factory=Repairs)
    annotations: Annotations | None = field(default=None, repr=False, compare=False)
    own_image_ids: Mapping[int, Any] = field(default_factory=dict)
    own_category_ids: Mapping[int, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "records": PackedRecords.of(self.records)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not an object of each is there."""
        return len(self.class_names)

    @property
    def num_boxes(self) -> int:
        """Number of objects of the records, crowds among them."""
        if isinstance(self.records, PackedRecords):
            return len(self.records.boxes)
        return sum(len(record.boxes) for record in self.records)

    @property
    def paths(self) -> Sequence[str]:
        """Files of the images, in the order of the records."""
        if isinstance(self.records, PackedRecords):
            return self.records.paths
        return [record.path for record in self.records]

    @property
    def image_ids(self) -> list[int]:
        """Image ids in the order of the records."""
        if isinstance(self.records, PackedRecords):
            return self.records.image_id.tolist()
        return [record.image_id for record in self.records]

    def objects(self) -> Annotations:
        """What COCO's evaluation counts, in the records' images and maybe in others of their file.

        Raises: `PicoquantError` for a COCO data set that was loaded to train on: its file's content is not kept.
        """
        if self.annotations is None and self.format == "coco":
            raise PicoquantError(
                f"{self.section} was loaded for training: it has no ground truth to evaluate on"
            )
        return self.annotations or annotations_of(self.records)

    @property
    def names_by_id(self) -> dict[int, str]:
        """Class names by category id, without classes that the data set lacks."""
        return {
            number: name for number, name in zip(self.category_ids, self.class_names) if number is not None
        }

    def ground_truth(self, with_marks: bool = False) -> dict[str, Any]:
        """The annotations of the records' images as a COCO mapping, as `pycocotools` takes them.

        Of a data set in COCO format nothing is clipped or left out, so that mAP is the one anybody computes from
        that file. Annotations are numbered from 1: to COCO's counting an id of 0 means "not matched", and two
        annotations of one id are one.

        Args:
            with_marks: also the marks `ignore`, which COCO's own counting overwrites and other counters may follow.

        Raises: as `objects`.
        """
        found = self.objects()
        images = [
            {
                "id": record.image_id,
                "file_name": Path(record.path).name,
                "width": record.width,
                "height": record.height,
            }
            for record in self.records
        ]
        here = np.flatnonzero(np.isin(found.image_id, self.image_ids))
        columns = (found.image_id, found.classes, found.boxes, found.area, found.is_crowd, found.ignored)
        annotations = [
            {
                "id": number,
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
                **({"ignore": 1} if ignored and with_marks else {}),
            }
            for number, (image_id, label, box, area, crowd, ignored) in enumerate(
                zip(*(column[here].tolist() for column in columns)), start=1
            )
        ]
        categories = [{"id": number, "name": name} for number, name in self.names_by_id.items()]
        return {"images": images, "annotations": annotations, "categories": categories}

    def with_own_ids(self, detections: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Entries of a COCO results file with the annotation file's ids, for others to count with that file."""
        return _renamed(detections, self.own_image_ids, self.own_category_ids)

    def with_ids_here(self, detections: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What `with_own_ids` made, as it was."""
        return _renamed(detections, _reversed(self.own_image_ids), _reversed(self.own_category_ids))


def _renamed(
    detections: Iterable[Mapping[str, Any]], images: Mapping[Any, Any], categories: Mapping[Any, Any]
) -> list[dict[str, Any]]:
    return [
        {
            **entry,
            "image_id": images.get(entry["image_id"], entry["image_id"]),
            "category_id": categories.get(entry["category_id"], entry["category_id"]),
        }
        for entry in detections
    ]


def _reversed(names: Mapping[Any, Any]) -> dict[Any, Any]:
    return {value: key for key, value in names.items()}


def annotations_of(records: Sequence[Record]) -> Annotations:
    """What the records hold as COCO's evaluation counts it."""
    counts = [len(record.boxes) for record in records]
    corners = np.concatenate([np.zeros((0, 4)), *(record.boxes for record in records)]).astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return Annotations(
        np.repeat([record.image_id for record in records], counts).astype(np.int64),
        np.concatenate([np.zeros(0, np.int32), *(record.classes for record in records)]),
        boxes,
        boxes[:, 2] * boxes[:, 3],
        np.concatenate([np.zeros(0, bool), *(record.is_crowd for record in records)]),
        np.zeros(len(boxes), bool),
    )

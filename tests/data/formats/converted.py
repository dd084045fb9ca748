"""A COCO data set written as others write theirs: YOLO, LabelMe, VOC. Images are links."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path


class Source:
    """A COCO file: images, names of classes, and the boxes of each image as (class, x, y, width, height)."""

    def __init__(self, annotations: Path, images: Path, count: int | None = None) -> None:
        content = json.loads(annotations.read_text())
        self.images = content["images"][:count]
        self.folder = images
        self.names = [category["name"] for category in content["categories"]]
        labels = {category["id"]: label for label, category in enumerate(content["categories"])}
        self.boxes = defaultdict(list)
        for entry in content["annotations"]:
            self.boxes[entry["image_id"]].append((labels[entry["category_id"]], *entry["bbox"]))

    def link(self, image: dict, folder: Path, name: str | None = None) -> Path:
        """The image in another folder."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (name or image["file_name"])
        path.symlink_to(self.folder / image["file_name"])
        return path


def bccd(shared: Path, part: str = "val", count: int | None = None) -> Source:
    root = shared / "datasets" / "bccd"
    return Source(root / f"instances_{part}.json", root / "JPEGImages", count)


def yolo_line(label: int, x: float, y: float, w: float, h: float, width: int, height: int) -> str:
    numbers = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
    return " ".join([str(label), *(f"{number:.6f}" for number in numbers)])


def yolo_text(source: Source, image: dict) -> str:
    size = (image["width"], image["height"])
    return "".join(f"{yolo_line(*box, *size)}\n" for box in source.boxes[image["id"]])


def write_yolo(source: Source, images: Path, labels: Path) -> None:
    """Images and their label files."""
    labels.mkdir(parents=True, exist_ok=True)
    for image in source.images:
        source.link(image, images)
        (labels / Path(image["file_name"]).with_suffix(".txt")).write_text(yolo_text(source, image))


def write_labelme(source: Source, folder: Path) -> None:
    """Each image with its JSON file: rectangles, and every other box as a polygon of eight points."""
    for image in source.images:
        path = source.link(image, folder)
        shapes = []
        for number, (label, x, y, w, h) in enumerate(source.boxes[image["id"]]):
            points, kind = [[x + w, y], [x, y + h]], "rectangle"
            if number % 2:
                kind = "polygon"
                points = [
                    [x + w / 2, y],
                    [x + w, y + h / 3],
                    [x + w, y + h / 2],
                    [x + w / 2, y + h],
                    [x, y + h / 2],
                ]
            shapes.append(
                {"label": source.names[label], "points": points, "group_id": None, "shape_type": kind}
            )
        content = {
            "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": path.name, "imageData": None,
            "imageHeight": image["height"], "imageWidth": image["width"],
        }  # fmt: skip
        path.with_suffix(".json").write_text(json.dumps(content))


def write_voc(source: Source, images: Path, annotations: Path) -> None:
    """Images and their XML files."""
    annotations.mkdir(parents=True, exist_ok=True)
    for image in source.images:
        source.link(image, images)
        objects = "".join(
            f"<object><name>{source.names[label]}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
            f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for label, x, y, w, h in source.boxes[image["id"]]
        )
        text = (
            f"<annotation><filename>{image['file_name']}</filename><size><width>{image['width']}</width>"
            f"<height>{image['height']}</height><depth>3</depth></size>{objects}</annotation>"
        )
        (annotations / Path(image["file_name"]).with_suffix(".xml")).write_text(text)


def objects_of(dataset) -> dict[str, list[tuple]]:
    """File name -> its objects, each as (class name, x1, y1, x2, y2) rounded to 0.01 pixel."""
    return {
        Path(record.path).name: sorted(
            (dataset.class_names[label], *(round(float(value), 2) for value in box))
            for label, box in zip(record.classes, record.boxes)
        )
        for record in dataset.records
    }

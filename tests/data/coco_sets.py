"""Small COCO data sets on disk for the tests here."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from picoquant.data.settings import DatasetSettings


def write_images(folder: Path, count: int, size: tuple[int, int] = (40, 60)) -> list[str]:
    """PNGs of noise named 0.png, 1.png, ...; `size` is (height, width)."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        pixels = np.random.RandomState(number).randint(0, 256, (*size, 3), np.uint8)
        cv2.imwrite(str(folder / name), pixels)
    return names


def coco_content(names: list[str], size: tuple[int, int] = (40, 60)) -> dict:
    """One box of category 7 on every image, [10, 5, 20, 15] as x, y, width, height."""
    return {
        "images": [
            {"id": number + 1, "file_name": name, "height": size[0], "width": size[1]}
            for number, name in enumerate(names)
        ],
        "annotations": [
            annotation(number + 1, number + 1, 7, [10, 5, 20, 15]) for number in range(len(names))
        ],
        "categories": [{"id": 7, "name": "seven"}, {"id": 3, "name": "three"}],
    }


def annotation(number: int, image: int, category: int, box: list, crowd: int = 0) -> dict:
    area = box[2] * box[3] if len(box) == 4 else 0
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": area,
        "iscrowd": crowd,
    }


def write_set(root: Path, count: int = 4, content: dict | None = None, **settings) -> DatasetSettings:
    """A data set under `root`: images/ and instances.json."""
    names = write_images(root / "images", count)
    (root / "instances.json").write_text(json.dumps(content or coco_content(names)), "utf-8")
    return DatasetSettings(
        "coco", dataset_dir=str(root), image_dir="images", anno_path="instances.json", **settings
    )

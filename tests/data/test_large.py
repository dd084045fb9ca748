"""A data set as large as COCO: how long, and in how much memory, until the first batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

IMAGES, BOXES = 118_287, 860_001  # those of train2017
_LINKS = 50_000  # names of one file; file systems take 65,000

_CODE = """
import resource, sys, time
import picoquant
from picoquant.data.formats.load import load_dataset
from picoquant.data.readers.reader import TrainReader
from picoquant.data.settings import DatasetSettings, ReaderSettings
from picoquant.config.data import reader_settings, workers
from picoquant.config.recipe import load_recipe
start = time.process_time()
recipe = load_recipe("picodet_s_416_coco_npu", [])
settings = DatasetSettings("coco", dataset_dir=sys.argv[1], image_dir="images", anno_path="a.json")
dataset = load_dataset(settings, True)
print(len(dataset), sum(len(record.boxes) for record in dataset.records))
with TrainReader(dataset, reader_settings(recipe, "TrainReader"), 0, int(sys.argv[2])) as reader:
    batch = next(reader.epoch(0))
    print(batch["image"].shape[0])
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(time.process_time() - start, *(usage.ru_maxrss >> 10 for usage in used))
"""


def write_large(root: Path, images: int = IMAGES, boxes: int = BOXES) -> None:
    """`root/images` and `root/a.json` with COCO's keys, polygons of 21 points included."""
    folder = root / "images"
    folder.mkdir(parents=True)
    random = np.random.RandomState(0)
    names = [f"{number:012d}.jpg" for number in range(images)]
    for number, name in enumerate(names):
        if number % _LINKS == 0:
            first = folder / name
            cv2.imwrite(str(first), random.randint(0, 255, (480, 640, 3), np.uint8))
        else:
            os.link(first, folder / name)
    entries = [
        {"license": 3, "file_name": name, "coco_url": f"http://images.example/{name}", "height": 480,
         "width": 640, "date_captured": "2013-11-14 17:02:52", "id": number + 1}
        for number, name in enumerate(names)
    ]  # fmt: skip
    corners, sides = random.uniform(0, 500, (boxes, 2)), random.uniform(5, 130, (boxes, 2))
    owners, classes = random.randint(1, images + 1, boxes), random.randint(1, 81, boxes)
    polygon = random.uniform(0, 640, (997, 42)).round(2).tolist()
    with open(root / "a.json", "w", encoding="utf-8") as stream:
        head = {
            "info": {},
            "images": entries,
            "categories": [{"id": n, "name": f"c{n}"} for n in range(1, 81)],
        }
        stream.write(json.dumps(head)[:-1] + ', "annotations": [')
        for number in range(boxes):
            box = [round(float(value), 2) for value in (*corners[number], *sides[number])]
            entry = {"segmentation": [polygon[number % 997]], "area": round(box[2] * box[3], 2), "iscrowd": 0,
                     "image_id": int(owners[number]), "bbox": box, "category_id": int(classes[number]),
                     "id": number + 1}  # fmt: skip
            stream.write((", " if number else "") + json.dumps(entry))
        stream.write("]}")


def measure(root: Path, workers: int) -> tuple[float, int, int]:
    """CPU seconds from settings to the first batch, and MiB at most of this process and of its largest worker."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(root), str(workers)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, batch, last = done.stdout.splitlines()[-3:]
    assert int(first.split()[0]) > 0.99 * IMAGES and int(batch) > 0
    seconds, own, worker = last.split()
    return float(seconds), int(own), int(worker)


@pytest.mark.slow
def test_starts_within_30_seconds_and_2_gb(tmp_path):
    write_large(tmp_path / "large")
    seconds, own, worker = measure(tmp_path / "large", workers=2)
    print(f"{seconds:.1f} s of CPU, {own} MiB, largest worker {worker} MiB")
    assert seconds < 30
    assert own < 2048 and worker < 2048

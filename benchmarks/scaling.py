"""How time and memory grow: with images of a data set, classes, the input's size and images of a batch.

    python benchmarks/scaling.py --out scaling/               all; a table, scaling.json and scaling.svg
    python benchmarks/scaling.py --out scaling/ --only images --values 1000,120000

Every point is measured in a process of its own, so that its memory is its own: the least time of three calls, of fewer
where these take more than 5 s together, and the largest resident size. Between two points the exponent is printed: 1.00
is work that grows as what it works on. `images` is the start of a training, annotations (7 objects an image, in COCO's
format) to first batch of 8; `evaluated` is COCO's numbers of so many images with 100 detections each, of 80 classes,
and the results file; `classes` is decoding, NMS and COCO's numbers of 50 images with every output of a head (noise);
`classes_images` is COCO's numbers of 2,000 images with so many classes, whose work is the detections; `input` is
PicoDet-S-NPU in ONNX Runtime, an image a call; `batch` the same at 320 pixels; `step` is a training step of 2 images.
Work of the last three is the pixels of a call.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from benchmarks.results.speed import exponent  # noqa: E402

OBJECTS, PICTURES = 7, 50
_LINKS = 30000  # names of one file, which a file system limits
_ENOUGH = 5.0  # seconds of calls, after which none is made again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for table and picture")
    parser.add_argument("--only", choices=list(KINDS), action="append", help="repeatable; default: all")
    parser.add_argument(
        "--values", type=lambda text: [int(value) for value in text.split(",")], help="instead of its own"
    )
    parser.add_argument("--picture", type=Path, help="where the picture goes (default: scaling.svg in --out)")
    parser.add_argument("--point", type=int, help="measure one and print JSON")
    options = parser.parse_args()
    if options.point is not None:
        print(json.dumps(measured(options.only[0], options.point)))
        return
    if not options.only:
        options.only = list(KINDS)
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, float]]] = {}
    for kind in options.only:
        rows = found[kind] = []
        for value in options.values or KINDS[kind][1]:
            rows.append({"value": value, **_apart(kind, value, options)})
            print(_text(kind, rows), flush=True)
    (options.out / "scaling.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, options.picture or options.out / "scaling.svg")


def _apart(kind: str, value: int, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--out", str(options.out), "--only", kind, "--point", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} {value} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _text(kind: str, rows: list[dict[str, float]]) -> str:
    last = rows[-1]
    said = f"{kind:8} {last['value']:>8.0f}  {last['seconds']:9.3f} s  {last['megabytes']:7.0f} MB"
    if len(rows) < 2:
        return said
    if last["work"] == rows[-2]["work"]:
        return f"{said}  the same work"
    return f"{said}  time grows as n^{exponent(rows[-2], last, 'seconds'):.2f}"


def measured(kind: str, value: int) -> dict[str, float]:
    """Least seconds of up to three calls, the process' largest memory, and the size of the work."""
    with tempfile.TemporaryDirectory() as folder:
        call, work = KINDS[kind][0](value, Path(folder))
        seconds: list[float] = []
        while len(seconds) < 3 and sum(seconds) < _ENOUGH:
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": min(seconds), "megabytes": memory, "work": work}


def start_of_training(images: int, folder: Path) -> tuple[Callable[[], Any], int]:
    """Annotations read and checked, and the first batch made, by this process."""
    import numpy as np
    from PIL import Image

    from picoquant.data.formats.load import load_dataset
    from picoquant.data.readers.reader import TrainReader
    from picoquant.data.settings import DatasetSettings, ReaderSettings, TransformSpec

    side, random = 64, np.random.default_rng(0)
    names = [f"{number:08d}.png" for number in range(images)]
    for number, name in enumerate(names):
        if number % _LINKS == 0:
            first = folder / name
            Image.fromarray(random.integers(0, 256, (side, side, 3), dtype="uint8")).save(first)
        else:
            os.link(first, folder / name)
    records = [{"id": n, "file_name": name, "width": side, "height": side} for n, name in enumerate(names)]
    corners = random.integers(0, side // 2, (images, OBJECTS, 2)).tolist()
    classes = random.integers(0, 80, (images, OBJECTS)).tolist()
    annotations = [
        {
            "id": number * OBJECTS + index, "image_id": number, "category_id": classes[number][index], "iscrowd": 0,
            "bbox": [*corners[number][index], 20, 20], "area": 400,
        }
        for number in range(images)
        for index in range(OBJECTS)
    ]  # fmt: skip
    categories = [{"id": number, "name": f"class {number}"} for number in range(80)]
    content = {"images": records, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    del content, annotations, records
    settings = DatasetSettings(dataset_dir=str(folder), image_dir="", anno_path="instances.json")
    steps = (
        TransformSpec("Decode", {}),
        TransformSpec("Resize", {"target_size": [64, 64], "keep_ratio": False, "interp": 1}),
        TransformSpec("Permute", {}),
    )
    reader = ReaderSettings(steps, batch_size=8, shuffle=True)

    def call() -> None:
        with TrainReader(load_dataset(settings, training=True), reader, 0, 0) as batches:
            next(iter(batches.epoch(0)))

    return call, images


def detections(classes: int, folder: Path) -> tuple[Callable[[], Any], int]:
    """Decoding, NMS and COCO's numbers of outputs that are noise with some 30 objects an image."""
    import numpy as np

    from picoquant.evaluation.coco_metrics import coco_metrics, coco_results
    from picoquant.postprocess.decoder import Decoder
    from picoquant.postprocess.settings import NmsSettings

    random, size, strides = np.random.default_rng(0), (320, 320), (8, 16, 32, 64)
    points = [(320 // stride) ** 2 for stride in strides]
    scores = [random.normal(-8, 1, (1, count, classes)).astype("float32") for count in points]
    for level in scores:
        level.reshape(-1)[random.integers(0, level.size, 8)] = 3
    sides = [random.normal(0, 1, (1, count, 32)).astype("float32") for count in points]
    decoder = Decoder("raw", NmsSettings(), size, strides, "logits")
    images = [
        {"id": number, "width": 320, "height": 320, "file_name": f"{number}.jpg"}
        for number in range(PICTURES)
    ]
    objects = [
        {
            "id": n + 1, "image_id": n % PICTURES, "category_id": n % classes, "iscrowd": 0, "area": 2500,
            "bbox": [10 * (n % 20), 8 * (n % 25), 50, 50],
        }
        for n in range(PICTURES * OBJECTS)
    ]  # fmt: skip
    truth = {
        "images": images,
        "annotations": objects,
        "categories": [{"id": n, "name": str(n)} for n in range(classes)],
    }

    def call() -> None:
        found = []
        for number in range(PICTURES):
            for one in decoder.decode([*scores, *sides], np.ones((1, 2), "float32")):
                found += coco_results(number, one, list(range(classes)))
        coco_metrics(truth, found, range(PICTURES))

    return call, classes


def counted(images: int, classes: int, folder: Path) -> tuple[Callable[[], Any], int]:
    """COCO's numbers of images with 100 detections each, and the results file; the work is the detections."""
    import numpy as np

    from picoquant.data.dataset import Dataset, Record
    from picoquant.evaluation.evaluate import count
    from picoquant.postprocess import Detections

    random, detections = np.random.default_rng(0), 100

    def boxes(number: int) -> np.ndarray:
        start = random.random((number, 2), dtype="float32") * 250
        return np.concatenate([start, start + 10 + 60 * random.random((number, 2), dtype="float32")], axis=1)

    def labels(number: int) -> np.ndarray:
        return np.sort(random.integers(0, classes, number))

    crowds = np.zeros(OBJECTS, bool)
    records = tuple(
        Record(number, f"{number}.jpg", 320, 320, boxes(OBJECTS), labels(OBJECTS).astype("int32"), crowds)
        for number in range(images)
    )
    names = tuple(str(number) for number in range(classes))
    dataset = Dataset(records, names, tuple(range(classes)), format="voc")

    def found() -> Iterator[tuple[int, Detections]]:
        for record in records:
            scores = random.random(detections, dtype="float32")
            yield record.image_id, Detections(labels(detections), scores, boxes(detections))

    def call() -> None:
        count(dataset, found()).write_detections(folder / "detections.json", dataset)

    return call, images * detections


def step(side: int, folder: Path) -> tuple[Callable[[], Any], int]:
    """A training step of two images: forward, targets and losses, backward, update."""
    from train_speed import picoquant_step

    sizes = {"size": side, "batch": 2, "epoch": 0, "config": "picodet_s_416_coco_npu.yml"}
    one = picoquant_step(argparse.Namespace(**sizes), fast=True)
    one()
    return one, 2 * side * side


def inference(side: int, images: int, folder: Path) -> tuple[Callable[[], Any], int]:
    """A call of PicoDet-S-NPU's exported network in ONNX Runtime."""
    import numpy as np

    from picoquant import build_detector
    from picoquant.backends.base import Machine, load_backend
    from picoquant.export.paddle_export import export_model
    from picoquant.paddle_program.infer_config import InferConfig
    from picoquant.paddle_program.model_folder import ModelFolder
    from picoquant.runtimes.backends import running
    from picoquant.runtimes.model import model_of_folder

    labels = tuple(str(number) for number in range(80))
    detector = build_detector("picodet_s_416_coco_npu", num_classes=80)
    export_model(detector, str(folder), "raw", (side, side), InferConfig((side, side), labels))
    opened = running(model_of_folder(ModelFolder.open(folder)), "onnx", Machine(os.cpu_count() or 1))
    ready = opened.__enter__()  # as long as this process
    load_backend("onnx")
    image = np.random.default_rng(0).random((images, 3, side, side), dtype="float32")
    feed = {ready.predict.input_names[0]: image}
    ready.predict(feed)
    return lambda: ready.predict(feed), images * side * side


KINDS: dict[str, tuple[Callable[[int, Path], tuple[Callable[[], Any], int]], list[int]]] = {
    "images": (start_of_training, [100, 1000, 10000, 120000]),
    "evaluated": (lambda images, folder: counted(images, 80, folder), [100, 1000, 10000, 100000]),
    "classes_images": (lambda classes, folder: counted(2000, classes, folder), [1, 10, 100, 1000]),
    "step": (step, [320, 416, 640, 960, 1280]),
    "classes": (detections, [1, 10, 80, 365, 1000]),
    "input": (lambda side, folder: inference(side, 1, folder), [320, 416, 640, 960, 1280]),
    "batch": (lambda images, folder: inference(320, images, folder), [1, 2, 4, 8, 16, 32]),
}


def draw(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Seconds and megabytes of each kind, on logarithmic axes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.fonttype"] = "none"  # letters are text, not outlines
    columns = min(4, len(found))
    figure, axes = pyplot.subplots(-(-len(found) // columns), columns, figsize=(14, 6), squeeze=False)
    for axis in axes.flat[len(found) :]:
        axis.set_axis_off()
    for axis, (kind, rows) in zip(axes.flat, found.items()):
        for side, key, unit, colour in (
            (axis, "seconds", "s", "tab:blue"),
            (axis.twinx(), "megabytes", "MB", "tab:orange"),
        ):
            side.plot([one["value"] for one in rows], [one[key] for one in rows], marker="o", color=colour)
            side.set(xscale="log", yscale="log")
            side.set_ylabel(unit, color=colour)
        axis.set_xlabel(kind)
        axis.grid(True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()

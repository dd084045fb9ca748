"""How long work on a large data set takes to start: picoquant beside PaddleDetection, same files.

    python benchmarks/start_speed.py --images 120000
    python benchmarks/start_speed.py --images 120000 --what eval

The annotation file is generated to be like COCO's train2017: its ids, keys, outlines and share of crowds, 7.2 boxes an
image; images are links to a few JPEGs. picoquant is `picoquant train` from the command to the first batch of the first
step: imports, settings, hashes of the files for run.json, reading and checking every annotation and the header of every
image, the network, the readers. PaddleDetection is its trainer's own start, from the import to the first batch of its
loader; it looks at no image and checks less. Each start is in a process of its own, the two take turns, and medians are
printed, with CPU seconds (those of the processes that help to read the annotations among them) and the largest memory
of the process itself. PaddleDetection is measured where `import ppdet` works.

`--what eval` is `picoquant eval` of an exported network on all these images, to their first batch, beside the same of
PaddleDetection's trainer; `--what quantize` is `picoquant quantize`, calibrated on them, to the first batch, alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CONTENDERS = ("PaddleDetection", "picoquant")
CONFIG = "picodet_s_416_coco_npu.yml"
BOXES, CLASSES = 7.2, 80  # boxes an image, as in train2017
_LINKS = 30000  # names of one file, which a file system limits
_SIZES = ((640, 480), (640, 427), (480, 640), (500, 375))  # width, height of images, pixels
ANNOTATIONS, IMAGES, HELD_OUT = "instances.json", "images", "held_out.json"
RUN = "run"  # folder of an exported network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=120000)
    parser.add_argument("--turns", type=int, default=5, help="starts of each")
    parser.add_argument("--workers", type=int, default=2, help="processes that read images")
    parser.add_argument("--folder", type=Path, help="keep the data set here, or take the one that is here")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--what", choices=("train", "eval", "quantize"), default="train", help="work to start"
    )
    parser.add_argument("--only", choices=CONTENDERS, help="start one and print JSON; with --folder")
    parser.add_argument("--profile", action="store_true", help="print where picoquant's time goes")
    options = parser.parse_args()
    if options.only:
        start(options)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "data"
        if not (folder / ANNOTATIONS).is_file():
            write_data_set(folder, options.images)
        if options.what != "train" and not (folder / RUN).is_dir():
            export_network(folder)
        rows = measured(folder, options.turns, options.workers, options.profile, options.what)
    if options.json:
        print(json.dumps(rows))
        return
    for name, row in rows.items():
        if "failed" in row:
            print(f"{name:16} not measured: {row['failed']}")
        else:
            print(
                f"{name:16} {row['wall']:6.2f} s, {row['cpu']:6.2f} s of CPU, at most {row['megabytes']:.0f} MB"
            )


def measured(
    folder: Path, turns: int, workers: int, profile: bool = False, what: str = "train"
) -> dict[str, dict[str, Any]]:
    """Of each contender the medians of its starts, `wall`, `cpu` and `megabytes`; or why it `failed`."""
    contenders = CONTENDERS if what != "quantize" else CONTENDERS[1:]
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    rows: dict[str, dict[str, Any]] = {}
    for _ in range(turns):
        for name in contenders:
            if name in rows:
                continue
            command = [sys.executable, __file__, "--only", name, "--folder", str(folder)]
            command += ["--workers", str(workers), "--what", what, *(["--profile"] if profile else [])]
            began = time.time()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                rows[name] = {"failed": (done.stderr.strip().splitlines() or ["it said nothing"])[-1]}
                continue
            if profile:
                print(done.stdout)
            found = json.loads(done.stdout.splitlines()[-1])
            found["wall"] = found.pop("at") - began
            taken[name].append(found)
    for name, found in taken.items():
        if found and name not in rows:
            rows[name] = {key: statistics.median(one[key] for one in found) for key in found[0]}
    return rows


def write_data_set(folder: Path, images: int) -> None:
    """An annotation file of so many images, one of the first fifty to evaluate on, and the images as links."""
    import cv2
    import numpy as np

    random = np.random.default_rng(0)
    (folder / IMAGES).mkdir(parents=True)
    firsts: dict[int, Path] = {}
    numbers = np.sort(random.choice(581929, images, replace=images > 581929)).tolist()
    if images > 581929:
        numbers = list(range(1, images + 1))
    listed = []
    for place, number in enumerate(numbers):
        kind, group = place % len(_SIZES), place // _LINKS
        path = folder / IMAGES / f"{number:012d}.jpg"
        width, height = _SIZES[kind]
        key = kind + len(_SIZES) * group
        if key in firsts:
            os.link(firsts[key], path)
        else:
            rough = random.integers(0, 256, (height // 16, width // 16, 3), dtype="uint8")
            cv2.imwrite(str(path), cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC))
            firsts[key] = path
        listed.append((number, width, height))
    _write(folder / ANNOTATIONS, listed, random)
    _write(folder / HELD_OUT, listed[:50], random)


def _write(path: Path, images: list[tuple[int, int, int]], random: Any) -> None:
    head = {"description": "generated, like COCO's instances_train2017.json", "version": "1.0"}
    categories = [{"supercategory": "thing", "id": n + 1, "name": f"class {n + 1}"} for n in range(CLASSES)]
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(f'{{"info": {json.dumps(head)}, "licenses": [], "images": [')
        for place, (number, width, height) in enumerate(images):
            name = f"{number:012d}.jpg"
            entry = {
                "license": 3, "file_name": name, "coco_url": f"http://images.example/train/{name}", "height": height,
                "width": width, "date_captured": "2013-11-14 11:18:45",
                "flickr_url": f"http://pictures.example/8419/{number}_3a1.jpg", "id": number,
            }  # fmt: skip
            stream.write((", " if place else "") + json.dumps(entry))
        stream.write('], "annotations": [')
        for place, entry in enumerate(_objects(images, random)):
            stream.write((", " if place else "") + json.dumps(entry))
        stream.write(f'], "categories": {json.dumps(categories)}}}\n')


def _objects(images: list[tuple[int, int, int]], random: Any) -> Iterator[dict[str, Any]]:
    import numpy as np

    counts, number = random.poisson(BOXES, len(images)), 100
    for (image, width, height), count in zip(images, counts.tolist()):
        start = random.random((count, 2)) * (0.6 * width, 0.6 * height)
        sides = (0.02 + 0.38 * random.random((count, 2))) * (width, height)
        around = random.random((count, 44))
        for (x, y), (w, h), places, label, chance in zip(
            start.tolist(),
            sides.tolist(),
            around,
            random.integers(0, CLASSES, count).tolist(),
            random.random(count),
        ):
            number += 1
            crowd = chance < 0.01
            corners = np.round(places * np.tile((w, h), 22) + np.tile((x, y), 22), 2).tolist()
            outline = {"counts": list(range(1, 40)), "size": [height, width]} if crowd else [corners]
            yield {
                "segmentation": outline, "area": round(w * h * 0.6, 4), "iscrowd": int(crowd), "image_id": image,
                "bbox": [round(one, 2) for one in (x, y, w, h)], "category_id": label + 1, "id": number,
            }  # fmt: skip


class _Stop(BaseException):
    """The first batch is there."""


def start(options: argparse.Namespace) -> None:
    """Start one contender and print when its first batch was there, the CPU seconds used and the largest memory."""
    import cProfile
    import pstats

    sys.dont_write_bytecode = (
        False  # modules are compiled in the first start, as those of an installed package are
    )
    begin = start_paddledetection if options.only == "PaddleDetection" else start_picoquant
    profile = cProfile.Profile()
    out = os.dup(1)
    os.dup2(2, 1)
    if options.profile:
        profile.enable()
    with tempfile.TemporaryDirectory() as scratch:
        with suppress(_Stop):
            begin(options, scratch)
        at, used = time.time(), resource.getrusage(resource.RUSAGE_SELF)
        profile.disable()
        os.dup2(out, 1)
        if options.profile:
            pstats.Stats(profile, stream=sys.stdout).sort_stats("cumtime").print_stats(60)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime + children.ru_utime + children.ru_stime
        print(json.dumps({"at": at, "cpu": cpu, "megabytes": used.ru_maxrss / 1024}))
        sys.stdout.flush()


def start_picoquant(options: argparse.Namespace, scratch: str) -> None:
    """`picoquant train`, `eval` or `quantize`, which is stopped when the first batch is there."""
    from picoquant.cli.main import cli
    from picoquant.data.readers.reader import EvalReader, TrainReader

    kind, name = {
        "train": (TrainReader, "epoch"), "eval": (EvalReader, "__iter__"), "quantize": (EvalReader, "endless"),
    }[options.what]  # fmt: skip
    batches = getattr(kind, name)

    def stopped(self: Any, *arguments: Any, **more: Any) -> Any:
        next(iter(batches(self, *arguments, **more)))
        raise _Stop

    setattr(kind, name, stopped)
    run = Path(scratch) / RUN
    if options.what != "train":
        shutil.copytree(options.folder / RUN, run)
    words = [options.what, "--config", CONFIG, "--save-dir", str(run), "--quiet"]
    words += ["--model-dir", str(run / "export")] if options.what == "eval" else []
    held_out = ANNOTATIONS if options.what == "eval" else HELD_OUT
    cli([*words, *_changes(options.folder, held_out, options.workers)], standalone_mode=False)


def _changes(folder: Path, held_out: str, workers: int) -> list[str]:
    changes = [f"worker_num={workers}", "pretrain_weights="]
    for section, file in (("TrainDataset", ANNOTATIONS), ("EvalDataset", held_out)):
        places = {"dataset_dir": folder, "image_dir": IMAGES, "anno_path": file}
        changes += [f"{section}.{key}={value}" for key, value in places.items()]
    return [part for change in changes for part in ("--set", change)]


def export_network(folder: Path) -> None:
    """An exported network of this many classes, as it is before training."""
    import paddle

    import picoquant
    from picoquant.cli.main import cli

    with tempfile.TemporaryDirectory() as scratch:
        weights = f"{scratch}/begin.pdparams"
        paddle.save(picoquant.build_detector(CONFIG, num_classes=CLASSES).state_dict(), weights)
        words = ["export", "--config", CONFIG, "--save-dir", f"{scratch}/{RUN}", "--quiet"]
        changes = _changes(folder, HELD_OUT, 0)
        cli([*words, *changes, "--set", f"Global.weights={weights}"], standalone_mode=False)
        shutil.copytree(f"{scratch}/{RUN}", folder / RUN)


def start_paddledetection(options: argparse.Namespace, scratch: str) -> None:
    """PaddleDetection's `Trainer` and its loader."""
    import paddle
    from ppdet.core.workspace import load_config
    from ppdet.engine import Trainer

    paddle.set_device("cpu")
    config = load_config(str(ROOT / "configs" / CONFIG))
    config.update(num_classes=CLASSES, worker_num=options.workers, use_gpu=False, save_dir=scratch)
    held_out = ANNOTATIONS if options.what == "eval" else HELD_OUT
    for section, file in (("TrainDataset", ANNOTATIONS), ("EvalDataset", held_out)):
        place = config[section]
        place.dataset_dir, place.image_dir, place.anno_path = str(options.folder), IMAGES, file
    trainer = Trainer(config, mode=options.what)
    next(iter(trainer.loader))
    raise _Stop


if __name__ == "__main__":
    main()

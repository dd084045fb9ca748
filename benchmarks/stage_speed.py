"""Seconds of one piece of work as a user starts it, as JSON; `python -m benchmarks.speed` calls it by turns.

    python benchmarks/stage_speed.py run                           the README's five lines
    python benchmarks/stage_speed.py ptq                           the stage `quantize` alone, 64 images at 416
    python benchmarks/stage_speed.py evaluation --run output/bccd --stage quantize
    python benchmarks/stage_speed.py prepare --out runs/           runs of the networks for runtime_speed.py

`run` and `ptq` take bccd and the weights from the shared material beside the project (`--shared`). CPU seconds are
those of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
NETWORKS = {
    "s_npu": "picodet_s_416_coco_npu.yml",
    "xs": "picodet_xs_416_coco_lcnet.yml",
    "s": "picodet_s_416_coco_lcnet.yml",
    "s_esnet": "legacy_model/picodet_s_416_coco.yml",
}
CALIBRATED = 64  # images of the measured PTQ
BATCH = 8  # of the shipped reader, which training takes its steps by; it calibrates on 8 of them
LEVEL = 6  # zlib's, that of packages
PACKAGED = "s_npu_packaged"  # a run whose model files of all targets can hold: without zero points
# Trained weights of the shared material; a network without any begins with its random ones.
TRAINED = {
    "s_npu": "picodet_s_npu_bccd.pdparams",
    "xs": "picodet_xs_320_coco_lcnet.pdparams",
    "s_esnet": "picodet_s_320_coco.pdparams",
}
COCO, BCCD = 80, 3  # classes


def classes_of(network: str) -> int:
    """How many classes a network of `prepare` has."""
    return COCO if network in TRAINED and network != "s_npu" else BCCD


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", choices=("run", "ptq", "evaluation", "prepare"))
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the shared material")
    parser.add_argument("--run", type=Path, help="a finished run, for `evaluation`")
    parser.add_argument("--stage", default="quantize", help="whose model, for `evaluation`")
    parser.add_argument("--out", type=Path, help="folder for the runs of `prepare`")
    options = parser.parse_args()
    works = {"run": whole_run, "ptq": ptq, "evaluation": evaluation, "prepare": prepare}
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    print(json.dumps(works[options.work](options)), file=said)


def recipe(shared: Path, size: int, more: str = "") -> str:
    """A recipe of bccd, with its weights."""
    cells = f"dataset_dir: {shared / 'datasets' / 'bccd'}, image_dir: JPEGImages"
    return f"""
_BASE_: picodet_s_qat_dis.yaml
Global: {{weights: {shared / "weights" / "picodet_s_npu_bccd.pdparams"}, input_size: [{size}, {size}]}}
TrainDataset: {{{cells}, anno_path: instances_train.json}}
EvalDataset: {{{cells}, anno_path: instances_val.json}}
{more}
"""


def whole_run(options: argparse.Namespace) -> dict[str, Any]:
    """`picoquant run` of the README's recipe in its own process: `wall`, `cpu`, and `parts`, what each stage took."""
    text = recipe(options.shared.resolve(), 320, "TrainConfig: {train_iter: 60, eval_iter: 30}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        seconds = _run(text, folder, "package")
        stages = json.loads((folder / "run.json").read_text(encoding="utf-8"))["stages"]
        files = work_of_packages(folder)
    parts = {
        name: {
            "seconds": stages[name]["seconds"],
            "idle": max(
                0.0, 1 - stages[name]["cpu_seconds"] / (stages[name]["seconds"] * stages[name]["cpus"])
            ),
        }
        for name in ("train", "export", "quantize", "evaluate", "package")
        if "cpu_seconds" in stages.get(name, {})
    }
    train, held_out = (pixels_of(options.shared, part) for part in ("train", "val"))
    training = stages["quantize"]["metrics"]
    return {
        **seconds, "parts": parts, "mAP": stages["evaluate"]["metrics"]["int8"]["mAP"],
        # What the bound is of, see benchmarks/speed/bounds.py.
        "pixels": sum(train) + sum(held_out), "calibrated": min(8 * BATCH, len(train)), "steps": training["steps"],
        "batch": BATCH, "evaluated": len(held_out), "evaluations": len(training["evaluations"]), **files,
    }  # fmt: skip


def pixels_of(shared: Path, part: str) -> list[int]:
    """Those of each image of a part of bccd."""
    file = shared / "datasets" / "bccd" / f"instances_{part}.json"
    return [one["width"] * one["height"] for one in json.loads(file.read_text(encoding="utf-8"))["images"]]


def work_of_packages(run: Path) -> dict[str, float]:
    """What a run's packages take at least.

    Returns: `bytes_read` of the models that they are made of, `bytes_written` of all their files, and `packing`, the
        seconds that nothing but packing these takes, on all threads.
    """
    models = [path for stage in ("export", "quantize") for path in (run / stage).glob("*") if path.is_file()]
    packed = [path.read_bytes() for path in (run / "package").glob("*/**/*") if path.is_file()]
    packed.sort(key=len, reverse=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        began = time.perf_counter()
        list(pool.map(zlib.compress, packed, [LEVEL] * len(packed)))
        seconds = time.perf_counter() - began
    return {
        "bytes_read": sum(path.stat().st_size for path in models),
        "bytes_written": sum(map(len, packed)),
        "packing": seconds,
    }


def ptq(options: argparse.Namespace) -> dict[str, Any]:
    """The stage `quantize` by PTQ, 64 images at 416: `wall` and `cpu` as run.json has them."""
    text = recipe(
        options.shared.resolve(), 416, f"Quantize: {{method: ptq}}\nCalibration: {{count: {CALIBRATED}}}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        _run(text, folder, "quantize")
        stage = json.loads((folder / "run.json").read_text(encoding="utf-8"))["stages"]["quantize"]
    calibrated, held_out = pixels_of(options.shared, "train")[:CALIBRATED], pixels_of(options.shared, "val")
    pixels = sum(calibrated) + sum(held_out)
    return {
        "wall": stage["seconds"], "cpu": stage.get("cpu_seconds"), "images": CALIBRATED, "pixels": pixels,
        "evaluated": len(held_out),
    }  # fmt: skip


def _run(text: str, folder: Path, until: str) -> dict[str, float]:
    import resource

    from run_command import run_command

    config = folder.with_suffix(".yaml")
    config.write_text(text, encoding="utf-8")
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(run_command(str(config), folder, until, []), check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def evaluation(options: argparse.Namespace) -> dict[str, Any]:
    """A run's model over its images, the second time of two: `wall`, `images` and their `pixels`."""
    from limit import evaluation as evaluated

    images, pixels, seconds = evaluated(options.run, options.stage)
    return {"wall": seconds, "images": images, "pixels": pixels}


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """A run of each network up to INT8 for ONNX Runtime, by PTQ on 8 images; made where it is not there.

    One more of S-NPU is for packages. S-NPU is bccd's and is evaluated, too; XS and S with ESNet are COCO's; S with
    LCNet begins with random weights.
    """
    from picoquant import build_detector
    from picoquant.weight_files.files import write_weights

    shared = options.shared.resolve()
    runs = {name: (name, config, "generic_onnx") for name, config in NETWORKS.items()}
    runs[PACKAGED] = ("s_npu", NETWORKS["s_npu"], "rv1126")
    for run, (name, config, target) in runs.items():
        folder = options.out / run
        if (folder / "quantize").is_dir():
            continue
        options.out.mkdir(parents=True, exist_ok=True)
        if name in TRAINED:
            weights = shared / "weights" / TRAINED[name]
        else:
            weights = options.out / f"{name}.pdparams"
            write_weights(build_detector(config, num_classes=classes_of(name)).state_dict(), weights)
        train = val = f"dataset_dir: {shared / 'datasets' / 'bccd'}, image_dir: JPEGImages"
        files = ("instances_train.json", "instances_val.json")
        if classes_of(name) == COCO:
            train, val = (
                f"dataset_dir: {shared / 'datasets' / one}, image_dir: images"
                for one in ("coco600", "coco465")
            )
            files = ("instances.json", "instances.json")
        text = f"""
_BASE_: picodet_s_qat_dis.yaml
Global: {{config: {config}, weights: {weights}, input_size: [416, 416]}}
TrainDataset: {{{train}, anno_path: {files[0]}}}
EvalDataset: {{{val}, anno_path: {files[1]}}}
Quantize: {{method: ptq}}
Calibration: {{count: 8}}
Package: {{target: {target}}}
"""
        _run(text, folder, "quantize")
    return {run: str(options.out / run) for run in runs}


if __name__ == "__main__":
    main()

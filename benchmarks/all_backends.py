"""One network on every runtime as results: mAP and fidelity from `picoquant eval`, latency on an idle machine.

    picoquant eval --backend all --threads 1 --save-dir output/bccd
    python -m benchmarks.all_backends record --run bccd_s_npu=output/bccd --run coco465_xs=output/xs
    python -m benchmarks.all_backends time --run bccd_s_npu=output/bccd --run coco465_xs=output/xs
    make results

`record` writes results/backends_NAME_BACKEND.yaml of a run's `backends/results.json`, but for latencies: these are
written by `time`, which wants the machine for itself and uses one thread. Simulators of boards (rknn) have no times.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import busy_share
from benchmarks.results.record import FOLDER, load_results
from benchmarks.runtime_speed import measured
from picoquant.storage.files import write_text

COCO = {
    "name": "coco465 of COCO val2017",
    "images": 465,
    "input": 320,
    "calibration": "64 of coco600's images",
}
PUBLISHED = "the published ones, trained on COCO train2017"
RUNS: Mapping[str, Mapping[str, Any]] = {
    "bccd_s_npu": {
        "model": "PicoDet-S-NPU",
        "weights": "trained on BCCD by PaddleDetection's own trainer, whose evaluation says 0.3402",
        "data": {"name": "BCCD val", "images": 87, "input": 320, "calibration": "64 training images"},
    },
    "coco465_xs": {"model": "PicoDet-XS 320 (LCNet, 2022)", "weights": PUBLISHED, "data": COCO},
    "coco465_s": {"model": "PicoDet-S 320 (ESNet, 2021.10)", "weights": PUBLISHED, "data": COCO},
}
NOT_TIMED = ("rknn", "dygraph")
IDLE = 0.05  # of the processors that others may take in the seconds before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("record", "time"))
    parser.add_argument(
        "--run", required=True, action="append", metavar="NAME=DIR", help=f"{', '.join(RUNS)}"
    )
    parser.add_argument("--commit", default="unknown", help="with record: that brought the figures")
    parser.add_argument("--calls", type=int, default=200, help="with time: of each model")
    options = parser.parse_args()
    for name, folder in (text.split("=", 1) for text in options.run):
        if name not in RUNS:
            parser.error(f"--run: unknown name {name}; known: {', '.join(RUNS)}")
        if options.what == "record":
            record(name, Path(folder), options.commit)
        else:
            take_times(name, Path(folder), options.calls)


def record(name: str, run: Path, commit: str) -> None:
    """A file for each backend that ran the INT8 model."""
    found = json.loads((run / "backends" / "results.json").read_text(encoding="utf-8"))
    rows = found["backends"]
    for row_name, row in rows.items():
        if row["precision"] != "int8" or row["backend"].startswith(("simulation", "emulator")):
            continue
        pair, fidelity = found["paired"][row_name], found["fidelity"][row_name]
        fp32 = rows.get(row_name.removesuffix("int8") + "fp32")
        assert found["images"] == RUNS[name]["data"]["images"], "not all images were evaluated"
        values = {
            **RUNS[name],
            "scheme": "PTQ, a scale a channel",
            "runtime": row["backend"],
            "target": None,
            "fp32": "unknown" if fp32 is None else {"mAP": round(fp32["mAP"], 4)},
            "int8": {"mAP": round(row["mAP"], 4)},
            "difference": _around(pair["difference"], pair["interval_95"], 4),
            "fidelity": _around(fidelity["value"], fidelity["interval_95"], 3),
            "size": {"files": row["bytes"]},
            "latency": "unknown",
            "machine": "AMD EPYC with AVX-512 VNNI",
            "versions": "unknown",
            "command": f"picoquant eval --backend paddle --backend {row['backend']} --threads 1",
            "date": datetime.date.today().isoformat(),
            "commit": commit,
        }
        file = _file(name, row["backend"])
        if file.is_file():  # what was timed stays
            before = yaml.safe_load(file.read_text(encoding="utf-8"))
            values |= {key: before[key] for key in ("latency", "machine")}
        _write(file, values)


def take_times(name: str, run: Path, calls: int) -> None:
    """Measure on this machine and write into the files that `record` has written, with how busy it was before."""
    files = {
        one.runtime[0]: FOLDER / f"{key}.yaml"
        for key, one in load_results().items()
        if key.startswith(f"backends_{name}_")
    }
    busy = busy_share(3)
    state = "idle" if busy < IDLE else f"not idle ({busy:.0%} of it taken by others)"
    rows = measured(run, [backend for backend in files if backend not in NOT_TIMED], 1, calls)
    for backend, file in files.items():
        times = {row["precision"]: row["milliseconds"] for row in rows if row["backend"] == backend}
        if times:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
            values["latency"] = {f"{precision}, ms": ms for precision, ms in times.items()}
            values["machine"] = f"{_processor()}, {state}, 1 thread"
            _write(file, values)


def _around(value: float, interval: list[float], digits: int) -> dict[str, float]:
    low, high = (round(end, digits) for end in interval)
    value = round(value, digits)
    return {"value": value, "low": min(low, value), "high": max(high, value)}


def _file(name: str, backend: str) -> Path:
    return FOLDER / f"backends_{name}_{backend.replace('-', '_')}.yaml"


def _write(path: Path, values: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(values), sort_keys=False, width=120, allow_unicode=True)
    write_text(path, text)
    print(f"written: {path.name}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()

"""What the machine can do, measured once and kept in `--work`, as it takes minutes."""

from __future__ import annotations

import argparse
import json

from benchmarks.speed.bounds import SMALL, SMALL_SIZE
from benchmarks.speed.turns import run
from benchmarks.speed.works import SIZE
from benchmarks.stage_speed import NETWORKS, classes_of
from picoquant.storage.files import write_text


def image_bound(network: str, threads: int, options: argparse.Namespace) -> float | None:
    """Least seconds of an image in INT8, of a network of stage_speed.py; kept in --work for the next call."""
    kept = options.work / "image_bounds.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    key = f"{network}, {threads}"
    if key not in found:
        words = ["--config", NETWORKS[network], "--classes", str(classes_of(network)), "--size", str(SIZE)]
        said = run(("limit.py", "--json", *words, "--threads", str(threads)))
        bounds = {row["name"]: row["bound"] for row in said["workloads"]}
        found[key] = bounds.get("one image, int8")  # None where the processor has no such instructions
        write_text(kept, json.dumps(found, indent=1) + "\n")
    return found[key]


def measured_bounds(options: argparse.Namespace) -> dict[str, float]:
    """Least seconds by work, and rates; kept in --work for the next call.

    `jpegs` are pixels decoded a second, `files, …` those of `FileRates`.
    """
    kept = options.work / "bounds.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if "files, json" not in found:  # kept by a version that did not measure it
        found = {}
        for begin, size in (("", SIZE), (SMALL, SMALL_SIZE)):
            said = run(("limit.py", "--json", "--size", str(size), "--threads", str(options.threads)))
            found.update({begin + row["name"]: row["bound"] for row in said["workloads"]})
        found["jpegs"] = said["machine"]["jpegs"]
        found.update(
            {f"files, {name}": rate for name, rate in said["files"].items() if isinstance(rate, float)}
        )
        write_text(kept, json.dumps(found, indent=1) + "\n")
    return found

"""The quickstart on this processor, seed by seed, with one and two threads, with and without its newest instructions.

    python benchmarks/quickstart.py --out runs/                             the whole matrix, 32 runs
    python benchmarks/quickstart.py --out runs/ --seeds 0,1 --threads 1     a part of it

Each is a `picoquant run --config quickstart.yaml` in a process of its own, one after the other. What is finished in
`--out` is not done again. A table is printed, then the least FP32 mAP, the spread (largest less smallest) and INT8's
largest difference to FP32; the rows go to `quickstart.json` in `--out`, too. `isa` is oneDNN's
`ONEDNN_MAX_CPU_ISA`: `AVX2` is a processor without AVX-512 and VNNI, `native` what this one has.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

from run_command import run_command

NATIVE = "native"
STAGES = ("train", "export", "quantize", "evaluate", "package")


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=_numbers, default=list(range(8)), help="separated by commas")
    parser.add_argument("--threads", type=_numbers, default=[2, 1], help="separated by commas")
    parser.add_argument("--isa", type=lambda text: text.split(","), default=[NATIVE, "AVX2"])
    parser.add_argument("--until", choices=STAGES, default="package", help="last stage of each run")
    options = parser.parse_args()
    rows = matrix(options.out, options.seeds, options.threads, options.isa, options.until)
    print(summary(rows))


def matrix(
    out: Path, seeds: list[int], threads: list[int], isas: list[str], until: str = "package"
) -> list[dict[str, Any]]:
    """The rows of all combinations; each is printed when it is there."""
    rows = []
    out.mkdir(parents=True, exist_ok=True)
    print("| seed | threads | isa | FP32 mAP | INT8 mAP | wall s | CPU s | " + " | ".join(STAGES) + " |")
    for isa in isas:
        for count in threads:
            for seed in seeds:
                rows.append(_one(out.resolve() / f"{seed}_{count}_{isa}", seed, count, isa, until))
                print(_text(rows[-1]), flush=True)
                (out / "quickstart.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """What the matrix is looked at for, in one line."""
    values = [row["fp32"] for row in rows]
    apart = max(abs(row["int8"] - row["fp32"]) for row in rows)
    return (
        f"{len(rows)} runs: least FP32 mAP {min(values):.4f}, spread {max(values) - min(values):.4f}, "
        f"INT8 at most {apart:.4f} from FP32"
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _one(folder: Path, seed: int, threads: int, isa: str, until: str) -> dict[str, Any]:
    kept = folder / "row.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    decided_here = ("ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in decided_here}
    if isa != NATIVE:
        environment["ONEDNN_MAX_CPU_ISA"] = isa
    command = run_command("quickstart.yaml", folder, until, [f"Global.seed={seed}"])
    cpus = os.sched_getaffinity(0)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    os.sched_setaffinity(0, sorted(cpus)[:threads])  # the run inherits it, and has as many threads as CPUs
    try:
        subprocess.run(command, check=True, env=environment)
    finally:
        os.sched_setaffinity(0, cpus)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    stages = json.loads((folder / "run.json").read_text(encoding="utf-8"))["stages"]
    found = stages["evaluate"]["metrics"]
    row = {
        "seed": seed,
        "threads": threads,
        "isa": isa,
        "fp32": found["fp32"]["mAP"],
        "int8": found["int8"]["mAP"],
        "wall": round(wall, 1),
        "cpu": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "stages": {name: stages[name]["seconds"] for name in STAGES if "seconds" in stages.get(name, {})},
    }
    kept.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return row


def _text(row: dict[str, Any]) -> str:
    cells = [str(row["seed"]), str(row["threads"]), row["isa"], f"{row['fp32']:.4f}", f"{row['int8']:.4f}"]
    cells += [f"{row['wall']:.0f}", f"{row['cpu']:.0f}"]
    cells += [f"{row['stages'][name]:.0f}" if name in row["stages"] else "" for name in STAGES]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

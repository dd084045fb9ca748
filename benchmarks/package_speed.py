"""Seconds of packaging a run for several targets: one after the other as if each were the only one, and together.

    python benchmarks/package_speed.py --run output/bccd
    python benchmarks/package_speed.py --run output/bccd --target all --turns 1

`--run` is a finished run (`picoquant run … --until quantize`), which is copied, not touched. Alone, each target is a
`package` stage of its own; together, one stage makes all of them, with what several of them hold made once and their
archives packed beside. Both by turns in this process; medians are printed, by the clock and in CPU seconds (those of
the tools included). That both give the same bytes is compared, too; archives by what is in them.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from stage_speed import work_of_packages  # noqa: E402  a script's neighbour

from picoquant.errors import ToolError  # noqa: E402
from picoquant.packaging.forms import forms_of, tools_of  # noqa: E402
from picoquant.targets.profiles import Target, load_targets  # noqa: E402

TARGETS = ("rv1109", "rv1126", "rk1808", "a311d", "s905d3", "c308x", "imx8mp", "arm_cpu", "generic_onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run with export and quantize")
    parser.add_argument("--target", action="append", help=f"repeatable; default: {', '.join(TARGETS)}")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=("alone", "together"), help="measure one, once, and print JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(once(options.run, options.only, tuple(options.target or TARGETS))))
        return
    found = measured(options.run, tuple(options.target or TARGETS), options.turns)
    if options.json:
        print(json.dumps(found))
        return
    for name, seconds in found["alone_by_target"].items():
        print(f"{name:14} {seconds:6.2f} s alone")
    for name in ("alone", "together"):
        print(f"{name:14} {found[name]['wall']:6.2f} s, {found[name]['cpu']:6.2f} s of CPU")
    print(f"alone / together: {found['alone']['wall'] / found['together']['wall']:.2f} by the clock")


def measured(run: Path, targets: tuple[str, ...], turns: int) -> dict[str, Any]:
    """Medians: `alone` and `together`, each `wall` and `cpu`; `alone_by_target`, wall; `same` bytes.

    The sum of the medians of each target is not the median of the sums, which `alone` is.
    """
    logging.getLogger("picoquant").setLevel(logging.ERROR)
    names = [target.name for target in load_targets(targets) if has_tools(target)]
    by_target: dict[str, list[float]] = {name: [] for name in names}
    alone, together = [], []
    packages: dict[str, dict[str, bytes]] = {}
    for turn in range(turns + 1):  # the first of each loads libraries, and does not count
        sums = [0.0, 0.0]
        for name in names:
            wall, cpu, contents, _ = stage(run, (name,))
            packages.update(contents)
            by_target[name].append(wall)
            sums = [sums[0] + wall, sums[1] + cpu]
        *both, contents, _ = stage(run, tuple(names))
        if contents != packages:
            raise SystemExit("packages made together are not those made alone")
        if turn:
            alone.append(sums)
            together.append(both)
    return {
        "alone": _medians(alone),
        "together": _medians(together),
        "alone_by_target": {name: statistics.median(taken[1:]) for name, taken in by_target.items()},
        "targets": len(names),
    }


def once(run: Path, how: str, targets: tuple[str, ...]) -> dict[str, float]:
    """`wall` and `cpu` of one way, its first time in a process: libraries are loaded in it."""
    logging.getLogger("picoquant").setLevel(logging.ERROR)
    names = tuple(target.name for target in load_targets(targets) if has_tools(target))
    groups = [names] if how == "together" else [(name,) for name in names]
    taken = [stage(run, group) for group in groups]
    found = dict(zip(("wall", "cpu"), map(sum, zip(*(one[:2] for one in taken)))))
    return {**found, **{name: sum(one[3][name] for one in taken) for name in taken[0][3]}}


def has_tools(target: Target) -> bool:
    """Whether this machine can package for it; says so where not."""
    try:
        tools_of(forms_of(target))
    except ToolError as error:
        print(f"{target.name} is left out: {error}", file=sys.stderr)
        return False
    return True


def _medians(taken: list[list[float]]) -> dict[str, float]:
    return {key: statistics.median(column) for key, column in zip(("wall", "cpu"), zip(*taken))}


def stage(
    run: Path, targets: tuple[str, ...]
) -> tuple[float, float, dict[str, dict[str, bytes]], dict[str, float]]:
    """The stage for these targets in a copy of the run: seconds, CPU seconds, hashes of the files made, their work."""
    from picoquant.stages.order import run_recipe
    from picoquant.utils.device import cpu_seconds

    with tempfile.TemporaryDirectory(prefix="picoquant-packages-") as scratch:
        copy = Path(scratch) / "run"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("package", ".work"))
        began, used = time.perf_counter(), cpu_seconds()
        changes = [f"Package.target=[{','.join(targets)}]"]
        run_recipe(None, str(copy), changes, first="package", last="package", force=True)
        wall, cpu = time.perf_counter() - began, cpu_seconds() - used
        manifests = {
            path.parent.name: json.loads(path.read_text(encoding="utf-8"))
            for path in (copy / "package").glob("*/manifest.json")
        }
        counted = work_of_packages(copy)
    return wall, cpu, {name: _hashes(manifest) for name, manifest in manifests.items()}, counted


def _hashes(manifest: dict[str, Any]) -> dict[str, Any]:
    return {name: facts["sha256"] for name, facts in manifest["files"].items()}


if __name__ == "__main__":
    main()

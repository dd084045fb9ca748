"""Every figure of docs/speed.md in one go: each side by turns, medians of at least five, on an idle machine.

    python -m benchmarks.speed --work output/speed                          measure all, print a table
    python -m benchmarks.speed --work output/speed --only training,qat      some of it
    python -m benchmarks.speed --work output/speed --record                 and write results/speed_*.yaml
    python -m benchmarks.speed --work output/speed --before a30e038         picoquant of a commit takes its turns, too

Each turn is a process of its own, of the benchmarks beside this file: `--only picoquant`, then `--only` the peer, then
`picoquant` of the earlier commit, by its own script of that name, by today's where it has none. Between the turns it is
looked how busy others keep the processors; where they take more than a tenth, nothing is recorded. Peers that cannot be
imported are left out, and it is said why: PaddleDetection needs `pip install --no-deps paddledet` (and what it asks
for), PaddleSlim is in the environment of PaddlePaddle 2.6.
Bounds are those of benchmarks/limit.py, taken once at the start. `make results` then writes the page. With `--record`
`growth` and `profiles` draw the page's pictures, too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine import busy_share
from benchmarks.results.speed import LEAST_TURNS, MOST_BUSY, PREFIX, UNITS, Speed
from benchmarks.speed.kept import image_bound, measured_bounds
from benchmarks.speed.turns import BUSY_SECONDS, ROOT, Taken, check_out, earlier, run, turns
from benchmarks.speed.works import BEFORE, NOW, PEER, SIZE, Work, all_works
from benchmarks.stage_speed import NETWORKS
from picoquant.storage.files import write_text
from picoquant.yaml_files.load import dump_yaml


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for runs and data that are made once"
    )
    parser.add_argument("--only", type=lambda text: text.split(","), help="separated by commas; default: all")
    parser.add_argument("--turns", type=int, default=LEAST_TURNS)
    parser.add_argument(
        "--before", metavar="COMMIT", help="an earlier commit, which is checked out in --work"
    )
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the shared material")
    parser.add_argument("--images", type=int, default=120000, help="of the data set that `start` reads")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--record", action="store_true", help="write results/speed_*.yaml")
    parser.add_argument("--list", action="store_true", help="print what there is to measure")
    options = parser.parse_args()
    options.work = options.work.resolve()
    by_hand = {**{f"int8_{name}": int8 for name in NETWORKS}, "processes": processes}
    works: dict[str, Any] = {**all_works(options), **by_hand, **_DRAWN}
    if options.list:
        print("\n".join(works))
        return
    chosen = [name for name in works if name_is_in(name, options.only)]
    unknown = set(options.only or ()) - set(works) - {name.split("_")[0] for name in works}
    if unknown or not chosen:
        raise SystemExit(f"--only {', '.join(sorted(unknown))}: there is {', '.join(works)}")
    if options.record and options.turns < LEAST_TURNS:
        raise SystemExit(f"--record needs at least {LEAST_TURNS} turns")
    options.work.mkdir(parents=True, exist_ok=True)
    bounds = measured_bounds(options) if set(chosen) - set(_DRAWN) else {}
    if options.before:
        check_out(options.before, earlier(options.work))
    for name in chosen:
        if name in _DRAWN:
            _DRAWN[name](options)
        elif name in by_hand:
            tell(works[name](name, bounds, options), options)
        else:
            prepare(name, options)
            tell(speeds(works[name], turns(works[name], options), bounds, options), options)


def name_is_in(name: str, only: Sequence[str] | None) -> bool:
    """Whether a work is asked for; `int8` stands for all that begin so."""
    return only is None or name in only or name.split("_")[0] in only


def speeds(work: Work, taken: Taken, bounds: Mapping[str, float], options: argparse.Namespace) -> list[Speed]:
    """The rows of a work."""
    found = []
    for row in work.rows:
        now = taken.median(row.side, row.key)
        if now is None:
            continue
        theirs = taken.median(PEER, row.key)
        before = taken.median(BEFORE, row.key) if row.side == NOW else None  # which went the way of `NOW`
        last = taken.said[row.side][-1]
        found.append(
            _speed(
                options,
                name=row.name,
                title=row.title,
                unit=row.unit,
                now=now,
                now_cpu=taken.median(row.side, row.cpu),
                peer=None if theirs is None else work.peer,
                theirs=theirs,
                theirs_cpu=taken.median(PEER, row.cpu),
                before=before,
                before_commit=None if before is None else options.before,
                bound=row.bound(bounds, last),
                turns=len(taken.said[row.side]),
                busy=taken.busy,
                command=f"python -m benchmarks.speed --only {row.name.split('_')[0]}",
                parts=_parts(taken.said[row.side]),
            )  # fmt: skip
        )
    return found


def _parts(said: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Medians of what a work is made of, where a script says so."""
    return {
        name: {key: statistics.median(one["parts"][name][key] for one in said) for key in ("seconds", "idle")}
        for name in said[0].get("parts", {})
    }


def int8(name: str, bounds: Mapping[str, float], options: argparse.Namespace) -> list[Speed]:
    """INT8 beside FP32 of one network in ONNX Runtime and OpenVINO, with one thread and with two."""
    prepare("runs", options)
    network = name.removeprefix("int8_")
    found = []
    for threads in (1, 2):
        bound = image_bound(network, threads, options)
        said: list[dict[Any, Any]] = []
        before: list[dict[Any, Any]] = []
        busy = 0.0
        arguments = ["runtime_speed.py", "--run", str(options.work / "runs" / network)]
        arguments += ["--threads", str(threads), "--calls", "100"]
        for _ in range(options.turns):
            for root, into in ((ROOT, said), (earlier(options.work), before)):
                if root is ROOT or options.before:
                    busy = max(busy, busy_share(BUSY_SECONDS))
                    into.append(by_model(run_list(*arguments, root=root)))
        for backend, title in (("onnx", "ONNX Runtime"), ("openvino", "OpenVINO")):
            pairs = [(one.get((backend, "int8")), one.get((backend, "fp32"))) for one in said]
            if any(None in pair for pair in pairs):
                continue
            now, theirs, now_cpu, theirs_cpu = (
                _seconds([pair[side][key] for pair in pairs])
                for key in ("milliseconds", "cpu_milliseconds")
                for side in (0, 1)
            )
            earlier_ones = [
                one[backend, "int8"]["milliseconds"] for one in before if (backend, "int8") in one
            ]
            found.append(
                _speed(
                    options,
                    name=f"int8_{network}_{backend}_{threads}",
                    title=f"an image in INT8, {network.replace('_', '-').upper()} 416, {title}, threads: {threads}",
                    unit="ms",
                    now=now,
                    now_cpu=now_cpu,
                    peer=f"{title}, FP32",
                    theirs=theirs,
                    theirs_cpu=theirs_cpu,
                    before=_seconds(earlier_ones) if earlier_ones else None,
                    before_commit=options.before if earlier_ones else None,
                    bound=bound,
                    turns=len(said),
                    busy=busy,
                    command=f"python -m benchmarks.speed --only {name}",
                )  # fmt: skip
            )
    return found


def processes(name: str, bounds: Mapping[str, float], options: argparse.Namespace) -> list[Speed]:
    """A training step of two processes beside Paddle's own way; the bound is the step of one process with its share."""
    kept = options.work / "processes.json"
    script = ROOT / "benchmarks" / "processes.py"
    if not script.is_file():
        print("processes: not measured: there is no benchmarks/processes.py", flush=True)
        return []
    busy = busy_share(BUSY_SECONDS)
    sizes = ["--size", str(SIZE), "--batch", "8", "--runs", str(options.turns), "--record", str(kept)]
    subprocess.run([sys.executable, str(script), *sizes], check=True, cwd=ROOT)
    busy = max(busy, busy_share(BUSY_SECONDS))
    rows = json.loads(kept.read_text(encoding="utf-8"))["figures"]
    found = {(row["contender"], row["processes"]): row for row in rows}
    one, two = found["picoquant", 1], found["picoquant", 2]
    peer = "paddle.DataParallel"
    theirs = found.get((peer, 2))
    return [
        _speed(
            options,
            name="processes",
            title="training step of two processes, 8 images each (bound: one process with its 8)",
            unit="s", now=two["wall"], now_cpu=two["cpu"], peer=peer if theirs else None,
            theirs=theirs and theirs["wall"], theirs_cpu=theirs and theirs["cpu"], before=None, before_commit=None,
            bound=one["wall"], turns=options.turns, busy=busy, command="python -m benchmarks.speed --only processes",
        )
    ]  # fmt: skip


def by_model(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """What runtime_speed.py prints, by runtime and precision."""
    return {tuple(row["name"].rsplit("_", 1)): row for row in rows}


def _seconds(milliseconds: Sequence[float | None]) -> float | None:
    """The median; None where a runtime does not tell."""
    return None if None in milliseconds else statistics.median(milliseconds) / 1e3


def run_list(*arguments: str, root: Path = ROOT) -> list[dict[str, Any]]:
    """What a script prints as a list; ends the program where it fails."""
    try:
        return run((*arguments, "--json"), root=root)
    except ChildProcessError as error:
        raise SystemExit(f"{arguments[0]}: {error}") from error


def _speed(options: argparse.Namespace, **values: Any) -> Speed:
    return Speed(
        **values, machine=machine(), versions=versions(), date=str(datetime.date.today()), commit=commit()
    )


def prepare(name: str, options: argparse.Namespace) -> None:
    """Runs and data that a work needs, made where they are not there."""
    if name == "runs" or name.startswith(("evaluation_", "packaging")):
        run(
            (
                "stage_speed.py",
                "prepare",
                "--out",
                str(options.work / "runs"),
                "--shared",
                str(options.shared),
            )
        )
    folder = options.work / "many_images"
    if name == "start" and not (folder / "instances.json").is_file():
        from benchmarks.start_speed import write_data_set

        write_data_set(folder, options.images)


def growth(options: argparse.Namespace) -> None:
    """benchmarks/scaling.py, whose points have processes of their own; picture and table of the documentation."""
    command = [sys.executable, str(ROOT / "benchmarks" / "scaling.py"), "--out", str(options.work / "growth")]
    busy = busy_share(BUSY_SECONDS)
    subprocess.run(
        [*command, *(["--picture", str(ROOT / "docs/images/growth.svg")] if options.record else [])],
        check=True,
    )
    busy = max(busy, busy_share(BUSY_SECONDS))
    kinds = json.loads((options.work / "growth" / "scaling.json").read_text(encoding="utf-8"))
    about = {
        "machine": machine(),
        "versions": versions(),
        "date": str(datetime.date.today()),
        "commit": commit(),
    }
    again = {"kinds": kinds, "busy": busy, "command": "python -m benchmarks.speed --only growth"}
    _record("growth", {**again, **about}, busy, options)


def profiles(options: argparse.Namespace) -> None:
    """Where the time of PTQ and of INT8 beside FP32 goes, printed; the pictures of the documentation."""
    prepare("runs", options)
    pictures = ROOT / "docs" / "images" if options.record else options.work
    run_of = ["--run", str(options.work / "runs" / "s_npu"), "--backend", "onnx"]
    for script, words in (
        ("ptq_profile", ["--shared", str(options.shared)]),
        ("runtime_profile", run_of),
    ):
        busy = busy_share(BUSY_SECONDS)
        if options.record and busy > MOST_BUSY:
            print(f"{script}: not drawn, others took {busy:.0%} of the processors", flush=True)
            continue
        picture = ["--out", str(pictures / f"{script}.png")]
        command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), *words, *picture]
        subprocess.run(command, check=True)


def kernels(options: argparse.Namespace) -> None:
    """benchmarks/int8_kernels.py: where an image's time goes in ONNX Runtime, and what INT8 can gain there."""
    prepare("runs", options)
    runs = [
        word
        for name in ("s_npu", "xs", "s", "s_esnet")
        for word in ("--run", str(options.work / "runs" / name))
    ]
    busy = busy_share(BUSY_SECONDS)
    said = run(("int8_kernels.py", *runs, "--rounds", str(options.turns), "--json"))
    busy = max(busy, said["busy"], busy_share(BUSY_SECONDS))
    about = {
        "machine": machine(),
        "versions": versions(),
        "date": str(datetime.date.today()),
        "commit": commit(),
    }
    again = {
        "networks": said["networks"],
        "busy": busy,
        "command": "python -m benchmarks.speed --only kernels",
    }
    print(json.dumps(said["networks"], indent=1), flush=True)
    _record("kernels", {**again, **about}, busy, options)


# What makes pictures or a table of its own, and no rows by turns.
_DRAWN = {"growth": growth, "profiles": profiles, "kernels": kernels}


def tell(found: Sequence[Speed], options: argparse.Namespace) -> None:
    """Print rows, and write them where that is asked for and the machine was idle."""
    for one in found:
        times = UNITS[one.unit]
        peer = "" if one.theirs is None else f", {one.peer} {times * one.theirs:.3g}: {one.ratio:.2f} times"
        before = "" if one.before is None else f", before {times * one.before:.3g}"
        bound = "" if one.reached is None else f", {one.reached:.0%} of the bound"
        print(
            f"{one.title}: {times * one.now:.3g} {one.unit}{peer}{before}{bound}; others took {one.busy:.0%}",
            flush=True,
        )
        _record(
            one.name, {key: value for key, value in asdict(one).items() if key != "name"}, one.busy, options
        )


def _record(name: str, values: Mapping[str, Any], busy: float, options: argparse.Namespace) -> None:
    if not options.record:
        return
    if busy > MOST_BUSY:
        print(f"{name}: not recorded, others took {busy:.0%} of the processors", flush=True)
        return
    rounded = {
        key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in values.items()
    }
    write_text(ROOT / "results" / f"{PREFIX}{name}.yaml", dump_yaml(rounded))


def machine() -> str:
    """The processor, and how many of its threads there are."""
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} threads of {names[0] if names else platform.machine()}"


def versions() -> str:
    """Python and what computes."""
    from importlib.metadata import PackageNotFoundError, version

    said = [f"Python {platform.python_version()}"]
    for name in ("paddlepaddle", "onnxruntime", "openvino", "paddleslim", "paddledet"):
        try:
            said.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(said)


def commit() -> str:
    """The commit that is measured."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


if __name__ == "__main__":
    main()

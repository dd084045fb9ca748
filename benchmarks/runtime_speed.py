"""INT8 against FP32 of one run on several runtimes: taking turns.

    python benchmarks/runtime_speed.py --run output/bccd --backend onnx --backend openvino --threads 1 --threads 2

`--run` is a finished run (`picoquant run … --until quantize`). Models are called one image at a time through
picoquant's own runtimes, in blocks by turns, so that other work on the machine disturbs all alike. Printed are the
median time of a call by the clock and in CPU seconds (of all threads), and the same runtime's FP32 over it; `--json`
as JSON. An input of noise costs what an image costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

_BLOCK = 14  # calls of a model before the next one's turn
_NOT_COUNTED = 4  # of them: the other models' threads may still wait busily


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--run",
        required=True,
        action="append",
        type=Path,
        help="folder of a run with export and quantize; repeatable",
    )
    parser.add_argument("--backend", action="append", help="repeatable; default: onnx and openvino")
    parser.add_argument("--threads", action="append", type=int, help="repeatable; default: 1")
    parser.add_argument("--calls", type=int, default=200, help="of each model")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from machine import busy_share, processor  # a script's neighbour

    backends, found = options.backend or ["onnx", "openvino"], []
    for run in options.run:
        for threads in options.threads or [1]:
            busy = busy_share(1)
            rows = measured(run, backends, threads, options.calls)
            found += [{"run": str(run), "threads": threads, "busy": busy, **row} for row in rows]
            if not options.json:
                print(f"{run}, {threads} threads, {processor()}, {busy:.0%} of it taken by others before")
                print("\n".join(map(_line, rows)), flush=True)
    if options.json:
        print(json.dumps(found))


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['name']:22} {_said(row['milliseconds'])} ms  {_said(row['cpu_milliseconds'])} ms of CPU  "
        f"{_said(row['times_fp32'])} times FP32 by the clock, {_said(row['times_fp32_by_cpu'])} by CPU  "
        f"{row['bytes']:>9} bytes"
    )


def _said(value: float | None) -> str:
    return "      -" if value is None else f"{value:7.2f}"


def measured(run: Path, backends: list[str], threads: int, calls: int) -> list[dict[str, Any]]:
    """A row for each backend and precision that it takes, FP32 first.

    Of a runtime in a process of its own the time is that of the network alone. CPU milliseconds are None where the
    runtime does not tell them (Paddle Lite), ratios where there is no FP32.
    """
    from picoquant.backends.base import Machine, load_backend
    from picoquant.commands.compare_runtimes import models_here
    from picoquant.runtimes.backends import opened
    from picoquant.runtimes.benchmark import noise

    with ExitStack() as stack:
        ready = []
        models = stack.enter_context(models_here(str(run)))
        for backend in map(load_backend, backends):
            for model in models:
                if model.precision in backend.precisions:
                    ready.append(stack.enter_context(opened(model, backend, Machine(threads))))
        feed = noise(ready[0].predict.input_names, models[0].config.input_size, 1)
        taken: list[list[tuple[float, float | None]]] = [[] for _ in ready]
        while len(taken[0]) < calls:
            for index, one in enumerate(ready):
                for turn in range(_BLOCK):
                    times = call_times(one.predict, feed)
                    if turn >= _NOT_COUNTED:
                        taken[index].append(times)
            time.sleep(0.01)
        rows = [
            {
                "name": one.name,
                "backend": one.backend,
                "precision": one.precision,
                "milliseconds": round(1e3 * statistics.median(clock for clock, _ in times), 3),
                "cpu_milliseconds": None
                if times[0][1] is None
                else round(1e3 * statistics.median(cpu for _, cpu in times), 3),
                "bytes": one.bytes,
            }
            for one, times in zip(ready, taken)
        ]
    for row in rows:
        fp32 = next(
            (one for one in rows if (one["backend"], one["precision"]) == (row["backend"], "fp32")), None
        )
        for key, ratio in (("milliseconds", "times_fp32"), ("cpu_milliseconds", "times_fp32_by_cpu")):
            known = fp32 is not None and row[key] is not None
            row[ratio] = round(fp32[key] / row[key], 3) if known else None
    return rows


def call_times(predict: Any, feed: Any) -> tuple[float, float | None]:
    """Seconds of one call by the clock and of the CPU, of the network alone where it is in another process."""
    began, used = time.perf_counter(), time.process_time()
    predict(feed)
    clock, cpu = time.perf_counter() - began, time.process_time() - used
    if hasattr(predict, "network_seconds"):
        return predict.network_seconds, getattr(predict, "network_cpu_seconds", None)
    return clock, cpu


if __name__ == "__main__":
    main()

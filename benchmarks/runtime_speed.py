"""INT8 against FP32 of one run in OpenVINO, beside ONNX Runtime: in one process, taking turns.

    python benchmarks/runtime_speed.py --run output/bccd --backend onnx --backend openvino --threads 1

`--run` is a finished run (`picoquant run … --until quantize`). Models are called one image at a time through
picoquant's own runtimes, in blocks by turns, so that other work on the machine disturbs all alike. Printed are the
median time of a call by the clock and in CPU seconds (of all threads), and the same runtime's FP32 over it; `--json`
as JSON. An input of noise costs what an image costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

_BLOCK = 14  # calls of a model before the next one's turn
_NOT_COUNTED = 4  # of them: the other models' threads may still wait busily


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="folder of a run with export and quantize")
    parser.add_argument("--backend", action="append", help="repeatable; default: onnx and openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calls", type=int, default=200, help="of each model")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measured(options.run, options.backend or ["onnx", "openvino"], options.threads, options.calls)
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            f"{row['name']:16} {row['milliseconds']:7.2f} ms  {row['cpu_milliseconds']:7.2f} ms of CPU  "
            f"{row['times_fp32']:5.2f} times FP32 by the clock, {row['times_fp32_by_cpu']:5.2f} by CPU  "
            f"{row['bytes']:>9} bytes"
        )


def measured(run: Path, backends: list[str], threads: int, calls: int) -> list[dict[str, Any]]:
    """A row for each backend and precision, FP32 first."""
    from picoquant.backends.base import Machine, load_backend
    from picoquant.paddle_program.model_folder import ModelFolder
    from picoquant.runtimes.backends import opened
    from picoquant.runtimes.benchmark import noise
    from picoquant.runtimes.model import model_of_folder

    with ExitStack() as stack:
        ready = []
        for name in backends:
            for folder in ("export", "quantize"):
                model = model_of_folder(ModelFolder.open(run / folder))
                ready.append(stack.enter_context(opened(model, load_backend(name), Machine(threads))))
        feed = noise(ready[0].predict.input_names, model.config.input_size, 1)
        wall: list[list[float]] = [[] for _ in ready]
        cpu: list[list[float]] = [[] for _ in ready]
        while len(wall[0]) < calls:
            for index, one in enumerate(ready):
                for turn in range(_BLOCK):
                    began, used = time.perf_counter(), time.process_time()
                    one.predict(feed)
                    if turn >= _NOT_COUNTED:
                        cpu[index].append(time.process_time() - used)
                        wall[index].append(time.perf_counter() - began)
            time.sleep(0.01)
        rows = []
        for index, one in enumerate(ready):
            clock, seconds = statistics.median(wall[index]), statistics.median(cpu[index])
            fp32 = index - index % 2
            rows.append(
                {
                    "name": one.name,
                    "milliseconds": round(1e3 * clock, 3),
                    "cpu_milliseconds": round(1e3 * seconds, 3),
                    "times_fp32": round(statistics.median(wall[fp32]) / clock, 3),
                    "times_fp32_by_cpu": round(statistics.median(cpu[fp32]) / seconds, 3),
                    "bytes": one.bytes,
                }
            )
        return rows


if __name__ == "__main__":
    main()

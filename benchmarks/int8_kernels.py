"""What INT8 can gain in ONNX Runtime: an image's time in FP32 and in INT8, by kinds of kernels.

    python benchmarks/int8_kernels.py --run output/bccd --run output/xs

`--run` is a finished run (`picoquant run … --until quantize`). Both models are profiled by turns, `--rounds` times, on
`--threads`; a kind's time is the median over the rounds of the sum of its kernels, each the median of its calls
(`runtime_profile.py`). ONNX Runtime's own clock adds some microseconds to each kernel. `least` is what the network's
multiply-accumulates in dense convolutions take at the best rate of this machine in that precision (`machine.py`);
`at most` is FP32 over INT8 if they took no longer, and all other kernels what they take. `--json` as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from machine import busy_share, convolution_rate, processor  # noqa: E402  a script's neighbour
from runtime_profile import Layer, in_onnx_runtime  # noqa: E402

KINDS = ("dense", "depthwise", "single", "other")
_SINGLE = (
    "QLinearMul",
    "QLinearAdd",
    "QLinearSigmoid",
    "Clip",
    "Mul",
    "Add",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--run", required=True, action="append", type=Path, help="folder of a run; repeatable"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=60, help="of a model in a round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    busy, rate = busy_share(1), convolution_rate("int8", options.threads)
    found = {}
    for run in options.run:
        found[run.name] = measured(run, options, rate)
        if not options.json:
            print(
                f"{run}, threads: {options.threads}, {processor()}, {busy:.0%} of it taken by others before"
            )
            print("\n".join(lines(found[run.name])), flush=True)
    if options.json:
        print(json.dumps({"busy": busy, "rate": rate, "networks": found}))


def measured(run: Path, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """Seconds of an image by precision and kind, and `least`, of dense convolutions in INT8."""
    from picoquant.backends.base import MACHINE, load_backend
    from picoquant.backends.source import Source
    from picoquant.commands.compare_runtimes import models_here

    backend = load_backend("onnx")
    taken: dict[str, list[dict[str, float]]] = {"fp32": [], "int8": []}
    with models_here(str(run)) as models, tempfile.TemporaryDirectory(prefix="picoquant-kernels-") as folder:
        scratch = Path(folder)
        for model in models:
            tool = backend.toolchain.find(MACHINE)
            backend.export.export(Source(model.folder), scratch / model.precision, tool)
        for _ in range(options.rounds):
            for precision, rounds in taken.items():
                path = scratch / f"{precision}.onnx"
                rounds.append(by_kind(in_onnx_runtime(path, scratch, options.threads, options.calls)))
        macs = dense_macs(scratch / "fp32.onnx")
    of_kind = {
        precision: {kind: round(statistics.median(one[kind] for one in rounds), 7) for kind in KINDS}
        for precision, rounds in taken.items()
    }
    return {**of_kind, "least": round(macs / rate, 7)}


def dense_macs(path: Path) -> int:
    """Multiply-accumulates of a model's convolutions that are not grouped, without what a runtime adds to them."""
    import onnx

    from picoquant.backends.onnx.graph import Graph, attribute

    graph = Graph(onnx.load(path))
    return sum(
        graph.constants[node.input[1]].size * int(np.prod(graph.shapes[node.output[0]][2:]))
        for node in graph.nodes
        if node.op_type == "Conv" and attribute(node, "group", 1) == 1
    )


def by_kind(layers: Iterable[Layer]) -> dict[str, float]:
    """Seconds of each kind."""
    found = dict.fromkeys(KINDS, 0.0)
    for layer in layers:
        found[kind_of(layer)] += layer.seconds
    return found


def kind_of(layer: Layer) -> str:
    """`dense`, `depthwise`: convolutions; `single`: of each value alone, gates as convolutions, too; or `other`."""
    if layer.kind == "depthwise, 1x1" or layer.kind in _SINGLE:
        return "single"
    kind = layer.kind.split(",")[0]
    return kind if kind in KINDS else "other"


def at_most(network: Mapping[str, Any]) -> float:
    """FP32 over INT8 with dense convolutions at the machine's best rate."""
    fp32, int8 = (sum(network[precision].values()) for precision in ("fp32", "int8"))
    return fp32 / (int8 - network["int8"]["dense"] + network["least"])


def lines(network: Mapping[str, Any]) -> Iterable[str]:
    """What is printed of a network."""
    for precision in ("fp32", "int8"):
        kinds = network[precision]
        said = ", ".join(f"{kind} {1e3 * kinds[kind]:.2f}" for kind in KINDS)
        yield f"  {precision}: {1e3 * sum(kinds.values()):.2f} ms of kernels: {said}"
    now = sum(network["fp32"].values()) / sum(network["int8"].values())
    yield f"  dense at least {1e3 * network['least']:.2f} ms: {now:.2f} times now, {at_most(network):.2f} at most"


if __name__ == "__main__":
    main()

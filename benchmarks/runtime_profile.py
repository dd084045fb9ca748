"""Where a model's time goes in ONNX Runtime and OpenVINO: kinds of layers, their rates, and how far from the limit.

    python benchmarks/runtime_profile.py --run output/bccd --threads 1
    python benchmarks/runtime_profile.py --run output/bccd --backend onnx --out docs/images/runtime_profile.png

Both runtimes time each operator themselves. Convolutions are grouped by their kernel: dense ones of one position
(`1x1`), dense ones of larger windows, depthwise ones, and those of one position, which are the gates of written-out
hard-swishes; all else by the runtime's name of its operator. Beside the time stand multiply-accumulates,
those of the channels that kernels add for themselves, too, their rate, and that of the best convolution which this
machine computes in that precision (benchmarks/machine.py). `--layers N` names the longest layers. ONNX Runtime's times
are medians of the calls, OpenVINO's its own means: on a busy machine they hold what else ran.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from machine import convolution_rate, precisions  # noqa: E402  a script's neighbour
from pictures import stacked  # noqa: E402

_WARM = 10  # calls that are not counted
# Kinds of one runtime that have another name in the other, for the picture.
_ALIKE = {
    "ReorderInput": "reorders",
    "ReorderOutput": "reorders",
    "Reorder": "reorders",
    "Transpose": "transposes",
}


@dataclass(frozen=True)
class Layer:
    """An operator as it ran: seconds of a call, and a convolution's multiply-accumulates."""

    name: str
    kind: str
    seconds: float
    macs: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="folder of a run with quantize")
    parser.add_argument("--backend", action="append", choices=("onnx", "openvino"), help="default: both")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--layers", type=int, default=0, metavar="N", help="name the N longest layers")
    parser.add_argument("--out", type=Path, help="a picture of the kinds")
    options = parser.parse_args()
    drawn: dict[str, dict[str, float]] = {}
    rates = {precision: convolution_rate(precision, options.threads) for precision in precisions()}
    for title, precision, layers in profiles(options):
        print(
            f"\n{title}, {precision}, {options.threads} threads: {1e3 * sum(one.seconds for one in layers):.2f} ms"
        )
        for line in by_kind(layers, rates[precision]):
            print(line)
        kinds = drawn.setdefault(f"{title}, {precision.upper()}", {})
        for one in layers:
            named = _ALIKE.get(one.kind, one.kind)
            kinds[named] = kinds.get(named, 0.0) + one.seconds
        for one in sorted(layers, key=lambda one: -one.seconds)[: options.layers]:
            rate = f"{one.macs / one.seconds / 1e9:7.1f} GMAC/s" if one.macs else ""
            print(f"      {1e6 * one.seconds:8.0f} us  {one.kind:24} {rate}  {one.name}")
    if options.out:
        whole = {
            row.split(",")[0]: sum(kinds.values()) for row, kinds in drawn.items() if row.endswith("FP32")
        }
        parts = {
            row: {kind: 100 * seconds / whole[row.split(",")[0]] for kind, seconds in kinds.items()}
            for row, kinds in sorted(drawn.items())
        }
        stacked(parts, f"% of the time of an image in FP32; threads: {options.threads}", options.out)


def by_kind(layers: list[Layer], limit: float) -> Iterable[str]:
    """A line for each kind of layer, the longest first."""
    total = sum(one.seconds for one in layers)
    kinds = {kind: [one for one in layers if one.kind == kind] for kind in {one.kind for one in layers}}
    for kind, those in sorted(kinds.items(), key=lambda item: -sum(one.seconds for one in item[1])):
        seconds, macs = sum(one.seconds for one in those), sum(one.macs for one in those)
        text = f"  {kind:28} {len(those):4}  {1e3 * seconds:7.3f} ms  {seconds / total:6.1%}"
        if macs:
            rate = macs / seconds
            text += f"  {macs / 1e6:7.1f} MMAC  {rate / 1e9:7.1f} GMAC/s, {rate / limit:5.1%} of {limit / 1e9:.0f}"
        yield text


def profiles(options: argparse.Namespace) -> Iterable[tuple[str, str, list[Layer]]]:
    """Runtime, precision and layers of each model."""
    from picoquant.backends.base import MACHINE, load_backend
    from picoquant.backends.source import Source
    from picoquant.commands.compare_runtimes import models_here

    profile = {"onnx": in_onnx_runtime, "openvino": in_openvino}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="picoquant-profile-")))
        for model in stack.enter_context(models_here(str(options.run))):
            for name in options.backend or profile:
                backend = load_backend(name)
                source = Source(model.folder)
                made = backend.export.export(
                    source, scratch / model.precision, backend.toolchain.find(MACHINE)
                )
                yield (
                    backend.title,
                    model.precision,
                    profile[name](made.files[0], scratch, options.threads, options.calls),
                )


def in_onnx_runtime(path: Path, scratch: Path, threads: int, calls: int) -> list[Layer]:
    """Layers by ONNX Runtime's own profile; shapes of weights from the graph that it has made of the file."""
    import onnx
    import onnxruntime

    from picoquant.backends.onnx.runtime import session_options

    settings = session_options(threads)
    settings.enable_profiling = True
    settings.profile_file_prefix = str(scratch / "profile")
    settings.optimized_model_filepath = str(scratch / "optimised.onnx")
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    feed = {
        item.name: _noise([d if isinstance(d, int) else 1 for d in item.shape])
        for item in session.get_inputs()
    }
    for _ in range(calls + _WARM):
        session.run(None, feed)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    graph = onnx.load(settings.optimized_model_filepath).graph
    stored = {value.name: list(value.dims) for value in graph.initializer}
    weights = {
        node.name: next(stored[name] for name in node.input if len(stored.get(name, [])) == 4)
        for node in graph.node
        if "Conv" in node.op_type
    }
    taken: dict[tuple[str, str], list[tuple[float, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            taken.setdefault(key, []).append((event["dur"] / 1e6, event["args"].get("output_type_shape")))
    layers = []
    for (name, operator), found in taken.items():
        seconds = statistics.median(one for one, _ in found[_WARM:])
        if name in weights:
            shape = next(iter(found[-1][1][0].values()))
            layers.append(_convolution(name, seconds, weights[name], int(np.prod(shape))))
        else:
            layers.append(Layer(name, operator, seconds))
    return layers


def in_openvino(path: Path, scratch: Path, threads: int, calls: int) -> list[Layer]:
    """Layers by OpenVINO's own counters, which are means over all calls."""
    from picoquant.backends.openvino.quiet import import_openvino
    from picoquant.backends.openvino.runtime import properties

    openvino = import_openvino()
    compiled = openvino.Core().compile_model(path, "CPU", {**properties(threads), "PERF_COUNT": True})
    request = compiled.create_infer_request()
    feed = {port.get_any_name(): _noise(_sizes(port)) for port in compiled.inputs}
    for _ in range(calls):
        request.infer(feed, share_inputs=True)
    nodes = {node.get_friendly_name(): node for node in compiled.get_runtime_model().get_ordered_ops()}
    layers = []
    for one in request.get_profiling_info():
        if one.status != one.status.EXECUTED:
            continue
        seconds, node = one.real_time.total_seconds(), nodes.get(one.node_name)
        if "Convolution" in one.node_type and node is not None:
            weight = _sizes(node.input(1))
            weight = [int(np.prod(weight[:-3])), *weight[-3:]] if len(weight) == 5 else weight
            layers.append(_convolution(one.node_name, seconds, weight, int(np.prod(_sizes(node.output(0))))))
        else:
            layers.append(Layer(one.node_name, one.node_type, seconds))
    return layers


def _convolution(name: str, seconds: float, weight: list[int], results: int) -> Layer:
    """A convolution with a weight `[out, in of a group, height, width]` that gives so many values."""
    depthwise, single = weight[1] == 1 and weight[0] > 1, weight[2] * weight[3] == 1
    kind = f"{'depthwise' if depthwise else 'dense'}, {'1x1' if single else 'larger'}"
    return Layer(name, kind, seconds, results * int(np.prod(weight[1:])))


def _sizes(port: Any) -> list[int]:
    return [size.get_length() if size.is_static else 1 for size in port.get_partial_shape()]


def _noise(shape: list[int]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


if __name__ == "__main__":
    main()

"""The tables of the documentation that results/*.yaml fill: which page, which results, which columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable

from benchmarks.results import cycles
from benchmarks.results.pages import Results, Table
from benchmarks.results.record import Interval, Result


def _map(metrics: Mapping[str, float], name: str = "mAP") -> str:
    return f"{metrics[name]:.4f}" if name in metrics else ""


def _interval(found: Interval | None, form: str) -> str:
    if found is None:
        return ""
    value = format(found.value, form)
    return value if found.low is None else f"{value}, {found.low:{form}} to {found.high:{form}}"


def _course(result: Result, name: str, form: str) -> list[str]:
    return [format(state[name], form) if name in state else "" for state in result.course]


def _measured(language: str) -> Callable[[Results], list[Sequence[str]]]:
    none, simulated, time = {
        "en": ("not taken", "{}; in rv1126's integers (simulated): {}", "{}, {}"),
        "zh": ("未计时", "{}；按 rv1126 的整数运算（仿真）：{}", "{}（{}）"),
    }[language]

    def rows(results: Results) -> list[Sequence[str]]:
        made = []
        for one in (results[name] for name in _MEASURED):
            label, int8 = one.labels[language], _map(one.int8)
            if one.name in _SIMULATED:
                int8 = simulated.format(int8, _map(results[_SIMULATED[one.name]].int8))
            taken = isinstance(one.latency, Mapping)
            last = time.format(one.latency["whole run"], label["time"]) if taken else none
            made.append([label["run"], _map(one.fp32), int8, last])
        return made

    return rows


_MEASURED = ("bccd_s_npu_qat", "quickstart", "tiny_coco_s_ptq_paddle")
_SIMULATED = {"tiny_coco_s_ptq_paddle": "tiny_coco_s_ptq_rv1126"}

_OFFICIAL = ("coco465_xs_ptq", "coco465_xs_ptq_per_tensor", "coco465_s_ptq", "coco465_s_ptq_per_tensor")


def _calibrated(names: Sequence[str], first: int = 0) -> Callable[[Results], list[Sequence[str]]]:
    """Rows of networks that were calibrated only, from the column `first` on."""

    def rows(results: Results) -> list[Sequence[str]]:
        made = [
            [
                one.model,
                one.scheme.removeprefix("PTQ, "),
                _map(one.fp32),
                _map(one.int8),
                _interval(one.difference, "+.4f"),
                _interval(one.fidelity, ".3f"),
            ]
            for one in (results[name] for name in names)
        ]
        return [row[first:] for row in made]

    return rows


_ZERO_POINTS = (
    "coco465_xs_ptq",
    "coco465_xs_ptq_zero_points",
    "coco465_xs_ptq_per_tensor",
    "coco465_xs_ptq_per_tensor_zero_points",
)


_TRAINED = (
    "coco465_xs_qat", "coco465_xs_qat_per_tensor", "coco465_s_qat", "coco465_s_qat_per_tensor", "bccd_s_npu_qat_levels",
    "bccd_s_npu_qat_levels_per_tensor",
)  # fmt: skip


def _trained(results: Results) -> list[Sequence[str]]:
    return [
        [
            f"{one.model}, {one.data['images']} images",
            one.scheme.removeprefix("QAT at ").replace(" of 8 images", ""),
            _map(one.fp32),
            ", ".join(_course(one, "mAP", ".4f")),
            _interval(one.difference, "+.4f"),
            ", ".join(filter(None, _course(one, "fidelity", ".3f"))),
            _interval(one.fidelity, ".3f"),
        ]
        for one in (results[name] for name in _TRAINED)
    ]


_GOALS = {
    "goals_bccd_s_npu_ptq": "0.340",
    "goals_bccd_s_npu_qat": "0.340",
    "goals_tiny_coco_s_ptq": "0.30",
    "goals_tiny_coco_s_qat": "0.327",
}


def _goals(results: Results) -> list[Sequence[str]]:
    return [
        [
            f"{one.model}, {one.data['name']} ({one.data['images']} images), {one.data['input']} px",
            one.scheme,
            _map(one.fp32),
            f"{_map(one.int8)} / {one.every_tensor:.4f}",
            ", ".join(_course(one, "mAP", ".4f")),
            wanted,
        ]
        for one, wanted in ((results[name], wanted) for name, wanted in _GOALS.items())
    ]


def _runtimes(
    names: Sequence[str], metrics: Sequence[str], interval: bool
) -> Callable[[Results], list[Sequence[str]]]:
    def rows(results: Results) -> list[Sequence[str]]:
        found = [results[name] for name in names]
        base = next(one.fp32["mAP"] for one in found if "paddle" in one.runtime and not one.int8)
        return [_of_runtime(one, metrics, base, interval) for one in found]

    return rows


def _of_runtime(one: Result, metrics: Sequence[str], base: float, interval: bool) -> list[str]:
    kind, found = ("int8", one.int8) if one.int8 else ("fp32", one.fp32)
    title = ", ".join(f"`{runtime}_{kind}`" for runtime in one.runtime)
    title += " (weights only)" if "weights only" in one.scheme else ""
    pair = one.difference
    less = pair.value if pair else found["mAP"] - base
    cells = [title, *(_map(found, name) for name in metrics), f"{less:+.4f}" if less else "0"]
    if interval:
        cells.append(f"{pair.low:+.4f} to {pair.high:+.4f}" if pair and pair.low is not None else "")
    return cells


_BCCD = ("bccd_s_npu_fp32_dygraph", "bccd_s_npu_fp32", "bccd_s_npu_qat_rv1126", "bccd_s_npu_qat_lite")
_TINY_COCO = (
    "tiny_coco_s_fp32", "tiny_coco_s_ptq_paddle", "tiny_coco_s_ptq_onnx", "tiny_coco_s_ptq_lite",
    "tiny_coco_s_ptq_rv1126",
)  # fmt: skip
_SIMULATION = ("bccd_s_npu_ptq_paddle", "bccd_s_npu_ptq_rv1126", "bccd_s_npu_qat_rv1126")


def _simulation(results: Results) -> list[Sequence[str]]:
    ptq, board, qat = (results[name] for name in _SIMULATION)
    return [
        ["`paddle_fp32`", _map(ptq.fp32), _map(qat.fp32)],
        ["`paddle_int8`", _map(ptq.int8), _map(qat.int8)],
        [
            "every tensor rounded, in float (`every_tensor_mAP` of `quantize`)",
            f"{ptq.every_tensor:.4f}",
            f"{qat.every_tensor:.4f}",
        ],
        ["`onnx_int8`", _map(ptq.int8), _map(qat.int8)],
        ["`simulation_rv1126_int8`", _map(board.int8), _map(qat.int8)],
    ]


_ONNX = ("onnx_speed_fp32", "onnx_speed_picoquant", "onnx_speed_ort_quantiser")


def _onnx(results: Results) -> list[Sequence[str]]:
    return [
        [one.scheme, one.latency["clock"], one.latency["cpu"], one.size["file"]]
        for one in (results[name] for name in _ONNX)
    ]


_OUTPUTS = {f"bccd_s_npu_outputs_{name}": name for name in ("logits", "product", "score")}


def _outputs(results: Results) -> list[Sequence[str]]:
    return [[title, _map(results[name].fp32), _map(results[name].int8)] for name, title in _OUTPUTS.items()]


_INSIDE = {
    "bccd10_s_npu_raw": "`raw`",
    "bccd10_s_npu_boxes": "`boxes` (input pixels)",
    "bccd10_s_npu_detections": "`detections` (image pixels, NMS)",
}
_SPLIT = "on RV1126, as opt splits it"


def _inside(results: Results) -> list[Sequence[str]]:
    found = [(title, results[name]) for name, title in _INSIDE.items()]
    return [[title, _map(one.int8), f"{one.every_tensor:.4f}", one.notes[_SPLIT]] for title, one in found]


_SCALES = ("bccd_s_npu_ptq", "coco465_xs_ptq")


def _scales(results: Results) -> list[Sequence[str]]:
    rows = []
    for name in _SCALES:
        channel, tensor = (results[f"{name}_{kind}"] for kind in ("channel", "tensor"))
        title = f"{channel.model}, {channel.data['name'].replace('BCCD', 'bccd')} ({channel.data['images']})"
        rows.append([title, _map(channel.fp32), _map(channel.int8), _map(tensor.int8)])
    return rows


_SCRATCH = "bccd_s_npu_from_scratch"
_EVERY = 6  # epochs between two states of its course


def _scratch(results: Results) -> list[Sequence[str]]:
    return [["mAP", *_course(results[_SCRATCH], "mAP", ".4f")]]


_INSTRUCTIONS = {"vnni": "AVX512-VNNI", "avx2": "AVX2"}
_QUICKSTARTS = {
    (instructions, threads): [f"quickstart_{instructions}_{threads}_seed_{seed}" for seed in range(8)]
    for instructions in _INSTRUCTIONS
    for threads in (2, 1)
}


def _matrix(results: Results) -> list[Sequence[str]]:
    made = []
    for (instructions, threads), names in _QUICKSTARTS.items():
        found = [results[name] for name in names]
        pairs = [f"{_map(one.fp32)} / {_map(one.int8)}" for one in found]
        made.append([_INSTRUCTIONS[instructions], str(threads), *pairs])
    return made


_ROUNDINGS = {
    "bccd_s_npu": "PicoDet-S-NPU, bccd, 320 px (FP32 {:.3f})",
    "tiny_coco_s": "PicoDet-S 320 (ESNet), tiny_coco (FP32 {:.3f})",
}


def _rounding(results: Results) -> list[Sequence[str]]:
    rows = []
    for name, title in _ROUNDINGS.items():
        for bits in (8, 4):
            two = [results[f"{name}_rounding_{bits}_{how}"] for how in ("nearest", "reconstructed")]
            maps = [f"{_map(one.int8)} / {one.every_tensor:.4f}" for one in two]
            noise = [one.notes["signal to noise, dB"] for one in two]
            first = title.format(two[0].fp32["mAP"]) if bits == 8 else ""
            rows.append([first, f"{bits} bits", *maps, *noise])
    return rows


TABLES = {
    "measured": Table(
        ("README.md",), ("run", "FP32 mAP", "INT8 mAP", "whole run"), _measured("en"),
        (*_MEASURED, *_SIMULATED.values()),
    ),
    "measured_zh": Table(
        ("README_cn.md",), ("运行", "FP32 mAP", "INT8 mAP", "全程耗时"), _measured("zh"),
        (*_MEASURED, *_SIMULATED.values()),
    ),
    "official": Table(
        ("docs/accuracy.md",),
        ("network", "weights", "FP32", "INT8", "difference, 95 % interval", "fidelity, 95 % interval"),
        _calibrated(_OFFICIAL), _OFFICIAL,
    ),
    "zero_points": Table(
        ("docs/accuracy.md",),
        ("weights, activations", "FP32", "INT8", "difference, 95 % interval", "fidelity, 95 % interval"),
        _calibrated(_ZERO_POINTS, 1), _ZERO_POINTS,
    ),
    "trained": Table(
        ("docs/accuracy.md",),
        (
            "network, images evaluated", "QAT at", "FP32", "mAP from start to end",
            "INT8 less FP32, 95 % interval", "fidelity from start to end", "of INT8, 95 % interval",
        ),
        _trained, _TRAINED,
    ),
    "goals": Table(
        ("docs/accuracy.md",),
        (
            "network and images", "scheme", "FP32", "INT8 / every tensor", "QAT: start, 30 steps, 60 steps",
            "wanted of both",
        ),
        _goals, tuple(_GOALS),
    ),
    "bccd": Table(
        ("docs/evaluation.md",),
        ("row", "mAP", "AP50", "AP75", "medium", "large", "- FP32", "95 % interval of the pair"),
        _runtimes(_BCCD, ("mAP", "AP50", "AP75", "medium", "large"), True), _BCCD,
    ),
    "tiny_coco": Table(
        ("docs/evaluation.md",),
        ("row", "mAP", "AP50", "AP75", "small", "medium", "large", "- FP32"),
        _runtimes(_TINY_COCO, ("mAP", "AP50", "AP75", "small", "medium", "large"), False), _TINY_COCO,
    ),
    "simulation": Table(
        ("docs/simulation.md",), ("row", "PTQ, 64 images", "QAT, 60 steps"), _simulation, _SIMULATION
    ),
    "outputs": Table(("docs/npu.md",), ("output", "FP32", "outputs rounded to INT8"), _outputs, tuple(_OUTPUTS)),
    "inside": Table(
        ("docs/npu.md",), ("export", "INT8 in integer runtimes", "every tensor in INT8", _SPLIT), _inside,
        tuple(_INSIDE),
    ),
    "scales": Table(
        ("docs/npu.md",), ("network, images", "FP32", "a scale for each channel", "one scale a tensor"), _scales,
        tuple(f"{name}_{kind}" for name in _SCALES for kind in ("channel", "tensor")),
    ),
    "cycles": Table(
        ("docs/npu.md",),
        ("network", "chip", "scheme", "NN cores", "TP", "shaders", "all", "differ"),
        cycles.whole, cycles.whole_names(),
    ),
    "cycles_changes": Table(
        ("docs/npu.md",), ("chip", "network", "NN cores", "TP", "shaders", "all", "less"),
        cycles.changes, tuple(name for name, _, _ in cycles.CHANGES),
    ),
    "cycles_published": Table(
        ("docs/npu.md",), ("chip", "MobileNetV1", "MobileNetV2", "fitted MHz"),
        cycles.published, cycles.published_names(),
    ),
    "scratch": Table(
        ("docs/training.md",), ("epoch", *(str(_EVERY * n) for n in range(1, 11))), _scratch, (_SCRATCH,)
    ),
    "matrix": Table(
        ("docs/training.md",), ("instructions", "threads", *(f"seed {seed}" for seed in range(8))), _matrix,
        tuple(name for names in _QUICKSTARTS.values() for name in names),
    ),
    "rounding": Table(
        ("docs/quantization.md",),
        ("network", "weights", "nearest: mAP", "reconstructed: mAP", "nearest: dB", "reconstructed: dB"), _rounding,
        tuple(
            f"{name}_rounding_{bits}_{how}"
            for name in _ROUNDINGS for bits in (8, 4) for how in ("nearest", "reconstructed")
        ),
    ),
    "onnx_speed": Table(
        ("docs/onnx.md",), ("model", "times FP32 by the clock", "times FP32 by CPU seconds", "file, bytes"),
        _onnx, _ONNX,
    ),
}  # fmt: skip

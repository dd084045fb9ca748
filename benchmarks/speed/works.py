"""What there is to measure: scripts beside this folder, their sides, and the figures in what they print."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.speed import bounds
from benchmarks.stage_speed import PACKAGED

SIZE = 416
NOW, PEER, BEFORE = "now", "peer", "before"
LEVELS = "levels"  # another way of ours than the peer's, measured with both


@dataclass(frozen=True)
class Row:
    """A figure of a measurement.

    Attributes:
        name, title, unit: as of `Speed`.
        key, cpu: where it stands in what a script prints; `cpu` empty without.
        bound: takes the bounds and what our side printed, returns the least; None: no bound.
        side: whose figure it is.
    """

    name: str
    title: str
    key: str = "wall"
    cpu: str = "cpu"
    unit: str = "s"
    bound: bounds.Bound = lambda found, said: None
    side: str = NOW


@dataclass(frozen=True)
class Work:
    """What is measured together.

    Attributes:
        rows: its figures.
        sides: NOW, PEER -> the script and its arguments; PEER may be missing.
        together: a script with its arguments that lets the sides take all turns itself, for sides that take minutes to
            be set up; it prints a list of turns for each of `names`.
        names: of the sides, where they are measured together.
        peer: the peer's name.
        stdin: what a side reads.
        earlier: whether the script, of an older commit or today's, measures an older picoquant.
    """

    rows: tuple[Row, ...]
    sides: Mapping[str, tuple[str, ...]]
    peer: str | None = None
    stdin: str = ""
    earlier: bool = True
    together: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


def all_works(options: argparse.Namespace) -> dict[str, Work]:
    """What is measured by turns, by name."""
    shared, work = options.shared.resolve(), options.work
    bccd = ("--dataset-dir", str(shared / "datasets" / "bccd"), "--image-dir", "JPEGImages")
    bccd += (
        "--anno",
        "instances_val.json",
        "--weights",
        str(shared / "weights" / "picodet_s_npu_bccd.pdparams"),
    )
    bccd += ("--size", str(SIZE))
    training = ("train_speed.py", "--size", str(SIZE), "--batch", "16", "--steps", "5", "--only")
    qat = ("quantize_setup.py", "--size", str(SIZE), "--batch", "8")
    start = ("start_speed.py", "--folder", str(work / "many_images"), "--only")
    stage = ("stage_speed.py", "--shared", str(shared))
    return {
        "training": Work(
            (Row("training", "training step, FP32, S-NPU 416, batch 16",
                 bound=bounds.named("training step, FP32, batch 16")),
             Row("training_operators", "the same beside the bound of one operator after another",
                 bound=bounds.named("training step, FP32, batch 16, operators"))),
            {NOW: (*training, "picoquant"), PEER: (*training, "PaddleDetection")}, "PaddleDetection",
        ),
        "training_bf16": Work(
            (Row("training_bf16", "training step, bfloat16, S-NPU 416, batch 16",
                 bound=bounds.named("training step, BF16, batch 16")),
             Row("training_bf16_floats", "the same beside the bound of 32-bit floats",
                 bound=bounds.named("training step, FP32, batch 16"))),
            {NOW: (*training, "picoquant, bfloat16"), PEER: (*training, "picoquant")}, "picoquant, floats",
            earlier=False,
        ),
        "qat": Work(
            (
                Row("qat_step", "QAT step with a teacher, S-NPU 416, batch 8", "step",
                    bound=bounds.named("QAT step, batch 8")),
                Row("qat_setup", "set-up of QAT before its first step", "setup", ""),
                Row("qat_memory", "largest memory of QAT", "megabytes", "", "MB"),
                Row("qat_levels", "QAT step by levels, as the shipped recipe's, S-NPU 416, batch 8", "step",
                    bound=bounds.named("QAT step, batch 8"), side=LEVELS),
                Row("qat_levels_memory", "largest memory of QAT by levels", "megabytes", "", "MB", side=LEVELS),
            ),
            {NOW: (*qat, "--only", "picoquant"), PEER: (*qat, "--only", "PaddleSlim")}, "PaddleSlim",
            together=(*qat, "--limit", "1200", "--json"),
            names={NOW: "picoquant", PEER: "PaddleSlim", LEVELS: "picoquant, levels"},
        ),
        "ptq": Work(
            (Row("ptq", "PTQ, the whole stage, 64 images, S-NPU 416", bound=bounds.ptq),), {NOW: (*stage, "ptq")},
        ),
        "evaluation": Work(
            (Row("evaluation", "evaluation in training, 87 images of bccd, S-NPU 416"),),
            {NOW: ("eval_speed.py", *bccd, "--only", "picoquant"),
             PEER: ("eval_speed.py", *bccd, "--only", "PaddleDetection")},
            "PaddleDetection", "go\ngo\n",
        ),
        **{
            f"evaluation_{precision}": Work(
                (Row(f"evaluation_{precision}", f"evaluation of the {precision.upper()} model, 87 images of bccd, "
                     "S-NPU 416, with decoding and NMS", cpu="", bound=bounds.evaluation(precision)),),
                {NOW: (*stage, "evaluation", "--run", str(work / "runs" / "s_npu"), "--stage", name)},
            )
            for precision, name in (("fp32", "export"), ("int8", "quantize"))
        },
        "run": Work(
            (Row("run", "the README's five lines, bccd", bound=bounds.run),), {NOW: (*stage, "run")},
        ),
        "packaging": Work(
            (Row("packaging", "packages of nine targets", bound=bounds.packages),),
            {NOW: ("package_speed.py", "--run", str(work / "runs" / PACKAGED), "--json", "--only", "together"),
             PEER: ("package_speed.py", "--run", str(work / "runs" / PACKAGED), "--json", "--only", "alone")},
            "picoquant, a target at a time", earlier=False,
        ),
        "start": Work(
            (Row("start", f"start of a training of {options.images:,} images, to the first batch",
                 bound=bounds.start(work / "many_images", options.images)),
             Row("start_memory", f"largest memory of the start, {options.images:,} images", "megabytes", "", "MB")),
            {NOW: (*start, "picoquant"), PEER: (*start, "PaddleDetection")}, "PaddleDetection",
        ),
    }  # fmt: skip

"""Options that several commands share."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Callable

import click

from picoquant.backends.table import BACKENDS, COMPILERS, DYGRAPH
from picoquant.cli.completion import configs

STAGES = ("train", "export", "quantize", "evaluate", "package")
# All that run models here and need no configuration to build a network from.
RUNNABLE = tuple(name for name in BACKENDS if name not in COMPILERS)


class InputSize(click.ParamType):
    """`320`, `320,416` or `320x416`: height and width of the network's input, pixels."""

    name = "H[,W]"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        """Text to `[height, width]`; a usage error when it is no size."""
        if isinstance(value, list):
            return value
        match = re.fullmatch(r"\s*(\d+)\s*(?:[,x]\s*(\d+)\s*)?", str(value))
        if not match:
            self.fail(f"{value!r} is no size; write 320 or 320,416", param, ctx)
        height = int(match.group(1))
        return [height, int(match.group(2) or height)]


class Device(click.ParamType):
    """`cpu`, `gpu`, `gpu:0` or `gpu:0,1`."""

    name = "DEVICE"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The device as written; a usage error when it is none."""
        if not re.fullmatch(r"cpu|gpu(:\d+(,\d+)*)?", str(value)):
            self.fail(f"{value!r} is no device; write cpu, gpu or gpu:0,1", param, ctx)
        return str(value)


def overrides_option(command: Callable) -> Callable:
    """`--set KEY=VALUE` (repeatable, `-o` too, several after one -o as PaddleDetection's users type)."""
    command = click.argument("more_overrides", nargs=-1, metavar="[KEY=VALUE]...")(command)
    return click.option(
        "--set",
        "-o",
        "overrides",
        multiple=True,
        metavar="KEY.SUB=VALUE",
        help="Override any key; repeatable.",
    )(command)


def common_options(command: Callable) -> Callable:
    """Options of every command that runs stages."""
    for option in (
        click.option(
            "--opt",
            metavar="PATH",
            help="Paddle Lite's opt (default: found, or the toolchain's own).",
        ),
        click.option("--force", is_flag=True, help="Run again what is done already."),
        click.option(
            "--device", type=Device(), default="cpu", show_default=True, help="cpu, gpu or gpu:0,1."
        ),
        click.option("--input-size", type=InputSize(), help="The network's input; sets Global.input_size."),
        click.option(
            "--save-dir", default="output", show_default=True, metavar="DIR", help="The run folder."
        ),
        click.option(
            "--config",
            "-c",
            "config",
            metavar="FILE",
            shell_complete=configs,
            help="A recipe or configuration: a path or a shipped name.",
        ),
    ):
        command = option(command)
    return overrides_option(command)


def slim_option(command: Callable) -> Callable:
    """`--slim_config FILE`: PaddleDetection's file for QAT, PTQ, pruning or distillation."""
    return click.option(
        "--slim_config",
        "--slim-config",
        "slim",
        metavar="FILE",
        help="PaddleDetection's file for QAT, PTQ, pruning or distillation, beside --config.",
    )(command)


def data_option(command: Callable) -> Callable:
    """`--data DIR`: a folder with a data set, whatever its format."""
    return click.option(
        "--data",
        metavar="DIR",
        type=click.Path(),
        help="A folder with a data set: YOLO, COCO, VOC or LabelMe, recognised by what it holds.",
    )(command)


def data_overrides(
    data: str | None, sections: Sequence[str] = ("TrainDataset", "EvalDataset")
) -> tuple[str, ...]:
    """The `KEY=VALUE` texts that `--data` stands for; they come before those typed, which may say more."""
    if data is None:
        return ()
    folder = json.dumps({"type": "auto", "dataset_dir": data})
    return (*(f"{section}={folder}" for section in sections), "Synthetic=")


def gather_overrides(
    overrides: tuple[str, ...], more: tuple[str, ...], slim: str | None = None, **options: Any
) -> list[str]:
    """All `KEY=VALUE` texts: those of a file for `--slim_config`, those typed, then those that options stand for.

    Args:
        overrides, more: as typed.
        slim: that file; None: there is none.
        options: None: not given.
    """
    for text in more:
        if "=" not in text:
            raise click.UsageError(f"{text!r} is no option and no KEY=VALUE")
    keys = {
        "input_size": "Global.input_size",
        "weights": "Global.weights",
        "model_dir": "Global.model_dir",
        "target": "Package.target",
    }
    given = {name: value for name, value in options.items() if value not in (None, (), [])}
    texts = [text.partition("=")[0].strip() for text in (*overrides, *more)]
    for name in given:
        if keys[name] in texts or (name == "weights" and "weights" in texts):
            raise click.UsageError(
                f"--{name.replace('_', '-')} and {keys[name]} are both given: leave out one"
            )
    chosen = [f"{keys[name]}={value}" for name, value in given.items()]
    typed = [*overrides, *more, *chosen]
    if slim is None:
        return typed
    from picoquant.config.slim import slim_overrides

    return [*slim_overrides(slim, typed), *typed]


def slice_options(command: Callable) -> Callable:
    """`--slice`, `--overlap` and `--merge`: detection in parts of an image; `slicing_of` reads them."""
    for option in (
        click.option(
            "--merge", type=click.Choice(("nms", "nmm")),
            help="With --slice: keep the best of boxes that match (default: nms), or the box around them (nmm).",
        ),
        click.option(
            "--overlap", type=float, help="With --slice: how much of a part the next one sees (default: 0.25)."
        ),
        click.option(
            "--slice", "parts", type=InputSize(),
            help="Detect in parts of so many pixels, too: for small objects in large images.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def slicing_of(parts: list[int] | None, overlap: float | None, merge: str | None) -> Any:
    """The `Slicing` that the three options say; None without `--slice`."""
    if parts is None:
        if overlap is not None or merge is not None:
            raise click.UsageError("--overlap and --merge need --slice, for example --slice 320")
        return None
    from picoquant.postprocess.merge import MergeSettings
    from picoquant.runtimes.sliced import Slicing

    return Slicing((parts[0], parts[1]), 0.25 if overlap is None else overlap, MergeSettings(merge or "nms"))


def backend_option(command: Callable) -> Callable:
    """`--backend`, repeatable: the runtimes, or `all` of those that can run."""
    return click.option(
        "--backend",
        "backends",
        multiple=True,
        type=click.Choice((DYGRAPH, *RUNNABLE, "all")),
        help="Runtime (repeatable); all: those that can run.",
    )(command)

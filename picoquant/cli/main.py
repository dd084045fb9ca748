"""The `picoquant` command: a thin layer over stages and libraries. Imports nothing heavy."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from picoquant.cli import console
from picoquant.cli.analyze import analyze
from picoquant.cli.benchmark import benchmark
from picoquant.cli.completion import VARIABLE, completion, targets_or_all
from picoquant.cli.convert import convert_weights
from picoquant.cli.evaluate import evaluate
from picoquant.cli.info import info
from picoquant.cli.npu import check, targets
from picoquant.cli.options import (
    STAGES,
    common_options,
    data_option,
    data_overrides,
    gather_overrides,
    slim_option,
)
from picoquant.cli.predict import predict
from picoquant.cli.report import report
from picoquant.cli.start.data import data
from picoquant.cli.start.doctor import doctor
from picoquant.cli.start.init import init
from picoquant.cli.start.toolchain import toolchain
from picoquant.cli.tree import finish
from picoquant.cli.verify import verify
from picoquant.version import __version__

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="picoquant")
@click.option("--quiet", "-q", is_flag=True, help="Warnings and errors only.")
@click.option("--verbose", "-v", is_flag=True, help="More detail.")
@click.option("--debug", is_flag=True, help="Tracebacks, and the messages of the libraries underneath.")
@click.pass_context
def cli(ctx: click.Context, quiet: bool, verbose: bool, debug: bool) -> None:
    """Train PicoDet, quantise it to INT8 and package it for NPUs that run INT8 only.

    The example is the whole way on a generated data set; the README has your own images.

    \b
    Example:  picoquant run --config quickstart.yaml
    """
    console.set_up(quiet, verbose, debug)


def _run(
    first: str | None,
    last: str | None,
    config: Any,
    save_dir: str,
    overrides: list[str],
    device: str,
    force: bool,
    opt: str | None,
    data: str | None = None,
) -> Any:
    from picoquant.stages.order import run_recipe

    return run_recipe(
        config, save_dir, overrides, first=first, last=last, device=device, force=force, opt=opt,
        log_to_file=console.log_to_file, new=data is not None,
    )  # fmt: skip


@cli.command()
@common_options
@slim_option
@data_option
@click.option("--from", "first", type=click.Choice(STAGES), help="Start at this stage.")
@click.option("--until", "last", type=click.Choice(STAGES), help="Stop after this stage.")
@click.option(
    "--target",
    multiple=True,
    metavar="NAME",
    shell_complete=targets_or_all,
    help="NPU target; sets Package.target.",
)
@click.option("--report", "with_report", is_flag=True, help="At the end, `picoquant report`, too.")
def run(
    first,
    last,
    config,
    save_dir,
    overrides,
    more_overrides,
    input_size,
    device,
    force,
    opt,
    data,
    target,
    with_report,
    slim,
):
    """Run a recipe: train, export, quantize, evaluate, package. Only what is missing or changed.

    \b
    Examples:  picoquant run --config quickstart.yaml --save-dir output/
               picoquant run --data cells/ --save-dir output/
    """
    if config is None and data is None:
        raise click.UsageError(
            "--config is needed: a recipe's path, or a shipped name such as quickstart.yaml; or --data"
        )
    typed = (*data_overrides(data), *overrides)
    texts = gather_overrides(typed, more_overrides, slim, input_size=input_size, target=_targets(target))
    from picoquant.commands.next_steps import next_steps
    from picoquant.stages.order import plan_of

    plan = plan_of(config, save_dir, texts, new=data is not None)
    done, page = _run(first, last, plan, save_dir, [], device, force, opt), None
    if with_report:
        from picoquant.commands.report import report as write_report

        page = write_report(save_dir, opt=opt)
    for line in next_steps(plan, done, save_dir, last, page, device, opt):
        console.LOG.info("%s", line)


def _targets(names: tuple[str, ...]) -> str | list[str] | None:
    return names[0] if len(names) == 1 else list(names) or None


def _trains_int8(slim: str) -> bool:
    from picoquant.config.slim import ends_with_quantize

    return ends_with_quantize(slim)


def _stage_command(name: str, text: str, example: str) -> None:
    def command(config, save_dir, overrides, more_overrides, input_size, device, force, opt, data, slim):
        typed = (*data_overrides(data), *overrides)
        texts = gather_overrides(typed, more_overrides, slim, input_size=input_size)
        last = "quantize" if slim and name == "train" and _trains_int8(slim) else name
        _run(name, last, config, save_dir, texts, device, force, opt, data)

    command.__doc__ = f"{text}\n\n\b\nExample:  {example}\n"
    cli.command(name)(common_options(slim_option(data_option(command))))


_stage_command(
    "train",
    "Train the FP32 network; continues an interrupted run.",
    "picoquant train --config picodet_s_416_coco_npu.yml --save-dir output/",
)
_stage_command(
    "export",
    "Export the trained network as a Paddle inference model.",
    "picoquant export --config quickstart.yaml --save-dir output/",
)


@cli.command()
@common_options
@slim_option
@data_option
@click.option(
    "--search", "minutes", type=float, metavar="MINUTES",
    help="Try settings for so many minutes and keep the best; the same command goes on.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="With --search: its trials as JSON on stdout.")
def quantize(
    config, save_dir, overrides, more_overrides, input_size, device, force, opt, data, minutes, as_json, slim
):
    """Quantise the exported model: AutoCompression QAT with distillation.

    \b
    Examples:  picoquant quantize --config quickstart.yaml --save-dir output/
               picoquant quantize --search 60 --save-dir output/
    """
    texts = gather_overrides((*data_overrides(data), *overrides), more_overrides, slim, input_size=input_size)
    if minutes is None:
        if as_json:
            raise click.UsageError("--json needs --search")
        _run("quantize", "quantize", config, save_dir, texts, device, force, opt, data)
        return
    from picoquant.commands.search.search import search

    found = search(config, save_dir, texts, minutes, device, force, opt, console.log_to_file)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else found.to_text())


@cli.command()
@common_options
@click.option(
    "--target", multiple=True, metavar="NAME", shell_complete=targets_or_all,
    help="NPU target (repeatable); sets Package.target.",
)  # fmt: skip
def package(config, save_dir, overrides, more_overrides, input_size, device, force, opt, target):
    """Package the INT8 model for a target: Paddle Lite .nb, ONNX, labels, program for the board, sample.

    --target all makes a package for every shipped target.

    \b
    Examples:  picoquant package --target rv1126 --save-dir output/
               picoquant package --target all --save-dir output/
    """
    texts = gather_overrides(overrides, more_overrides, input_size=input_size, target=_targets(target))
    _run("package", "package", config, save_dir, texts, device, force, opt)


cli.add_command(analyze)
cli.add_command(evaluate)
cli.add_command(benchmark)
cli.add_command(predict)
cli.add_command(report)
cli.add_command(data)
cli.add_command(info)
cli.add_command(targets)
cli.add_command(convert_weights)
cli.add_command(verify)
cli.add_command(check)
cli.add_command(completion)
cli.add_command(doctor)
cli.add_command(init)
cli.add_command(toolchain)


finish(cli)


def main() -> None:
    """Entry point: runs the command and exits with its code."""
    debug = "--debug" in sys.argv
    sys.exit(console.run_to_exit(lambda: cli(standalone_mode=False, complete_var=VARIABLE), debug))

"""`picoquant info`: what a configuration's network costs."""

from __future__ import annotations

import json

import click

from picoquant.cli.completion import configs
from picoquant.cli.options import InputSize, gather_overrides, overrides_option


@click.command()
@click.option(
    "--config",
    "-c",
    required=True,
    metavar="FILE",
    shell_complete=configs,
    help="A recipe or configuration: a path or a shipped name.",
)
@click.option("--input-size", type=InputSize(), help="The network's input (default: the configuration's).")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout: counts, and bytes.")
@overrides_option
def info(
    config: str,
    input_size: list[int] | None,
    as_json: bool,
    overrides: tuple[str, ...],
    more_overrides: tuple[str, ...],
) -> None:
    """Parameters, multiply-accumulates, shapes and memory of a configuration's network.

    \b
    Example:  picoquant info --config picodet_s_416_coco_npu.yml --input-size 320
    """
    from picoquant.detector.build import build_picodet
    from picoquant.stages.plan import load_plan
    from picoquant.summary.summarise import summarise
    from picoquant.summary.table import text_table

    plan = load_plan(config, gather_overrides(overrides, more_overrides, input_size=input_size))
    summary = summarise(build_picodet(plan.detector), plan.input_size)
    if as_json:
        click.echo(json.dumps({"config": config, **summary.as_dict()}, indent=2))
    else:
        click.echo(text_table(summary, config))

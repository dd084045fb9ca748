"""`picoquant info`: what a configuration's network costs, or an exported model."""

from __future__ import annotations

import json
from pathlib import Path

import click

from picoquant.cli.completion import configs
from picoquant.cli.options import InputSize, gather_overrides, overrides_option


@click.command()
@click.option(
    "--config",
    "-c",
    metavar="FILE",
    shell_complete=configs,
    help="A recipe or configuration: a path or a shipped name.",
)
@click.option(
    "--model-dir", metavar="DIR", help="Of an exported model instead: .pdmodel, or Paddle 3's inference.json."
)
@click.option("--input-size", type=InputSize(), help="The network's input (default: the configuration's).")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout: counts, and bytes.")
@overrides_option
def info(
    config: str | None,
    model_dir: str | None,
    input_size: list[int] | None,
    as_json: bool,
    overrides: tuple[str, ...],
    more_overrides: tuple[str, ...],
) -> None:
    """Parameters, multiply-accumulates, shapes and memory of a configuration's network, or of an exported model.

    \b
    Example:  picoquant info --config picodet_s_416_coco_npu.yml --input-size 320
    """
    if (config is None) == (model_dir is None):
        raise click.UsageError("name a --config, or an exported model's folder with --model-dir")
    if model_dir is not None:
        from picoquant.paddle_program.model_folder import ModelFolder
        from picoquant.summary.model_folder import summarise_folder

        found = summarise_folder(ModelFolder.open(Path(model_dir)), input_size)
        click.echo(json.dumps(found.as_dict(), indent=2) if as_json else found.text())
        return
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

"""`picoquant analyze`: which layers lose accuracy in INT8."""

from __future__ import annotations

import json
from pathlib import Path

import click

from picoquant.cli.completion import configs
from picoquant.cli.options import InputSize, gather_overrides, overrides_option


@click.command()
@click.option(
    "--config", "-c", metavar="FILE", shell_complete=configs,
    help="A recipe or configuration (default: the run's own).",
)  # fmt: skip
@click.option("--save-dir", default="output", show_default=True, metavar="DIR", help="The run folder.")
@click.option(
    "--model", "model_dir", metavar="DIR", help="A model folder, FP32 or INT8, in place of a run's."
)
@click.option(
    "--of",
    "kind",
    type=click.Choice(["fp32", "int8"]),
    help="Which model of the run (default: INT8, if there).",
)
@click.option("--images", type=click.IntRange(1), default=4, show_default=True, help="Calibration images.")
@click.option(
    "--map", "map_images", type=click.IntRange(1), metavar="N", help="Also mAP on N evaluation images (slow)."
)
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="Layers shown, worst first."
)
@click.option("--out", metavar="DIR", help="Folder of the files (default: analyze/ in the run folder).")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout: every layer and tensor.")
@click.option("--input-size", type=InputSize(), help="The network's input; sets Global.input_size.")
@overrides_option
def analyze(
    config,
    save_dir,
    model_dir,
    kind,
    images,
    map_images,
    top,
    out,
    as_json,
    input_size,
    overrides,
    more_overrides,
):
    """Rank layers by what INT8 costs them: each alone, and what has built up; files in DIR/analyze.

    \b
    Examples:  picoquant analyze --save-dir output/
               picoquant analyze --save-dir output/ --of fp32 --map 50
    """
    from picoquant.stages.order import earlier_config

    chosen = config or earlier_config(save_dir)  # what may be missing is found out before paddle is loaded

    from picoquant.commands.analyze import AnalyzeOptions
    from picoquant.commands.analyze import analyze as run
    from picoquant.quantization.analysis.report import as_dict, text_table

    texts = gather_overrides(overrides, more_overrides, input_size=input_size, model_dir=model_dir)
    options = AnalyzeOptions(kind, images, map_images or 0, top, Path(out) if out else None)
    analysis, folder = run(chosen, texts, save_dir, options)
    if as_json:
        click.echo(json.dumps(as_dict(analysis), indent=2))
    else:
        click.echo(text_table(analysis, top))
        click.echo(f"files: {folder}")

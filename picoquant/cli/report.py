"""`picoquant report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from picoquant.cli.options import gather_overrides, overrides_option


@click.command()
@click.option("--save-dir", default="output", show_default=True, metavar="DIR", help="The run folder.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least score in confusion matrices and pictures.",
)
@click.option(
    "--images", type=click.IntRange(1), default=4, show_default=True, help="Worst and typical images, each."
)
@click.option("--out", metavar="FILE", help="The page (default: report.html in the run folder).")
@click.option("--opt", metavar="PATH", help="Paddle Lite's opt, for what runs where on the target.")
@overrides_option
def report(save_dir, threshold, images, out, opt, overrides, more_overrides):
    """Put a run on one page, report.html: accuracy, what INT8 did to the detections, layers, target, times.

    It needs no network and no other file. Parts whose data is not there say which command makes it.

    \b
    Examples:  picoquant report --save-dir output/
               picoquant report --save-dir output/ --set EvalDataset.dataset_dir=/where/they/are/now
    """
    from picoquant.commands.report import ReportOptions
    from picoquant.commands.report import report as run

    texts = gather_overrides(overrides, more_overrides)
    options = ReportOptions(threshold, images, Path(out).expanduser() if out else None)
    click.echo(run(save_dir, texts, opt, options))

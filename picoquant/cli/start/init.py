"""`picoquant init`: a recipe for a data set of one's own."""

from __future__ import annotations

import click

from picoquant.cli.completion import targets_or_all


@click.command()
@click.option(
    "--data", required=True, metavar="PATH",
    help="A folder with a data set (YOLO, COCO, VOC or LabelMe, recognised by what it holds), or YOLO's data.yaml.",
)  # fmt: skip
@click.option(
    "--target", multiple=True, metavar="NAME", shell_complete=targets_or_all,
    help="The board's NPU (repeatable); all: every one. Without it the known ones are listed.",
)  # fmt: skip
@click.option(
    "--val", type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="For one set of images: so much of it is put aside to evaluate on (COCO files beside the recipe).",
)  # fmt: skip
@click.option("--output", metavar="FILE", help="The recipe (default: the folder's name and .yaml, here).")
def init(data: str, target: tuple[str, ...], val: float | None, output: str | None) -> None:
    """Write a recipe for a data set: classes, input size, epochs and batch for it and for this machine.

    Looks at the data set as `picoquant data check` does, and writes nothing where that finds what stops a training.
    The reasons are comments in the recipe; the last line is the next command. No file is replaced.

    \b
    Example:  picoquant init --data output/dataset --target rv1126 --output shapes.yaml
    """
    from pathlib import Path

    from picoquant.targets.profile_files import known_targets
    from picoquant.targets.profiles import load_targets

    if not target:
        raise click.UsageError(f"--target is needed: {', '.join(known_targets())}, or all of them by all")
    load_targets(target)  # refused before any image is looked at
    from picoquant.commands.data.check import check_data, refuse_errors
    from picoquant.commands.data.check_text import said_of, text_of
    from picoquant.commands.data.sources import find_sources
    from picoquant.commands.init.choices import SIZES
    from picoquant.commands.init.init import check_output, default_output, in_two, write_recipe
    from picoquant.commands.init.machine import this_machine
    from picoquant.stages.run import command

    path = Path(output).expanduser() if output else default_output(data)
    check_output(path)
    sources = find_sources(data, None, [f"Global.input_size=[{SIZES[-1]},{SIZES[-1]}]"], "output")
    result = check_data(sources)
    if not result.errors and (val is not None or len(sources.settings) == 1):
        result = check_data(in_two(data, sources, path, val))
    if result.errors:
        click.echo(text_of(result, True))
        refuse_errors(result)
    written = write_recipe(target, path, result, this_machine(), command())
    if said := said_of(written.result):
        click.echo(f"{said}\n")
    click.echo(written.to_text())

"""`picoquant data`: check, convert, split and draw data sets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable

import click

from picoquant.cli.completion import configs
from picoquant.cli.options import InputSize, gather_overrides


@click.group()
def data() -> None:
    """Look at data sets before a training, convert, split and draw them.

    Each takes a folder or an annotation file as PATH, or the data sets of a configuration.

    \b
    Example:  picoquant data check --config picodet_s_416_coco_npu.yml
    """


def _options(command: Callable) -> Callable:
    """PATH, and the options that say what it means."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="As JSON on stdout."),
        click.option(
            "--save-dir", default="output", show_default=True, metavar="DIR",
            help="The run folder, for a configuration whose data set is generated.",
        ),
        click.option("--input-size", type=InputSize(), help="The network's input (default: the configuration's)."),
        click.option(
            "--set", "-o", "overrides", multiple=True, metavar="KEY.SUB=VALUE", help="Override any key; repeatable."
        ),
        click.option(
            "--config", "-c", metavar="FILE", shell_complete=configs,
            help="A recipe or configuration: a path or a shipped name.",
        ),
        click.argument("words", nargs=-1, metavar="[PATH] [KEY=VALUE]..."),
    ):  # fmt: skip
        command = option(command)
    return command


def _sources(
    words: tuple[str, ...], config: str | None, overrides: tuple[str, ...], input_size: Any, save_dir: str
) -> Any:
    """The data sets; a first word that is there, or has no `=`, is PATH."""
    from picoquant.commands.data.sources import find_sources

    named = bool(words) and ("=" not in words[0] or os.path.exists(words[0]))
    texts = gather_overrides(overrides, words[named:], input_size=input_size)
    return find_sources(words[0] if named else None, config, texts, save_dir)


@data.command()
@_options
@click.option("--decode", is_flag=True, help="Decode every image, too: finds those that are cut short.")
def check(words, config, overrides, input_size, save_dir, as_json, decode) -> None:
    """What is in data sets, and what of it stops a training (exit code 2) or spoils it.

    Counts, classes of train and val side by side, sizes of boxes in the network's input, files that are missing or
    damaged, copies, images in both train and val, and what was repaired while reading.

    \b
    Examples:  picoquant data check --config picodet_s_416_coco_npu.yml
               picoquant data check output/dataset --input-size 320 --decode
    """
    from picoquant.commands.data.check import check_data, refuse_errors
    from picoquant.commands.data.check_text import text_of

    sources = _sources(words, config, overrides, input_size, save_dir)
    result, named = check_data(sources, decode), sources.named_by_config or input_size is not None
    click.echo(json.dumps(result.to_json(), indent=2) if as_json else text_of(result, named))
    refuse_errors(result)


_out = click.option("--out", required=True, metavar="DIR", help="The folder of what is written.")
_force = click.option(
    "--force", is_flag=True, help="Replace files that are there; never those that are read."
)


@data.command()
@_options
@_out
@click.option(
    "--link", "images", flag_value="link", help="Link images (hard links, else symbolic) instead of copying."
)
@click.option(
    "--no-images", "images", flag_value="none", help="Write no images: names lead to where they are."
)
@_force
def convert(words, config, overrides, input_size, save_dir, as_json, out, images, force) -> None:
    """Data sets of any format that is read, as COCO: annotations/instances_train.json, images in train/.

    \b
    Example:  picoquant data convert output/dataset --out cells_coco
    """
    from picoquant.commands.data import convert as work

    sources = _sources(words, config, overrides, input_size, save_dir)
    made = work.convert(sources, Path(out).expanduser(), images or "copy", force)
    click.echo(json.dumps(work.as_json(made), indent=2) if as_json else work.text_of(made))


@data.command()
@_options
@_out
@click.option(
    "--val", default=0.2, show_default=True, help="Part of the images and of each class's boxes, 0 to 1."
)
@click.option("--test", default=0.0, show_default=True, help="The same for a test set; 0: none.")
@click.option("--seed", default=0, show_default=True, help="The same seed splits in the same way.")
@click.option(
    "--group-by", metavar="REGEX",
    help="Images in whose names it matches the same text (that of its first parentheses) stay together.",
)  # fmt: skip
@_force
def split(
    words, config, overrides, input_size, save_dir, as_json, out, val, test, seed, group_by, force
) -> None:
    """One data set into train and val (and test) with every class alike in each, as COCO files.

    Images with the same content stay together, and so do those that --group-by names, such as frames of a video.

    \b
    Examples:  picoquant data split output/dataset/annotations/instances_train.json --out parts --val 0.2
               picoquant data split output/dataset/annotations/instances_train.json --out frames \\
                 --group-by '^(\\w+)\\.'
    """
    from picoquant.commands.data import split as work

    sources = _sources(words, config, overrides, input_size, save_dir)
    made = work.split(sources, Path(out).expanduser(), val, test, seed, group_by, force)
    click.echo(json.dumps(work.as_json(made), indent=2) if as_json else work.text_of(made))


@data.command()
@_options
@click.option("--out", required=True, metavar="FILE", help="The PNG that is written.")
@click.option("--count", default=16, show_default=True, type=click.IntRange(1, 400), help="Images at most.")
@click.option(
    "--side",
    default=480,
    show_default=True,
    type=click.IntRange(32, 4096),
    help="Longer side of an image, pixels.",
)
@click.option("--seed", default=0, show_default=True, help="Of the choice of images.")
@click.option("--val-images", is_flag=True, help="EvalDataset in place of TrainDataset.")
@_force
def draw(
    words, config, overrides, input_size, save_dir, as_json, out, count, side, seed, val_images, force
) -> None:
    """Images with their boxes and class names on one sheet, chosen at random.

    \b
    Example:  picoquant data draw output/dataset --out sheet.png
    """
    from picoquant.commands.data import draw as work

    sources = _sources(words, config, overrides, input_size, save_dir)
    picture = Path(out).expanduser()
    cells = work.draw_sheet(work.section_of(sources, val_images), picture, count, side, seed, force)
    click.echo(
        json.dumps(work.as_json(picture, cells), indent=2) if as_json else work.text_of(picture, cells)
    )

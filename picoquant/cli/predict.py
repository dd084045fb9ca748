"""`picoquant predict`: what a model finds in images, a video or a camera's picture."""

from __future__ import annotations

from pathlib import Path

import click

from picoquant.backends.table import REFERENCE
from picoquant.cli.options import RUNNABLE, slice_options, slicing_of
from picoquant.errors import UserError


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="IMAGE|FOLDER|VIDEO|CAMERA...")
@click.option(
    "--model", metavar="PATH", help="A model folder, .onnx file or package (default: the run's INT8 model)."
)
@click.option("--save-dir", default="output", show_default=True, metavar="DIR", help="The run folder.")
@click.option(
    "--backend", type=click.Choice(RUNNABLE), help="Runtime (default: onnx for .onnx, else paddle)."
)
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Least score.")
@click.option("--out", metavar="DIR", help="Annotated images go here (default: predictions/ in --save-dir).")
@click.option("--no-images", is_flag=True, help="No annotated images, JSON only.")
@click.option("--json-lines", metavar="FILE", help="JSON lines go here (default: detections.jsonl in --out).")
@click.option("--json", "as_json", is_flag=True, help="JSON lines on stdout, too, as they come.")
@click.option(
    "--show/--no-show", default=None, help="A window with the boxes (default: for a camera); q or Esc ends."
)
@click.option("--frames", type=click.IntRange(1), metavar="N", help="Stop after N frames, for a camera.")
@slice_options
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads (default: all).")
@click.option("--opt", metavar="PATH", help="Paddle Lite's opt, for --backend lite.")
def predict(
    sources: tuple[str, ...],
    model: str | None,
    save_dir: str,
    backend: str | None,
    threshold: float,
    out: str | None,
    no_images: bool,
    json_lines: str | None,
    as_json: bool,
    show: bool | None,
    frames: int | None,
    parts: list[int] | None,
    overlap: float | None,
    merge: str | None,
    threads: int,
    opt: str | None,
) -> None:
    """Detect in images, folders, videos or a camera (its number): annotated images and JSON lines.

    One frame at a time, however long the video. What cannot be read is left out with a warning and a line of
    JSON with `error`, and the exit code is 2. The last line says images a second, all work included. A camera is
    shown in a window where there is a display.

    \b
    Examples:  picoquant predict images/ --save-dir output/
               picoquant predict 0 --no-images --save-dir output/
               picoquant predict aerial/ --slice 320 --overlap 0.25 --save-dir output/
               picoquant predict images/ --model output/export --backend onnx --out predictions/ --json
    """
    import itertools

    from picoquant.prediction import sources as places
    from picoquant.prediction.window import window_for

    slicing = slicing_of(parts, overlap, merge)
    found = places.find(sources)
    path = model or model_of_run(save_dir)  # what may be missing is found out before OpenCV is loaded

    from picoquant.backends.base import Machine
    from picoquant.packaging.open_model import open_model
    from picoquant.prediction import predict as library
    from picoquant.runtimes.backends import running
    from picoquant.storage.files import disk_errors

    folder = Path(out or Path(save_dir) / "predictions").expanduser()
    lines = Path(json_lines).expanduser() if json_lines else folder / "detections.jsonl"
    still = all(kind == "image" for kind, _ in found)
    with open_model(path) as opened:
        backend = backend or (next(iter(opened.files)) if opened.folder is None else REFERENCE)
        with running(opened, backend, Machine(threads, opt=opt)) as ready, disk_errors(lines):
            lines.parent.mkdir(parents=True, exist_ok=True)
            camera = any(kind == "camera" for kind, _ in found)
            with open(lines, "w", encoding="utf-8") as stream, window_for(camera, show) as window:

                def say(text: str) -> None:
                    stream.write(text + "\n")
                    stream.flush()
                    if as_json:
                        click.echo(text)

                total = min(len(found), frames or len(found)) if still else frames or 0
                pictures = itertools.islice(places.frames(found), frames)
                done = library.predict(
                    ready,
                    opened.config,
                    pictures,
                    threshold,
                    say,
                    None if no_images else folder,
                    total,
                    slicing,
                    window,
                )
    click.echo(
        f"{done.images} images, {done.detections} detections, {done.images_per_second:.1f} images/s "
        f"({ready.name}); {lines}",
        err=as_json,
    )
    if done.failed:
        rest = f", and {len(done.failed) - 1} more" if len(done.failed) > 1 else ""
        raise UserError(
            f"{done.failed[0]}{rest}; all others are done, lines with `error` in {lines} name these"
        )


def model_of_run(save_dir: str) -> str:
    """The run's INT8 model, or else its FP32 one.

    Raises: `UserError` when it has neither.
    """
    for stage in ("quantize", "export"):
        if (Path(save_dir).expanduser() / stage).is_dir():
            return str(Path(save_dir).expanduser() / stage)
    raise UserError(f"{save_dir} holds no exported model; run `picoquant export` first, or give --model PATH")

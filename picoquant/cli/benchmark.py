"""`picoquant benchmark`: how fast the models of a run are on the runtimes of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from picoquant.cli.options import RUNNABLE


@click.command()
@click.option("--save-dir", default="output", show_default=True, metavar="DIR", help="The run folder.")
@click.option(
    "--model", "models", multiple=True, metavar="PATH", help="In place of the run's models (repeatable)."
)
@click.option(
    "--backend", "backends", multiple=True, type=click.Choice((*RUNNABLE, "all")), default=("all",),
    show_default=True, help="Runtime (repeatable).",
)  # fmt: skip
@click.option(
    "--threads", multiple=True, type=click.IntRange(0), default=(1,), help="Repeatable; 0: all (default 1)."
)
@click.option(
    "--batch", multiple=True, type=click.IntRange(1), default=(1,), help="Images a call; repeatable."
)
@click.option("--warm-up", type=click.IntRange(0), default=5, show_default=True, help="Calls not counted.")
@click.option("--repeats", type=click.IntRange(1), default=50, show_default=True, help="Calls counted.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
@click.option("--opt", metavar="PATH", help="Paddle Lite's opt, for --backend lite.")
def benchmark(
    save_dir: str,
    models: tuple[str, ...],
    backends: tuple[str, ...],
    threads: tuple[int, ...],
    batch: tuple[int, ...],
    warm_up: int,
    repeats: int,
    as_json: bool,
    opt: str | None,
) -> None:
    """Latency and throughput of every model and runtime of a run: median, p90, p99, the first call apart.

    Times are of the network on this machine, not of a board. Also written: benchmark/results.json and .csv.

    \b
    Examples:  picoquant benchmark --save-dir output/
               picoquant benchmark --backend onnx --threads 1 --threads 2 --batch 1 --batch 8 --save-dir output/
    """
    from picoquant.commands.compare_runtimes import compare_classes, models_here
    from picoquant.runtimes import benchmark as library
    from picoquant.storage.files import write_json, write_text

    root = Path(save_dir).expanduser()
    chosen = RUNNABLE if "all" in backends else tuple(dict.fromkeys(backends))
    with models_here(save_dir, models) as opened:
        compare_classes(opened, save_dir)
        cases, not_run = library.benchmark(
            opened, chosen, threads, batch, repeats, warm_up, "all" not in backends, opt
        )
    result = {"cases": [case.as_dict() for case in cases], "not_run": not_run}
    write_json(root / "benchmark" / "results.json", result)
    write_text(root / "benchmark" / "results.csv", library.as_csv(cases))
    click.echo(json.dumps(result, indent=2) if as_json else library.as_table(cases, not_run))

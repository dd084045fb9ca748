"""`picoquant targets` and `picoquant check`: boards, and what of a model runs on one."""

from __future__ import annotations

import json

import click

from picoquant.cli import completion


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
@click.pass_context
def targets(ctx: click.Context, as_json: bool) -> None:
    """The boards picoquant knows; `show` prints one, `refresh` asks opt again what they take.

    \b
    Examples:  picoquant targets
               picoquant targets show rv1126
    """
    if ctx.invoked_subcommand is not None:
        return

    from dataclasses import asdict

    from picoquant.targets.profile_files import known_targets
    from picoquant.targets.profiles import load_target
    from picoquant.targets.table import listing

    loaded = [load_target(name) for name in known_targets()]
    if as_json:
        click.echo(json.dumps([asdict(target) for target in loaded], indent=2))
    else:
        click.echo(listing(loaded))


@targets.command()
@click.argument("name", shell_complete=completion.targets)
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def show(name: str, as_json: bool) -> None:
    """Print one target: a shipped name, or the path of a YAML file of your own.

    \b
    Example:  picoquant targets show rv1126
    """

    from dataclasses import asdict

    from picoquant.targets.profiles import load_target
    from picoquant.targets.table import described

    target = load_target(name)
    click.echo(json.dumps(asdict(target), indent=2) if as_json else described(target))


@targets.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.targets)
@click.option("--opt", metavar="PATH", help="Paddle Lite's opt (default: found, or the toolchain's own).")
def refresh(names: tuple[str, ...], opt: str | None) -> None:
    """Write the lists of operators again, from what opt itself prints; all shipped targets by default.

    \b
    Example:  picoquant targets refresh
    """
    from picoquant.backends.paddle_lite.supported_operators import refresh_operators
    from picoquant.backends.paddle_lite.toolchain import find_opt
    from picoquant.targets.profile_files import known_targets

    for line in refresh_operators(names or tuple(known_targets()), find_opt(opt)):
        click.echo(line)


@click.command()
@click.option(
    "--target", required=True, metavar="NAME", shell_complete=completion.targets,
    help="A shipped target, a YAML file of your own, or the name of one that the run was made for.",
)  # fmt: skip
@click.option("--save-dir", default="output", show_default=True, metavar="DIR", help="The run to check.")
@click.option("--model", "model_dir", metavar="DIR", help="Check this model folder in place of a run's.")
@click.option(
    "--picture", metavar="FILE", help="Where the SVG goes (default: check/TARGET.svg in --save-dir)."
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
@click.option("--opt", metavar="PATH", help="Paddle Lite's opt (default: found, or the toolchain's own).")
@click.option(
    "--emulator",
    is_flag=True,
    help="On VeriSilicon's emulator, too: how many values of each operator are the simulation's.",
)
@click.pass_context
def check(
    ctx: click.Context,
    target: str,
    save_dir: str,
    model_dir: str | None,
    picture: str | None,
    as_json: bool,
    opt: str | None,
    emulator: bool,
) -> None:
    """Prove what of the INT8 model runs on a target's NPU; exit code 1 when a rule of the target is broken.

    Beside the picture it writes TARGET.json, and TARGET.partition.txt where such a file leaves fewer pieces. For an Arm
    Ethos-U it is Vela that places the operators, for an RKNPU rknn-toolkit2: TARGET.json alone, with cycles and memory.

    \b
    Examples:  picoquant check --target rv1126 --save-dir output/
               picoquant check --target rv1126 --model output/quantize --json
    """
    from picoquant.config.target_rules import target_of_run

    profile = target_of_run(target, save_dir)
    from picoquant.commands.check import check_target, model_of

    result = check_target(model_of(save_dir, model_dir), profile, save_dir, picture, opt, emulator)
    if as_json:
        click.echo(json.dumps(result.values, indent=2))
    else:
        click.echo(result.text)
        click.echo("\n".join(["", *(f"written: {path}" for path in result.written)]))
    if result.broken:
        ctx.exit(1)

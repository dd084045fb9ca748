"""`picoquant doctor`: what is installed, what is missing, and whether that is enough."""

from __future__ import annotations

import json

import click

from picoquant.errors import UserError


@click.command()
@click.option(
    "--save-dir",
    default="output",
    show_default=True,
    metavar="DIR",
    help="Where a run would write.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def doctor(save_dir: str, as_json: bool) -> None:
    """Say what is installed, what is missing, and what to do about it; the last line is the verdict.

    Exit code 0 when it is `ready`, 2 when it is `not ready`.

    \b
    Example:  picoquant doctor
    """
    from picoquant.commands.doctor import checks, verdict

    found = checks(save_dir)
    said = verdict(found)
    if as_json:
        report = {"ready": said.ready, "verdict": said.text, "checks": [check.__dict__ for check in found]}
        click.echo(json.dumps(report, indent=2))
    else:
        for check in found:
            click.echo(f"{'ok ' if check.ok else 'NO '} {check.name:<20} {check.found}")
            if not check.ok:
                click.echo(f"    {'':<20} -> {check.advice}")
    if not said.ready:
        raise UserError(said.text)
    if not as_json:
        click.echo(said.text)

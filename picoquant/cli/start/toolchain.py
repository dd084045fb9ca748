"""`picoquant toolchain`: Paddle Lite's opt in an environment of its own."""

from __future__ import annotations

import click


@click.group()
def toolchain() -> None:
    """Paddle Lite's opt in an environment of its own.

    \b
    Example:  picoquant toolchain install
    """


@toolchain.command()
@click.option("--python", metavar="PATH", help="A Python 3.10 or 3.8 to use instead of one that is found.")
def install(python: str | None) -> None:
    """Make the environment that holds Paddle Lite's opt.

    \b
    Example:  picoquant toolchain install
    """
    from picoquant.backends.paddle_lite import toolchain as paddle_lite

    click.echo(paddle_lite.install(python))

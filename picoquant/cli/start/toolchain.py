"""`picoquant toolchain`: vendors' tools in environments of their own."""

from __future__ import annotations

import click


@click.group()
def toolchain() -> None:
    """Vendors' tools in environments of their own.

    \b
    Example:  picoquant toolchain install
    """


@toolchain.command()
@click.argument("name", type=click.Choice(["lite", "verisilicon"]), default="lite")
@click.option("--python", metavar="PATH", help="For lite: a Python 3.10 or 3.8 instead of one that is found.")
@click.option(
    "--accept-licence", is_flag=True, help="For verisilicon: accept the state of its licence, which is shown."
)
def install(name: str, python: str | None, accept_licence: bool) -> None:
    """Install Paddle Lite's opt (lite), or VeriSilicon's emulator of its NPUs (verisilicon).

    \b
    Example:  picoquant toolchain install
    """
    if name == "verisilicon":
        from picoquant.backends.verisilicon import toolchain as verisilicon

        click.echo(verisilicon.install(accept_licence))
        return
    from picoquant.backends.paddle_lite import toolchain as paddle_lite

    click.echo(paddle_lite.install(python))

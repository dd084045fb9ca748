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
@click.argument("name", type=click.Choice(["lite", "verisilicon", "rknn"]), default="lite")
@click.option(
    "--python",
    metavar="PATH",
    help="For lite (3.10, 3.8) and rknn (3.10 to 3.12): this Python instead of one that is found.",
)
@click.option(
    "--accept-licence",
    is_flag=True,
    help="For verisilicon and rknn: accept the licence, which is shown without it.",
)
def install(name: str, python: str | None, accept_licence: bool) -> None:
    """Install Paddle Lite's opt (lite), VeriSilicon's emulator of its NPUs (verisilicon), or rknn-toolkit2 (rknn).

    \b
    Example:  picoquant toolchain install
    """
    if name == "verisilicon":
        from picoquant.backends.verisilicon import toolchain as verisilicon

        click.echo(verisilicon.install(accept_licence))
        return
    if name == "rknn":
        from picoquant.backends.rknn import toolchain as rknn

        click.echo(rknn.install(accept_licence, python))
        return
    from picoquant.backends.paddle_lite import toolchain as paddle_lite

    click.echo(paddle_lite.install(python))

"""`picoquant toolchain`: vendors' tools in environments of their own."""

from __future__ import annotations

from importlib import import_module

import click


@click.group()
def toolchain() -> None:
    """Vendors' tools in environments of their own.

    \b
    Example:  picoquant toolchain install
    """


@toolchain.command()
@click.argument(
    "name",
    type=click.Choice(["lite", "verisilicon", "acuity", "rknn", "tpu_mlir", "esp_ppq"]),
    default="lite",
)
@click.option(
    "--python",
    metavar="PATH",
    help="This Python instead of one that is found: lite 3.10, 3.8; rknn, esp_ppq 3.10 to 3.12; acuity, tpu_mlir 3.10.",
)
@click.option(
    "--accept-licence",
    is_flag=True,
    help="For verisilicon, acuity and rknn: accept the licence, which is shown without it.",
)
def install(name: str, python: str | None, accept_licence: bool) -> None:
    """Install a vendor's tool.

    \b
    lite         Paddle Lite's opt
    verisilicon  VeriSilicon's emulator of its NPUs
    acuity       VeriSilicon's acuity, for its own simulation
    rknn         Rockchip's rknn-toolkit2
    tpu_mlir     Sophgo's TPU-MLIR
    esp_ppq      Espressif's esp-ppq

    \b
    Example:  picoquant toolchain install
    """
    if name == "verisilicon":
        from picoquant.backends.verisilicon import toolchain as verisilicon

        click.echo(verisilicon.install(accept_licence))
    elif name == "lite":
        from picoquant.backends.paddle_lite import toolchain as paddle_lite

        click.echo(paddle_lite.install(python))
    else:
        click.echo(import_module(f"picoquant.backends.{name}.toolchain").install(accept_licence, python))

"""`picoquant verify`: whether a package is whole and still detects what it should."""

from __future__ import annotations

import json

import click

from picoquant.errors import PicoquantError


@click.command()
@click.argument("package", metavar="PACKAGE")
@click.option("--opt", metavar="PATH", help="Paddle Lite's opt (default: found, or the toolchain's own).")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def verify(package: str, opt: str | None, as_json: bool) -> None:
    """Check a package (its folder or .tar.gz): hashes, and the sample in every runtime that is here.

    Exit code 1 when it does not hold, 2 when it is no package.

    \b
    Example:  picoquant verify output/package/rv1126.tar.gz
    """
    from pathlib import Path

    from picoquant.backends.base import Machine
    from picoquant.backends.paddle_lite.toolchain import find_opt
    from picoquant.packaging.verify import verify as verify_package

    if opt:
        find_opt(opt)  # what is named is used or refused; what is not there its check says
    result = verify_package(Path(package), Machine(threads=1, opt=opt))
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    else:
        words = {True: "ok", False: "NO", None: "--"}
        for check in result.checks:
            for line in check.said:
                click.echo(f"{words[check.holds]}  {check.name:<16} {line}")
    if not result.holds:
        failed = ", ".join(check.name for check in result.checks if check.holds is False)
        raise PicoquantError(f"{package} does not hold: {failed}")

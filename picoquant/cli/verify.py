"""`picoquant verify`: whether a package is whole and still detects what it should."""

from __future__ import annotations

import json

import click

from picoquant.errors import PicoquantError, ToolError


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

    from picoquant.backends.paddle_lite.find_opt import find_opt
    from picoquant.packaging.verify import verify as verify_package

    try:
        tool = find_opt(opt)
    except ToolError:
        if opt:
            raise
        tool = None  # said by the check that needs it
    result = verify_package(Path(package), tool)
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

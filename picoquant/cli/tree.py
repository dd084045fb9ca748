"""What all commands have alike: --quiet and --verbose after the name, and an example at the end of the help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from picoquant.cli import console

_EXAMPLES = re.compile(r"\n\n\x08\n(?=Examples?:)")  # click's mark of a paragraph that is not wrapped


def finish(root: click.Group) -> None:
    """Give every command below `root` both options, and show the examples of its docstring behind its options."""
    root.help, root.epilog = _parted(root)
    for _, command in commands(root):
        command.help, command.epilog = _parted(command)
        for option, text in (("quiet", "Warnings and errors only."), ("verbose", "More detail.")):
            more = click.Option(
                [f"--{option}"], is_flag=True, expose_value=False, callback=_loudness, help=text
            )
            command.params.append(more)


def commands(
    root: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below `root` with the words that call it: `("targets", "show")`."""
    for name, command in root.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def _parted(command: click.Command) -> tuple[str | None, str | None]:
    """The help without its examples, and these with click's mark."""
    parts = _EXAMPLES.split(inspect.cleandoc(command.help or ""), maxsplit=1)
    return (parts[0], f"\b\n{parts[1]}") if len(parts) == 2 else (command.help, command.epilog)


def _loudness(ctx: click.Context, param: click.Parameter, given: bool) -> None:
    if given:
        debug = bool(ctx.find_root().params.get("debug"))
        console.set_up(param.name == "quiet", param.name == "verbose", debug)

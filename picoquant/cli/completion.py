"""Shell completion: click's own protocol, and what is completed beyond the names of commands and options."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

VARIABLE = "_PICOQUANT_COMPLETE"  # the shell's script calls picoquant with it


def configs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shipped recipes and configurations that begin so, and files."""
    return _named(("recipes", "configs"), incomplete)


def targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shipped targets that begin so, and files."""
    return _named(("npu_targets",), incomplete)


def targets_or_all(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """As `targets`, and `all`."""
    every = [CompletionItem("all", help="every shipped target")] if "all".startswith(incomplete) else []
    return [*targets(ctx, param, incomplete), *every]


def _named(kinds: tuple[str, ...], incomplete: str) -> list[CompletionItem]:
    from picoquant.yaml_files.locate import shipped_names

    names = (name for kind in kinds for name in shipped_names(kind) if name.startswith(incomplete))
    # Files first: the script for bash forgets the names that came before them.
    return [CompletionItem(incomplete, type="file"), *map(CompletionItem, names)]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, recipes, targets and runtimes in a shell.

    \b
    For good:  echo 'eval "$(picoquant completion bash)"' >> ~/.bashrc
               echo 'eval "$(picoquant completion zsh)"' >> ~/.zshrc
               picoquant completion fish > ~/.config/fish/completions/picoquant.fish

    \b
    Example:  picoquant completion bash
    """
    made = get_completion_class(shell)(ctx.find_root().command, {}, "picoquant", VARIABLE)
    click.echo(made.source())

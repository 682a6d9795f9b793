"""``pulsify completion``: what a shell needs to complete our command lines."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, get_completion_class

from pulsify.errors import UsageError

from .. import console

_HOW = {
    "bash": 'eval "$(pulsify completion bash)"           in ~/.bashrc',
    "zsh": 'eval "$(pulsify completion zsh)"            in ~/.zshrc',
    "fish": "pulsify completion fish > ~/.config/fish/completions/pulsify.fish",
}


@click.command(
    short_help="Print the completion script of a shell.",
    epilog="\b\n" + "\n".join(_HOW.values()),
)
@click.argument("shell", type=click.Choice(list(_HOW)))
@click.option("--debug", is_flag=True, hidden=True)
@click.pass_context
def command(ctx: click.Context, /, shell: str, debug: bool) -> None:
    """Print a script that completes commands, options, their values and files in SHELL."""
    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"no completion for {shell}", why=f"there is one for {', '.join(_HOW)}")
    made = found(ctx.find_root().command, {}, "pulsify", "_PULSIFY_COMPLETE")
    # The version of the bash that is about to read the script matters, not of the one in the path.
    console.line(made.source_template % made.source_vars() if isinstance(made, BashComplete) else made.source())

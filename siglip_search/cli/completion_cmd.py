"""`siglip-search completion`: the script that lets a shell complete commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from siglip_search.cli.console import COMPLETION_VARIABLE

SHELLS = ("bash", "zsh", "fish", "powershell")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes commands, options and names.

    It asks the program itself whenever Tab is pressed, so that an update changes nothing in it.

    \b
      siglip-search completion bash >> ~/.bashrc
      siglip-search completion zsh >> ~/.zshrc
      siglip-search completion fish > ~/.config/fish/completions/siglip-search.fish
      siglip-search completion powershell >> $PROFILE
    """
    program = context.find_root().command
    script = get_completion_class(shell)
    assert script is not None
    print(script(program, {}, "siglip-search", COMPLETION_VARIABLE).source())

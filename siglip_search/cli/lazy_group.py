"""A group of commands that imports each one when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


class LazyGroup(click.Group):
    """A group whose members live in modules of their own.

    A query must not wait for what only `index` needs.

    Args:
        members: The module in `siglip_search.cli` of each command that is not added otherwise;
            there the command bears its own name.
    """

    def __init__(self, *args: Any, members: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._members = members

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which they were given."""
        return [*self.commands, *self._members]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now."""
        if cmd_name not in self._members:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"siglip_search.cli.{self._members[cmd_name]}")
        # A keyword of Python's cannot be a name: there it ends with an underscore.
        command: Any = getattr(module, cmd_name, None) or getattr(module, f"{cmd_name}_")
        assert isinstance(command, click.Command)
        return command

"""A command with so many options that its help has to have sections."""

from __future__ import annotations

from typing import Final

import click

# The room that an option's callback is from, and what its options are about; in this order.
_SECTIONS: Final = {
    "siglip_search.cli.question_options": "What is asked",
    "siglip_search.cli.filter_options": "Which pictures are meant",
    "siglip_search.cli.output_options": "How the answer is shown",
    "siglip_search.cli.preview_options": "How the answer is shown",
    "siglip_search.cli.query_explanation": "Why it is so",
}
_REST: Final = "Options"


class SectionedCommand(click.Command):
    """Shows the options that several commands share under headings of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of each room together, the command's own first."""
        sections: dict[str, list[tuple[str, str]]] = {
            title: [] for title in (_REST, *_SECTIONS.values())
        }
        for parameter in self.get_params(ctx):
            line = parameter.get_help_record(ctx)
            if line is not None and isinstance(parameter, click.Option):
                room = getattr(parameter.callback, "__module__", "")
                sections[_SECTIONS.get(room, _REST)].append(line)
        for title, lines in sections.items():
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)

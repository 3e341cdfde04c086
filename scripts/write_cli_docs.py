"""Write docs/cli.md from the commands themselves, so that neither can say what the other does not.

python scripts/write_cli_docs.py            writes the file
python scripts/write_cli_docs.py --check    exits with 1 if it is out of date
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import click

from siglip_search.cli import command_line

DOCS = Path(__file__).resolve().parents[1] / "docs"
TARGET = DOCS / "cli.md"
EXAMPLES = DOCS / "examples.toml"

HEADING = """\
# Commands

Written by `python scripts/write_cli_docs.py` from what `--help` says.

Exit statuses, where a command does not say otherwise: 0 done, 2 error (one line says what, where
and what to do), 130 interrupted, 141 the reader of the output went away. Results go to stdout;
progress, warnings and errors to stderr.

Options that stand for many runs can be set once, in the file that `siglip-search paths` names:

```toml
library = "~/pictures-library"   # or SIGLIP_SEARCH_LIBRARY
model = "demo"                   # or SIGLIP_SEARCH_MODEL; for new libraries
device = "cpu"                   # or "auto", "npu", "npu-emulator": where models run
jobs = 2                         # pictures at a time
max_pixels = 250000000           # largest picture that is opened
max_seconds = 60                 # longest time for decoding one picture
exclude = ["*.tmp", "Thumbnails/"]
hidden = false                   # take hidden files and folders as well
```
"""


def document() -> str:
    """Return the text of docs/cli.md."""
    # As the program itself makes it: -h is an option of its settings.
    settings = command_line.context_settings
    root = click.Context(command_line, info_name="siglip-search", **settings)
    examples = tomllib.loads(EXAMPLES.read_text(encoding="utf-8"))
    return "\n".join([HEADING, *_sections(command_line, root, examples)])


def _sections(
    command: click.Command, context: click.Context, examples: dict[str, list[list[str]]]
) -> list[str]:
    # A fixed width, whatever the terminal's.
    context.terminal_width = context.max_content_width = 96
    help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    sections = [f"## {context.command_path}\n\n```text\n{help_text}\n```\n"]
    if shown := examples.get(context.command_path.removeprefix("siglip-search ")):
        lines = "\n".join(f"# {says}\n{line}" for line, says in shown)
        sections.append(f"```sh\n{lines}\n```\n")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            inner = click.Context(child, info_name=name, parent=context)
            sections += _sections(child, inner, examples)
    return sections


def main() -> None:
    """Write or check the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    if parser.parse_args().check:
        sys.exit(TARGET.read_text(encoding="utf-8") != document())
    TARGET.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Make sure that a tag, the built files and the changelog are of one version.

python scripts/check_release.py v0.2.0 dist
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag")
    parser.add_argument("dist", type=Path)
    arguments = parser.parse_args()
    if not arguments.dist.is_dir():
        parser.error(f"there is no folder {arguments.dist}: python -m build --outdir dist .")
    problems = find_problems(
        arguments.tag,
        [path.name for path in arguments.dist.iterdir()],
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
        (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    )
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def find_problems(tag: str, files: list[str], pyproject: str, changelog: str) -> list[str]:
    """Return a line for each thing that contradicts the others.

    Args:
        tag: Name of the tag.
        files: Names of the built files.
        pyproject: The text of pyproject.toml.
        changelog: The text of CHANGELOG.md.
    """
    version = tomllib.loads(pyproject)["project"]["version"]
    problems = []
    if tag != f"v{version}":
        problems.append(f"the tag is {tag}, pyproject.toml has version {version}")
    expected = {
        f"siglip_search-{version}.tar.gz",
        f"siglip_search-{version}-py3-none-any.whl",
    }
    if set(files) != expected:
        problems.append(f"dist has {sorted(files)} instead of {sorted(expected)}")
    heading = re.search(rf"^## {re.escape(version)} \((.*)\)$", changelog, re.MULTILINE)
    if heading is None:
        problems.append(f"CHANGELOG.md has no heading '## {version} (YYYY-MM-DD)'")
    else:
        try:
            dt.date.fromisoformat(heading[1])
        except ValueError:
            problems.append(f"CHANGELOG.md dates {version} with {heading[1]!r}")
    return problems


if __name__ == "__main__":
    sys.exit(main())

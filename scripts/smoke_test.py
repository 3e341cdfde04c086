"""Install a built wheel into an empty environment elsewhere and use it as a user would.

python scripts/smoke_test.py dist/siglip_search-*.whl
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path


def main() -> None:
    """Install, run the main commands, and check what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel.resolve()
    with tempfile.TemporaryDirectory(prefix="siglip-search-smoke-") as folder:
        smoke_test(wheel, Path(folder))
    print(f"smoke test passed: {wheel.name}")


def smoke_test(wheel: Path, folder: Path) -> None:
    """Raise AssertionError or CalledProcessError when something is not as it should be."""
    venv.create(folder / "venv", with_pip=True)
    binaries = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = str(binaries / "python")
    command = str(binaries / "siglip-search")
    library = str(folder / "demo" / "library")

    def run(*arguments: str, expect: int = 0) -> str:
        print("+", " ".join([Path(arguments[0]).name, *arguments[1:]]), flush=True)
        # Run from elsewhere, so that the checkout cannot be imported by accident.
        done = subprocess.run(arguments, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
        assert done.returncode == expect, f"exit status {done.returncode}, not {expect}"
        return done.stdout

    run(python, "-m", "pip", "install", "--quiet", str(wheel))
    run(command, "--version")
    print(run(command, "demo", str(folder / "demo")))
    hits = json.loads(run(command, "query", "--library", library, "--json", "red bicycle"))
    assert hits, "nothing found"
    assert {"rank", "path", "probability", "cosine"} <= set(hits[0]), hits[0]
    run(command, "query", "--library", library, "--min-probability", "1", "red bicycle", expect=1)
    run(command, "query", "--library", library, "   ", expect=2)
    run(command, "verify", "--library", library)
    status = json.loads(run(command, "status", "--library", library, "--json"))
    assert status["pictures"] > 100, status
    run(python, "-c", "from siglip_search import open_library; open_library().status()")


if __name__ == "__main__":
    sys.exit(main())

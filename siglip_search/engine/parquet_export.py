"""Writing Parquet, through pyarrow (the extra `parquet`), one row group a batch."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import fields
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from siglip_index.locations import display_text
from siglip_index.records import PhotoFacts
from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from siglip_index.records import Space
    from siglip_search.engine.vector_export import ExportBatch, ExportOptions

METADATA_KEY: Final = b"siglip-search"
LAYOUT: Final = 1
"""Version of the columns and of the file's metadata."""


class ParquetWriter:
    """Rows with typed columns; implements `vector_export.BatchWriter`.

    The vector's column is a list of fixed size, unless spaces of different dimensions are in the
    file. The file's metadata has, under `METADATA_KEY`, a JSON object with the layout, the
    program's version, and model, key and dimension of each space.

    Args:
        stream: Where to.
        spaces: Whose vectors come.
        options: See `ExportOptions`.

    Raises:
        ModelError: pyarrow is not installed.
    """

    def __init__(self, stream: BinaryIO, spaces: Sequence[Space], options: ExportOptions) -> None:
        self._arrow = _import_pyarrow()
        parquet = import_module("pyarrow.parquet")
        self._sink = _Sink(stream)
        self._half = options.half
        dimensions = {space.dimension for space in spaces}
        self._fixed = len(dimensions) == 1
        self._schema = self._arrow.schema(
            _columns(self._arrow), metadata={METADATA_KEY: _metadata(spaces)}
        )
        if options.vectors:
            number = self._arrow.float16() if options.half else self._arrow.float32()
            size = dimensions.pop() if self._fixed else -1
            vector = self._arrow.field("vector", self._arrow.list_(number, size), nullable=False)
            self._schema = self._schema.append(vector)
        # Vectors and hashes hardly repeat: a dictionary of them is only tried in vain.
        repeating = ["model", "space", "format", "camera", "lens", "taken_source"]
        self._writer: Any = parquet.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            use_dictionary=[name for name in repeating if name in self._schema.names],
        )

    def write(self, batch: ExportBatch) -> None:
        """See `BatchWriter.write`."""
        if not batch.photos:
            return
        columns: dict[str, Any] = {
            "content_hash": [photo.content_hash.hex() for photo in batch.photos],
            "paths": [list(map(display_text, photo.paths)) for photo in batch.photos],
            "path_bytes": [list(photo.paths) for photo in batch.photos],
            "companions": [list(map(display_text, photo.companions)) for photo in batch.photos],
            "model": [batch.space.model] * len(batch.photos),
            "space": [batch.space.key] * len(batch.photos),
        }
        for field in fields(PhotoFacts):
            columns[field.name] = [getattr(photo.facts, field.name) for photo in batch.photos]
        arrays = [
            self._vector_column(batch)
            if column.name == "vector"
            else self._arrow.array(columns[column.name], type=column.type)
            for column in self._schema
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """See `BatchWriter.close`."""
        self._writer.close()

    def _vector_column(self, batch: ExportBatch) -> Any:
        numbers = batch.vectors.astype("float16" if self._half else "float32", copy=False)
        values = self._arrow.array(numbers.reshape(-1))
        if self._fixed:
            return self._arrow.FixedSizeListArray.from_arrays(values, batch.space.dimension)
        starts = range(0, len(values) + 1, batch.space.dimension)
        return self._arrow.ListArray.from_arrays(
            self._arrow.array(starts, type=self._arrow.int32()), values
        )


class _Sink:
    """What pyarrow writes to: it counts, and does nothing any more once a write has failed.

    So the writer can always be closed, which on its own would write to a broken pipe once more.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._written = 0
        self._failed = False
        self.closed = False

    def write(self, data: Any) -> int:
        content = bytes(data)
        if not self._failed:
            try:
                self._stream.write(content)
            except BaseException:
                self._failed = True
                raise
        self._written += len(content)
        return len(content)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        if not self._failed:
            self._stream.flush()

    def close(self) -> None:
        self.closed = True


def _import_pyarrow() -> Any:
    try:
        return import_module("pyarrow")
    except ImportError as error:
        # There are no wheels for Python on ARM under Windows.
        if sys.platform == "win32" and platform.machine() == "ARM64":
            hint = "None is published for this platform: `export --to jsonl` needs nothing."
        else:
            hint = 'Install it: pip install "siglip-search[parquet]"; `--to jsonl` needs nothing.'
        raise ModelError("Parquet needs pyarrow, which is not installed", hint=hint) from error


def _columns(arrow: Any) -> list[Any]:
    kinds = {
        "int": arrow.int64(),
        "str": arrow.string(),
        "float": arrow.float64(),
        "tuple[str, ...]": arrow.list_(arrow.string()),
    }
    strings = arrow.list_(arrow.string())
    return [
        arrow.field("content_hash", arrow.string(), nullable=False),
        arrow.field("paths", strings, nullable=False),
        arrow.field("path_bytes", arrow.list_(arrow.binary()), nullable=False),
        arrow.field("companions", strings, nullable=False),
        *(
            arrow.field(field.name, kinds[str(field.type).removesuffix(" | None")])
            for field in fields(PhotoFacts)
        ),
        arrow.field("model", arrow.string(), nullable=False),
        arrow.field("space", arrow.string(), nullable=False),
    ]


def _metadata(spaces: Sequence[Space]) -> bytes:
    return json.dumps(
        {
            "layout": LAYOUT,
            "program": version("siglip-search"),
            "spaces": [
                {"model": space.model, "key": space.key, "dimension": space.dimension}
                for space in spaces
            ],
        }
    ).encode()

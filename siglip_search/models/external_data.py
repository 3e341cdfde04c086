"""Which files an ONNX tower keeps its weights in, beside itself.

A tower names them inside. A model folder must name them too, or they would be left behind when it
is copied, and the tower would fail later, far away.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from siglip_search.errors import ModelError
from siglip_search.models import onnx_fields as onnx
from siglip_search.models.onnx_fields import Field, FieldReader, open_fields

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.spec import ModelSpec


def external_files(tower: Path) -> tuple[str, ...]:
    """Return the files with a tower's weights as it names them, relative to its folder, sorted.

    A tower that cannot be read names none: whether it is sound is the runtime's to say.
    """
    try:
        with open_fields(tower) as reader:
            return tuple(sorted(_locations(reader)))
    except (OSError, ValueError):
        return ()


def check_external_files(spec: ModelSpec) -> None:
    """Compare what the towers name with what the model's facts name.

    Raises:
        ModelError: If a tower keeps weights in a file that is not among its `data_files`.
    """
    for key, file, listed in (
        ("vision", spec.vision.file, spec.vision.data_files),
        ("text", spec.text.file, spec.text.data_files),
    ):
        folder = PurePosixPath(file).parent
        for name in external_files(spec.directory / file):
            if (folder / name).as_posix() not in listed:
                raise ModelError(
                    f"{spec.directory / file} keeps weights in {name}, which {key}.data_files of "
                    f"the model {spec.name!r} does not name",
                    hint=f'Write data_files = ["{(folder / name).as_posix()}"] below [{key}] in '
                    "model.toml; in a row of models.toml it is called "
                    f"{key}_data.",
                )


def _locations(reader: FieldReader) -> set[str]:
    return {
        location
        for graph in reader.messages(0, reader.size_bytes, onnx.MODEL_GRAPH)
        for tensor in reader.messages(graph.begin, graph.stop, onnx.GRAPH_INITIALIZER)
        for entry in reader.messages(tensor.begin, tensor.stop, onnx.TENSOR_EXTERNAL_DATA)
        if (location := _location(reader, entry))
    }


def _location(reader: FieldReader, entry: Field) -> str | None:
    key = value = b""
    for part in reader.fields(entry.begin, entry.stop):
        if part.number == onnx.ENTRY_KEY:
            key = reader.content(part.begin, part.stop)
        elif part.number == onnx.ENTRY_VALUE:
            value = reader.content(part.begin, part.stop)
    return value.decode() if key == b"location" else None

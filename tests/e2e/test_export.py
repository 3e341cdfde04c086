"""`export`: everything that the library knows, in formats that others read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from installed_command import COMMAND

from siglip_index import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from installed_command import CommandLine
    from numpy.typing import NDArray


def stored(cli: CommandLine) -> dict[str, NDArray[np.float32]]:
    """Return the vector of each content, by its hash."""
    with open_store(cli.library, writable=False) as store:
        space = store.active_space()
        assert space is not None
        return {
            photo.content_hash.hex(): vector
            for ids, vectors in store.iter_vectors(space.key)
            for photo, vector in zip(store.photos(ids.tolist()), vectors, strict=True)
        }


def lines_of(content: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in content.splitlines()]


def test_json_lines_have_vectors_paths_and_facts(indexed_gallery: CommandLine) -> None:
    rows = lines_of(indexed_gallery("export", "--to", "jsonl").stdout)
    expected = stored(indexed_gallery)
    assert len(rows) == len(expected) == 120
    for row in rows:
        assert np.array_equal(np.float32(row["vector"]), expected[str(row["content_hash"])])
    first = rows[0]
    assert first["model"] == "demo"
    assert {"width", "height", "format", "taken_at", "latitude"} <= set(first)
    paths = first["paths"]
    assert isinstance(paths, list)
    assert os.path.isfile(paths[0])
    bare = lines_of(indexed_gallery("export", "--to", "jsonl", "--no-vectors", "-").stdout)
    assert [{**row, "vector": None} for row in bare] == [{**row, "vector": None} for row in rows]
    assert "vector" not in bare[0]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_odd_names_survive(cli: CommandLine, pictures: Path) -> None:
    odd = os.fsencode(pictures) + b"/caf\xe9 \xff\n.jpg"
    os.rename(os.fsencode(pictures / "picture-00.jpg"), odd)
    cli.index(pictures)
    rows = lines_of(cli("export", "--to", "jsonl", "--no-vectors").stdout)
    assert odd in [os.fsencode(path) for row in rows for path in row["paths"]]  # type: ignore[attr-defined]
    parquet = pytest.importorskip("pyarrow.parquet")
    target = cli.library.with_name("out.parquet")
    cli("export", "--to", "parquet", target)
    table = parquet.read_table(target)
    assert odd in [path for paths in table["path_bytes"].to_pylist() for path in paths]


@pytest.mark.parametrize("half", [False, True])
def test_parquet_read_back_is_what_is_stored(
    indexed_gallery: CommandLine, tmp_path: Path, half: bool
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "pictures.parquet"
    done = indexed_gallery("export", "--to", "parquet", target, *(["--float16"] if half else []))
    assert done.stdout == b""
    assert "120 rows" in done.stderr
    table = parquet.read_table(target)
    expected = stored(indexed_gallery)
    column = table["vector"]
    dimension = len(next(iter(expected.values())))
    kind = "halffloat" if half else "float"
    assert str(column.type) == f"fixed_size_list<element: {kind}>[{dimension}]"
    numbers = np.stack(column.combine_chunks().flatten().to_numpy().reshape(-1, dimension))
    for digest, vector in zip(table["content_hash"].to_pylist(), numbers, strict=True):
        assert np.array_equal(vector.astype(np.float32), expected.pop(digest))
    assert not expected
    said = json.loads(table.schema.metadata[b"siglip-search"])
    with open_store(indexed_gallery.library, writable=False) as store:
        space = store.active_space()
    assert space is not None
    assert said["spaces"] == [{"model": "demo", "key": space.key, "dimension": dimension}]
    assert table["width"].null_count == 0
    assert str(table["taken_at"].type) == "string"


@pytest.mark.slow
def test_all_spaces_of_several_dimensions(
    cli: CommandLine, pictures: Path, tiny_model: Path, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    cli.index(pictures)
    cli("model", "add", "--replace", tiny_model)
    cli("model", "use", "random-tiny")
    cli("index")
    cli("export", "--to", "parquet", "--all-spaces", tmp_path / "all.parquet")
    table = parquet.read_table(tmp_path / "all.parquet")
    assert table.num_rows == 24
    lengths = {row["model"]: len(row["vector"]) for row in table.to_pylist()}
    rows = lines_of(cli("export", "--to", "jsonl", "--all-spaces").stdout)
    assert {row["model"]: len(row["vector"]) for row in rows} == lengths  # type: ignore[arg-type]
    assert set(lengths) == {"demo", "random-tiny"}
    only = lines_of(cli("export", "--to", "jsonl", "--model", "demo").stdout)
    assert {row["model"] for row in only} == {"demo"}
    key = str(only[0]["space"])
    assert lines_of(cli("export", "--to", "jsonl", "--space", key[:9]).stdout) == only


def test_refusals_name_the_remedy(cli: CommandLine, pictures: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    assert "Index a folder first" in cli("export", "--to", "jsonl", target, expect=2).stderr
    cli.index(pictures)
    refused = cli("export", "--to", "jsonl", "--model", "other", target, expect=2)
    assert "no vectors of the model 'other'" in refused.stderr
    assert "demo" in refused.stderr
    target.write_text("mine")
    assert "--force" in cli("export", "--to", "jsonl", target, expect=2).stderr
    assert target.read_text() == "mine"
    assert "is a folder" in cli("export", "--to", "jsonl", tmp_path, expect=2).stderr
    missing = tmp_path / "nowhere" / "out.jsonl"
    assert "does not exist" in cli("export", "--to", "jsonl", missing, expect=2).stderr
    assert "--to parquet" in cli("export", "--to", "jsonl", "--float16", expect=2).stderr
    cli("export", "--to", "jsonl", "--force", target)
    assert len(target.read_bytes().splitlines()) == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["library", "out.jsonl", "pictures"]


def test_without_pyarrow_the_line_that_installs_it_is_given(
    cli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    cli.index(pictures)
    code = (
        "import sys; sys.modules['pyarrow'] = None; from siglip_search.cli import main; "
        "sys.argv[0] = 'siglip-search'; main()"
    )
    target = tmp_path / "out.parquet"
    done = subprocess.run(
        [sys.executable, "-c", code, "export", "--to", "parquet", target],
        env=cli.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert 'pip install "siglip-search[parquet]"' in done.stderr
    assert not list(tmp_path.glob("out*"))


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_reader_that_goes_away_ends_it_quietly(indexed_gallery: CommandLine, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    process = subprocess.Popen(
        [COMMAND, "export", "--to", form],
        env=indexed_gallery.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) in {0, 141}  # 0 where the pipe held all of it


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_full_disk_is_one_line(indexed_gallery: CommandLine, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    done = indexed_gallery("export", "--to", form, "/dev/full", expect=2)
    assert done.stderr.startswith("siglip-search: /dev/full cannot be written: No space left")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_termination_leaves_nothing_half_written(
    indexed_gallery: CommandLine, tmp_path: Path
) -> None:
    # The signal comes for certain while the file is open.
    code = (
        "import os, signal, sys; from siglip_search.engine import vector_export; "
        "batches = vector_export.exported_batches; "
        "vector_export.exported_batches = lambda *every: "
        "(os.kill(os.getpid(), signal.SIGTERM) or batch for batch in batches(*every)); "
        "from siglip_search.cli import main; sys.argv[0] = 'siglip-search'; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "export", "--to", "jsonl", tmp_path / "out.jsonl"],
        env=indexed_gallery.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted")
    assert not list(tmp_path.glob("out*"))

"""`siglip-search query`: ranked answers, forms of output, exit statuses."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from installed_command import COMMAND
from photos.written_metadata import xmp_list, xmp_packet

from siglip_search import demo

if TYPE_CHECKING:
    from installed_command import CommandLine


def test_json_holds_ranked_hits_with_the_models_probability(indexed_gallery: CommandLine) -> None:
    hits = indexed_gallery("query", "--json", "-n", "5", "--min-probability", "0", "a dog").json
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4, 5]
    assert all({"rank", "path", "probability", "cosine"} <= set(hit) for hit in hits)
    assert all(Path(hit["path"]).is_file() for hit in hits)
    cosines = [hit["cosine"] for hit in hits]
    assert cosines == sorted(cosines, reverse=True)
    assert all(0 <= hit["probability"] <= 1 for hit in hits)


def test_exit_status_is_greps(indexed_gallery: CommandLine) -> None:
    indexed_gallery("query", "--min-probability", "0", "a dog", expect=0)
    none = indexed_gallery("query", "--min-probability", "1", "a dog", expect=1)
    assert none.stdout == b""
    assert "nothing matches 'a dog'" in none.stderr
    assert re.search(r"the best picture reaches \d+\.\d\d% only", none.stderr)
    assert (
        indexed_gallery("query", "--json", "--min-probability", "1", "a dog", expect=1).json == []
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["   "], "no words"),
        (["?!"], "no words"),
        ([], "Missing argument 'WORDS...'"),
        (["-n", "0", "dog"], "-n"),
        (["--min-probability", "2", "dog"], "--min-probability"),
        (["--json", "--csv", "dog"], "Choose one"),
        (["--model", "other", "dog"], "no model called 'other'"),
        (["--colour", "dog"], "--colour"),
    ],
)
def test_bad_question_gets_one_line_and_status_2(
    indexed_gallery: CommandLine, arguments: list[str], complaint: str
) -> None:
    refused = indexed_gallery("query", *arguments, expect=2)
    assert refused.stdout == b""
    assert complaint in refused.stderr


def test_library_without_pictures_is_an_error_with_the_way_out(cli: CommandLine) -> None:
    refused = cli("query", "dog", expect=2)
    assert "siglip-search index" in refused.stderr
    assert not cli.library.exists()


def test_all_forms_of_output_hold_the_same_paths(indexed_gallery: CommandLine) -> None:
    def ask(*options: str) -> str:
        done = indexed_gallery("query", "-n", "7", "--min-probability", "0", *options, "a", "dog")
        return done.text

    paths = [hit["path"] for hit in json.loads(ask("--json"))]
    assert len(paths) == 7
    assert ask("--paths").splitlines() == paths
    assert ask("-0").split("\0")[:-1] == paths
    assert [json.loads(line)["path"] for line in ask("--nl").splitlines()] == paths
    assert [row["path"] for row in csv.DictReader(io.StringIO(ask("--csv")))] == paths
    assert [line.strip().split("  ", 1)[1] for line in ask().splitlines()] == paths


def test_copies_are_one_hit_with_all_paths(cli: CommandLine, pictures: Path) -> None:
    (pictures / "copy.jpg").write_bytes((pictures / "picture-00.jpg").read_bytes())
    cli.index(pictures)
    hits = cli("query", "--json", "-n", "50", "--min-probability", "0", "x").json
    assert len(hits) == 12
    assert sum(len(hit["copies"]) for hit in hits) == 1


def test_pair_and_live_photo_are_one_hit_each_with_all_files(
    cli: CommandLine, pictures: Path
) -> None:
    raw, film = pictures / "picture-00.CR2", pictures / "picture-01.MOV"
    sidecar = pictures / "picture-00.xmp"
    raw.write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(100))
    film.write_bytes(b"film")
    sidecar.write_bytes(xmp_packet('xmp:Rating="4"', xmp_list("dc:subject", ["dog", "beach"])))
    report = cli.index(pictures)
    assert (report["added"], report["companions"], report["ignored"]) == (12, 3, 0)
    assert report["seen"] == 15

    def ask(*options: str) -> str:
        return cli("query", "-n", "50", "--min-probability", "0", *options, "x").text

    hits = {Path(hit["path"]).name: hit for hit in json.loads(ask("--json"))}
    assert len(hits) == 12
    pair = hits["picture-00.jpg"]
    assert pair["companions"] == [str(raw), str(sidecar)]
    assert (pair["rating"], pair["keywords"]) == (4, ["dog", "beach"])
    assert hits["picture-01.jpg"]["companions"] == [str(film)]
    assert (hits["picture-02.jpg"]["companions"], hits["picture-02.jpg"]["rating"]) == ([], None)
    assert len(ask("--paths").splitlines()) == 12
    everything = ask("-0", "--all-files").split("\0")[:-1]
    assert len(everything) == 15
    assert everything[everything.index(pair["path"]) + 1] == str(raw)
    assert f"{pair['path']}  [+CR2 +XMP]\n" in ask()
    refused = cli("query", "--all-files", "--json", "x", expect=2)
    assert "--all-files is for --paths and -0" in refused.stderr


def test_library_may_be_named_before_or_after_the_command(indexed_gallery: CommandLine) -> None:
    for arguments in (
        ["--library", str(indexed_gallery.library), "status", "--json"],
        ["status", "--library", str(indexed_gallery.library), "--json"],
    ):
        done = subprocess.run([COMMAND, *arguments], capture_output=True, check=True)
        assert json.loads(done.stdout)["pictures"] > 100


def test_reader_that_closes_early_meets_no_traceback(indexed_gallery: CommandLine) -> None:
    process = subprocess.Popen(
        [COMMAND, "query", "-n", "100", "--min-probability", "0", "--nl", "dog"],
        env=indexed_gallery.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 141  # as of a program that SIGPIPE ended: not "nothing matches"


# What a query must not wait for: picture decoding, other towers' needs, downloads, terminals.
NOT_FOR_A_QUERY = {
    "PIL",
    "huggingface_hub",
    "httpx",
    "pillow_heif",
    "rich",
    "sqlite_utils",
    "torch",
    "transformers",
    "siglip_search.ingest",
    "siglip_search.photos",
    "siglip_search.search.filters",
    "siglip_search.search.text_matches",
    "siglip_search.towers.vision",
}


@pytest.mark.parametrize("form", [["--nl"], []])
def test_fresh_query_imports_only_what_it_needs(
    indexed_gallery: CommandLine, form: list[str]
) -> None:
    script = f"""
import json, sys
from siglip_search.cli import main
sys.argv[1:] = ["query", *{form!r}, "--min-probability", "0", "dog"]
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=indexed_gallery.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "siglip_search.towers.text" in loaded
    assert not loaded & NOT_FOR_A_QUERY


def test_import_of_the_package_is_light() -> None:
    script = "import sys, siglip_search; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    for heavy in ("numpy", "onnxruntime", "faiss", "PIL", "click", "sqlite3"):
        assert f"'{heavy}'" not in done.stdout


def test_gallery_states_the_truth_about_every_picture() -> None:
    gallery = demo.gallery_directory()
    truth = json.loads((gallery / "gallery.json").read_text(encoding="utf-8"))
    files = {
        path.relative_to(gallery).as_posix()
        for path in gallery.rglob("*")
        if path.is_file() and path.suffix != ".json"
    }
    assert {picture["file"] for picture in truth["pictures"]} == files
    assert all({"thing", "colour", "place"} <= set(picture) for picture in truth["pictures"])

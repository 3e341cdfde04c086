"""Tags belong to a photo's vector and go with it; small records belong to the library."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from stored_samples import SPACE, fill, new_photo, unit_vectors

from siglip_index import open_store
from siglip_index.errors import UnknownSpaceError
from siglip_index.records import Space, Where
from siglip_index.restore import restore_backup, write_backup
from siglip_index.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_index.local_store import LocalStore

OTHER = Space("other", 8, "other")
DOG, SEA = ("dog", 0.9), ("at the sea", 0.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    """Four photos, of which the first two are tagged and the third was looked at."""
    with open_store(tmp_path / "library", writable=True) as store:
        fill(store, 4)
        with store.write() as writer:
            writer.put_tags(SPACE.key, "words", [(1, [SEA, DOG]), (2, [DOG]), (3, [])])
        yield store
    report = verify(tmp_path / "library")
    assert report.is_whole, report


def shown(store: LocalStore, *tags: str) -> set[int]:
    (found,) = store.nearest(SPACE.key, unit_vectors(1), 100, Where(tags=tags))
    return {neighbour.photo_id for neighbour in found}


def test_tags_are_read_back_best_first(store: LocalStore) -> None:
    assert store.tags(SPACE.key, [1, 2, 3, 4, 99]) == {1: (DOG, SEA), 2: (DOG,)}
    assert list(store.tag_counts(SPACE.key).items()) == [("dog", 2), ("at the sea", 1)]
    assert store.photos_untagged(SPACE.key, "words") == {4}
    assert store.photos_untagged(SPACE.key, "other words") == {1, 2, 3, 4}
    assert store.photos_untagged(SPACE.key, "other words", [2, 99]) == {2}
    assert shown(store, "DOG") == {1, 2}
    assert shown(store, "dog", "At the sea") == {1}
    assert shown(store, "do") == set()


def test_tags_are_replaced_whole(store: LocalStore) -> None:
    before = store.generation()
    with store.write() as writer:
        writer.put_tags(SPACE.key, "new words", [(1, [("cat", 1.0)]), (2, [])])
    assert store.generation() == before + 1
    assert store.tags(SPACE.key, [1, 2, 3]) == {1: (("cat", 1.0),)}
    assert store.photos_untagged(SPACE.key, "new words") == {3, 4}
    with store.write() as writer:
        writer.clear_tags(SPACE.key)
    assert store.tag_counts(SPACE.key) == {}
    assert store.photos_untagged(SPACE.key, "new words") == {1, 2, 3, 4}


def test_tag_of_a_photo_that_is_gone_is_passed_over(store: LocalStore) -> None:
    with store.write() as writer:
        writer.put_tags(SPACE.key, "words", [(99, [DOG]), (4, [DOG])])
    assert store.tags(SPACE.key, [4, 99]) == {4: (DOG,)}


def test_photo_of_this_very_transaction_can_be_tagged(store: LocalStore) -> None:
    with store.write() as writer:
        photo_id = writer.add_photo(SPACE.key, new_photo(9, unit_vectors(1, seed=9)[0]))
        writer.put_tags(SPACE.key, "words", [(photo_id, [DOG])])
    assert store.tags(SPACE.key, [photo_id]) == {photo_id: (DOG,)}
    # No file names it: it is not shown, and so it is not counted.
    assert store.tag_counts(SPACE.key)["dog"] == 2


@pytest.mark.parametrize("tags", [[DOG, DOG], [("dog", 1.5)], [("dog", float("nan"))]])
def test_impossible_tags_are_refused_and_nothing_changes(
    store: LocalStore, tags: list[tuple[str, float]]
) -> None:
    with pytest.raises(sqlite3.IntegrityError), store.write() as writer:
        writer.put_tags(SPACE.key, "new", [(2, []), (1, tags)])
    assert store.tags(SPACE.key, [1, 2]) == {1: (DOG, SEA), 2: (DOG,)}


def test_vanished_photo_keeps_its_tags_until_it_is_pruned(store: LocalStore) -> None:
    (root,) = store.roots()
    first = next(file for file in store.files(root.id) if file.photo_id == 1)
    with store.write() as writer:
        writer.mark_vanished([first.id])
    assert store.tag_counts(SPACE.key) == {"dog": 1}
    assert shown(store, "dog") == {2}
    with store.write() as writer:
        writer.refresh_files([(first.id, first.fingerprint, first.device)])
    assert store.tag_counts(SPACE.key) == {"dog": 2, "at the sea": 1}
    with store.write() as writer:
        writer.mark_vanished([first.id])
        assert writer.prune(float("inf")) == 1
    assert store.tags(SPACE.key, [1]) == {}


def test_dropping_a_root_drops_its_tags(store: LocalStore) -> None:
    (root,) = store.roots()
    with store.write() as writer:
        assert writer.drop_root(root.id) == 4
    assert store.tags(SPACE.key, [1, 2]) == {}
    assert store.tag_counts(SPACE.key) == {}


def test_tags_of_a_space_go_with_it(store: LocalStore) -> None:
    fill(store, 4, space=OTHER)
    with store.write() as writer:
        writer.put_tags(OTHER.key, "words", [(1, [("cat", 0.5)])])
    assert store.tags(OTHER.key, [1]) == {1: (("cat", 0.5),)}
    # Conditions are about the active space.
    assert shown(store, "cat") == set()
    with store.write() as writer:
        writer.activate_space(OTHER.key)
    assert shown(store, "cat") == {1}
    with store.write() as writer:
        writer.activate_space(SPACE.key)
        writer.drop_space(OTHER.key)
        writer.ensure_space(OTHER)
    assert store.tags(OTHER.key, [1]) == {}
    assert store.tags(SPACE.key, [1]) == {1: (DOG, SEA)}


def test_unknown_space_has_no_tags(store: LocalStore) -> None:
    for ask in (
        lambda: store.tags("nowhere", [1]),
        lambda: store.tag_counts("nowhere"),
        lambda: store.photos_untagged("nowhere", "words"),
        lambda: store.sample_ids("nowhere", 1),
    ):
        with pytest.raises(UnknownSpaceError):
            ask()


def test_records_are_kept_replaced_and_deleted(store: LocalStore) -> None:
    value = json.dumps({"name": "\u00e9\udcff", "numbers": [1, None]})
    with store.write() as writer:
        writer.put_record("saved", "b", value)
        writer.put_record("saved", "a \u00e9", "1")
        writer.put_record("other", "b", "[]")
    assert list(store.records("saved").items()) == [("a \u00e9", "1"), ("b", value)]
    assert json.loads(store.records("saved")["b"])["name"] == "\u00e9\udcff"
    with store.write() as writer:
        writer.put_record("saved", "b", "2")
        writer.put_record("saved", "a \u00e9", None)
        writer.put_record("saved", "never there", None)
    assert store.records("saved") == {"b": "2"}
    assert store.records("other") == {"b": "[]"}
    assert store.records("nothing") == {}


def test_record_that_does_not_change_is_no_change(store: LocalStore) -> None:
    with store.write() as writer:
        writer.put_record("saved", "a", "1")
    before = store.generation()
    with store.write() as writer:
        writer.put_record("saved", "a", "1")
        writer.put_record("saved", "b", None)
    assert store.generation() == before


@pytest.mark.parametrize("value", ["", "{", "one", "NaN!"])
def test_record_that_is_no_json_is_refused(store: LocalStore, value: str) -> None:
    with pytest.raises(ValueError), store.write() as writer:
        writer.put_record("saved", "a", value)
    assert store.records("saved") == {}


def test_backup_holds_tags_and_records(store: LocalStore, tmp_path: Path) -> None:
    with store.write() as writer:
        writer.put_record("saved", "a", "1")
    write_backup(store.directory, tmp_path / "backup")
    restored = tmp_path / "restored"
    restore_backup(tmp_path / "backup", restored)
    with open_store(restored, writable=False) as copy:
        assert copy.tags(SPACE.key, [1, 2, 3]) == store.tags(SPACE.key, [1, 2, 3])
        assert copy.photos_untagged(SPACE.key, "words") == {4}
        assert copy.records("saved") == {"a": "1"}

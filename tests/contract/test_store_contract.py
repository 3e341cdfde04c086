"""What every store must do, compared with a model in plain Python."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_samples import SPACE, as_stored, file_entry, fill, new_photo, unit_vectors

from siglip_index import open_store
from siglip_index.errors import InvalidVectorError, UnknownSpaceError
from siglip_index.records import (
    Companion,
    FileEntry,
    Fingerprint,
    NewPhoto,
    Space,
    StoreCounts,
    Where,
)
from siglip_index.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from siglip_index.protocol import Store, StoreWriter

OTHER_SPACE = Space(key="space-b", dimension=8, model="another")


class Library(Protocol):
    """A library of one implementation, opened and closed as a user would."""

    def open(self) -> Store: ...

    def check(self) -> None: ...


class LocalLibrary:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> Store:
        return open_store(self._directory, writable=True)

    def check(self) -> None:
        report = verify(self._directory)
        assert report.is_whole, report


@pytest.fixture(params=["local"])
def make_library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Library]:
    """Return what makes a new, empty library of the implementation."""
    assert request.param == "local"
    return lambda: LocalLibrary(tmp_path_factory.mktemp("store") / "library")


@pytest.fixture
def store(make_library: Callable[[], Library]) -> Iterator[Store]:
    library = make_library()
    store = library.open()
    yield store
    store.close()
    library.check()


def photo_ids(store: Store, where: Where | None = None, space: Space = SPACE) -> set[int]:
    """Return every photo that a search can return."""
    query = unit_vectors(1, space.dimension)
    (neighbours,) = store.nearest(space.key, query, 10_000, where)
    matched = store.matches(space.key, query[0], -2.0, where)
    assert {n.photo_id for n in neighbours} == {n.photo_id for n in matched}
    return {neighbour.photo_id for neighbour in neighbours}


def test_empty_store_answers_everything(store: Store) -> None:
    assert store.counts() == StoreCounts()
    assert store.spaces() == []
    assert store.active_space() is None
    assert store.roots() == []
    assert list(store.files(1)) == []
    assert store.failures() == []
    assert store.known_sizes() == set()
    assert store.photos_by_hash("nowhere", [b"x"]) == {}
    assert store.photos_in_space("nowhere") == set()
    assert store.photos([1]) == []
    for ask in (
        lambda: store.nearest("nowhere", unit_vectors(1), 1),
        lambda: store.matches("nowhere", unit_vectors(1)[0], 0.0),
        lambda: store.vectors("nowhere", [1]),
        lambda: list(store.iter_vectors("nowhere")),
    ):
        with pytest.raises(UnknownSpaceError):
            ask()


def test_what_was_written_is_read_back(store: Store) -> None:
    vector = unit_vectors(1)[0]
    with store.write() as writer:
        writer.ensure_space(SPACE)
        root = writer.ensure_root(b"/pictures", 2**64 - 1)
        facts = {
            "format": "HEIF",
            "taken_at": "2021-05-04T13:14:15+02:00",
            "camera": "Maker \udcff Model",
            "latitude": -12.5,
            "longitude": 179.0,
        }
        photo_id = writer.add_photo(SPACE.key, new_photo(1, vector, **facts))
        entry = FileEntry(
            root.id, b"a/\xff\n.heic", Fingerprint(77, 2**63 + 5, 2**64 - 2), 2**64 - 3
        )
        writer.link_files(photo_id, [entry])
        writer.record_failure(file_entry(root.id, b"bad.jpg"), "cut off \udc80")
    assert store.active_space() == SPACE
    assert store.spaces() == [SPACE]
    assert store.roots() == [root]
    assert root.device == 2**64 - 1
    (bad, good) = sorted(store.files(root.id), key=lambda file: file.photo_id or 0)
    assert (good.path, good.fingerprint, good.device) == (
        entry.path,
        entry.fingerprint,
        entry.device,
    )
    assert (good.photo_id, good.failure, good.present) == (photo_id, None, True)
    assert (bad.photo_id, bad.failure, bad.present) == (None, "cut off ?", True)
    (photo,) = store.photos([photo_id])
    assert photo.paths == (b"/pictures/a/\xff\n.heic",)
    assert photo.content_hash == b"content-1"
    assert photo.facts.camera == "Maker ? Model"
    assert (photo.facts.taken_at, photo.facts.latitude) == ("2021-05-04T13:14:15+02:00", -12.5)
    assert store.known_sizes() == {77}
    assert store.failures() == [(b"/pictures/bad.jpg", "cut off ?")]
    assert store.counts() == StoreCounts(pictures=1, files=1, failed=1)
    assert store.photos_by_hash(SPACE.key, [b"content-1", b"other"]) == {
        b"content-1": (photo_id, True)
    }
    assert store.photos_by_hash("elsewhere", [b"content-1"]) == {b"content-1": (photo_id, False)}
    np.testing.assert_array_equal(store.vectors(SPACE.key, [photo_id])[0], as_stored(vector))


def test_transaction_that_fails_leaves_nothing(store: Store) -> None:
    fill(store, 3)
    before = store.counts(), store.generation(), photo_ids(store)

    def fail(error: Exception) -> None:
        with store.write() as writer:
            writer.add_photo(SPACE.key, new_photo(99, unit_vectors(1)[0]))
            writer.mark_vanished([1])
            raise error

    for error in (RuntimeError("a bug"), FileNotFoundError("the caller's own")):
        with pytest.raises(type(error), match=str(error)):
            fail(error)
    assert (store.counts(), store.generation(), photo_ids(store)) == before
    fill(store, 1, first=50)
    assert store.counts().pictures == 4


def test_same_content_twice_in_one_transaction_is_one_photo(store: Store) -> None:
    first, second = unit_vectors(2)
    with store.write() as writer:
        writer.ensure_space(SPACE)
        root = writer.ensure_root(b"/p", None)
        one = writer.add_photo(SPACE.key, new_photo(1, first))
        writer.link_files(one, [file_entry(root.id, b"a")])
        two = writer.add_photo(SPACE.key, new_photo(1, second))
        writer.link_files(two, [file_entry(root.id, b"b")])
    assert one == two
    assert store.counts() == StoreCounts(pictures=1, files=2)
    assert store.photos([one])[0].paths == (b"/p/a", b"/p/b")
    np.testing.assert_array_equal(store.vectors(SPACE.key, [one])[0], as_stored(first))


@pytest.mark.parametrize(
    "vector",
    [
        unit_vectors(1, 15)[0],
        unit_vectors(1),
        np.full(16, np.nan, dtype=np.float32),
        np.zeros(16, dtype=np.float32),
        unit_vectors(1)[0] * 3,
    ],
)
def test_vector_that_is_no_unit_vector_of_the_space_is_refused(
    store: Store, vector: np.ndarray
) -> None:
    fill(store, 1)
    with pytest.raises(InvalidVectorError), store.write() as writer:
        writer.add_photo(SPACE.key, new_photo(9, vector))
    assert store.counts().pictures == 1


def test_photo_is_invisible_until_a_file_names_it(store: Store) -> None:
    with store.write() as writer:
        writer.ensure_space(SPACE)
        photo_id = writer.add_photo(SPACE.key, new_photo(1, unit_vectors(1)[0]))
    assert photo_ids(store) == set()
    assert store.counts() == StoreCounts(vanished=1)
    assert store.photos_in_space(SPACE.key) == {photo_id}
    with store.write() as writer:
        root = writer.ensure_root(b"/p", None)
        writer.link_files(photo_id, [file_entry(root.id, b"a")])
    assert photo_ids(store) == {photo_id}


def test_vanished_photo_leaves_the_results_and_comes_back(store: Store) -> None:
    first, second = fill(store, 2)
    (root,) = store.roots()
    file, _ = store.files(root.id)
    with store.write() as writer:
        writer.mark_vanished([file.id])
    assert photo_ids(store) == {second}
    assert store.photos([first, second])[0].id == second
    assert store.counts() == StoreCounts(pictures=1, files=1, vanished=1)
    assert not next(iter(store.files(root.id))).present
    with store.write() as writer:
        writer.refresh_files([(file.id, Fingerprint(5, 6, 7), 8)])
    assert photo_ids(store) == {first, second}
    back = next(iter(store.files(root.id)))
    assert (back.present, back.fingerprint, back.device) == (True, Fingerprint(5, 6, 7), 8)


def test_photo_with_another_file_stays_when_one_vanishes(store: Store) -> None:
    (photo_id,) = fill(store, 1)
    (root,) = store.roots()
    (file,) = store.files(root.id)
    with store.write() as writer:
        writer.link_files(photo_id, [file_entry(root.id, b"copy.jpg")])
        writer.mark_vanished([file.id])
    assert store.photos([photo_id])[0].paths == (b"/pictures/copy.jpg",)
    assert photo_ids(store) == {photo_id}


def test_changed_file_leaves_its_former_content_vanished(store: Store) -> None:
    (old,) = fill(store, 1)
    (root,) = store.roots()
    with store.write() as writer:
        new = writer.add_photo(SPACE.key, new_photo(7, unit_vectors(1, seed=7)[0]))
        writer.link_files(new, [file_entry(root.id, b"0.jpg", 3)])
    assert photo_ids(store) == {new}
    assert store.counts() == StoreCounts(pictures=1, files=1, vanished=1)
    with store.write() as writer:
        writer.record_failure(file_entry(root.id, b"0.jpg", 4), "broken now")
    assert photo_ids(store) == set()
    assert store.counts() == StoreCounts(failed=1, vanished=2)
    assert store.photos_in_space(SPACE.key) == {old, new}


def test_prune_deletes_only_what_vanished_before(store: Store) -> None:
    first, _ = fill(store, 2)
    (root,) = store.roots()
    file = next(iter(store.files(root.id)))
    before = time.time() - 1
    with store.write() as writer:
        writer.mark_vanished([file.id])
        assert writer.prune(before) == 0
    with store.write() as writer:
        assert writer.prune(time.time() + 1) == 1
    assert store.counts() == StoreCounts(pictures=1, files=1)
    assert len(list(store.files(root.id))) == 1
    with pytest.raises(LookupError):
        store.vectors(SPACE.key, [first])
    fill(store, 1)  # the same content again is a new photo
    assert first not in photo_ids(store)
    assert store.counts().pictures == 2


def test_dropping_a_root_deletes_what_only_it_named(store: Store) -> None:
    shared, alone = fill(store, 2)
    (root,) = store.roots()
    with store.write() as writer:
        other = writer.ensure_root(b"/elsewhere", None)
        writer.link_files(shared, [file_entry(other.id, b"copy.jpg")])
    with store.write() as writer:
        assert writer.drop_root(root.id) == 1
    assert store.roots() == [other]
    assert photo_ids(store) == {shared}
    assert store.photos_by_hash(SPACE.key, [b"content-1"]) == {}
    assert alone not in store.photos_in_space(SPACE.key)


def test_root_absorbs_the_roots_below_it(store: Store) -> None:
    (inner_photo,) = fill(store, 1, root=b"/data/photos/2020")
    (single,) = fill(store, 1, first=1, root=b"/data/one.jpg")
    (sibling,) = fill(store, 1, first=2, root=b"/data/photos-not-below")
    with store.write() as writer:
        root = writer.ensure_root(b"/data/photos", 1)
    assert [known.path for known in store.roots()] == [
        b"/data/one.jpg",
        b"/data/photos",
        b"/data/photos-not-below",
    ]
    assert [file.path for file in store.files(root.id)] == [b"2020/0.jpg"]
    with store.write() as writer:
        everything = writer.ensure_root(b"/", 1)
    assert store.roots() == [everything]
    assert [photo.paths for photo in store.photos([inner_photo, sibling])] == [
        (b"/data/photos/2020/0.jpg",),
        (b"/data/photos-not-below/2.jpg",),
    ]
    assert photo_ids(store) == {inner_photo, single, sibling}
    assert store.counts().files == 3


def test_root_that_is_itself_a_file_keeps_its_path(store: Store) -> None:
    with store.write() as writer:
        writer.ensure_space(SPACE)
        root = writer.ensure_root(b"/data/one.jpg", 3)
        photo_id = writer.add_photo(SPACE.key, new_photo(1, unit_vectors(1)[0]))
        writer.link_files(photo_id, [file_entry(root.id, b"")])
    assert store.photos([photo_id])[0].paths == (b"/data/one.jpg",)
    with store.write() as writer:
        outer = writer.ensure_root(b"/data", 3)
    assert [file.path for file in store.files(outer.id)] == [b"one.jpg"]


def test_root_below_a_root_is_refused_and_the_same_root_is_the_same(store: Store) -> None:
    with store.write() as writer:
        root = writer.ensure_root(b"/data", 3)
        assert writer.ensure_root(b"/data/", None) == root
        assert writer.ensure_root(b"/data", 4).device == 4
        with pytest.raises(ValueError, match="lies below"):
            writer.ensure_root(b"/data/photos", 3)
    assert [(known.id, known.device) for known in store.roots()] == [(root.id, 4)]


def test_two_spaces_side_by_side(store: Store) -> None:
    ids = fill(store, 3)
    vectors = unit_vectors(3, OTHER_SPACE.dimension, seed=5)
    with store.write() as writer:
        writer.ensure_space(OTHER_SPACE)
        again = writer.add_photo(OTHER_SPACE.key, new_photo(1, vectors[1]))
    assert again == ids[1]
    assert store.active_space() == SPACE
    assert store.counts().pictures == 3
    assert photo_ids(store) == set(ids)
    assert photo_ids(store, space=OTHER_SPACE) == {again}
    assert store.photos_by_hash(OTHER_SPACE.key, [b"content-0", b"content-1"]) == {
        b"content-0": (ids[0], False),
        b"content-1": (ids[1], True),
    }
    with store.write() as writer:
        writer.activate_space(OTHER_SPACE.key)
        with pytest.raises(UnknownSpaceError):
            writer.activate_space("nowhere")
        with pytest.raises(InvalidVectorError):
            writer.ensure_space(Space(SPACE.key, 99, "sample"))
    assert store.active_space() == OTHER_SPACE


def test_coming_space_is_remembered_until_it_is_active(store: Store) -> None:
    assert store.coming_space() is None
    fill(store, 1)
    with store.write() as writer:
        writer.ensure_space(OTHER_SPACE)
        writer.prepare_space(OTHER_SPACE.key)
        with pytest.raises(UnknownSpaceError):
            writer.prepare_space("nowhere")
        writer.prepare_space(OTHER_SPACE.key)
    assert store.coming_space() == OTHER_SPACE
    assert store.active_space() == SPACE
    with store.write() as writer:
        writer.activate_space(SPACE.key)
    assert store.coming_space() == OTHER_SPACE
    with store.write() as writer:
        writer.prepare_space(None)
    assert store.coming_space() is None
    with store.write() as writer:
        writer.prepare_space(OTHER_SPACE.key)
        writer.activate_space(OTHER_SPACE.key)
    assert (store.coming_space(), store.active_space()) == (None, OTHER_SPACE)


def test_space_takes_the_name_of_the_model_that_uses_it_now(store: Store) -> None:
    fill(store, 1)
    with store.write() as writer:
        writer.ensure_space(replace(SPACE, model="sample-int8"))
    active = store.active_space()
    assert active is not None
    assert (active.key, active.model) == (SPACE.key, "sample-int8")
    assert len(store.photos_in_space(SPACE.key)) == 1


def test_dropped_space_takes_its_vectors_along_and_nothing_else(store: Store) -> None:
    ids = fill(store, 3)
    vectors = unit_vectors(4, OTHER_SPACE.dimension, seed=5)
    with store.write() as writer:
        writer.ensure_space(OTHER_SPACE)
        writer.prepare_space(OTHER_SPACE.key)
        writer.add_photo(OTHER_SPACE.key, new_photo(1, vectors[1]))
        (root, *_) = store.roots()
        alone = writer.add_photo(OTHER_SPACE.key, new_photo(9, vectors[3]))
        writer.link_files(alone, [FileEntry(root.id, b"alone.jpg", Fingerprint(9, 9))])
    used = {usage.space.key: usage.vectors for usage in store.space_usage()}
    assert used == {SPACE.key: 3, OTHER_SPACE.key: 2}
    assert photo_ids(store, space=OTHER_SPACE) == {ids[1], alone}
    with pytest.raises(ValueError, match="active"), store.write() as writer:
        writer.drop_space(SPACE.key)
    with store.write() as writer:
        assert writer.drop_space(OTHER_SPACE.key) == 2
    assert store.spaces() == [SPACE]
    assert store.coming_space() is None
    assert photo_ids(store) == set(ids)
    assert store.counts().pictures == 3
    # The picture that had a vector nowhere else will be read again.
    (known,) = [file for file in store.files(root.id) if file.path == b"alone.jpg"]
    assert (known.photo_id, known.failure, known.present) == (None, None, True)
    with pytest.raises(UnknownSpaceError):
        store.nearest(OTHER_SPACE.key, vectors[:1], 3)
    # The same space again begins empty.
    with store.write() as writer:
        writer.ensure_space(OTHER_SPACE)
        again = writer.add_photo(OTHER_SPACE.key, new_photo(2, vectors[2]))
    assert photo_ids(store, space=OTHER_SPACE) == {again}


def test_iter_vectors_gives_all_visible_in_batches(store: Store) -> None:
    ids = fill(store, 10)
    (root,) = store.roots()
    with store.write() as writer:
        writer.mark_vanished([next(iter(store.files(root.id))).id])
    batches = list(store.iter_vectors(SPACE.key, batch_size=4))
    assert [len(found) for found, _ in batches] == [4, 4, 1]
    assert np.concatenate([found for found, _ in batches]).tolist() == ids[1:]
    np.testing.assert_array_equal(
        np.concatenate([vectors for _, vectors in batches]), as_stored(unit_vectors(10))[1:]
    )


@pytest.fixture
def dated(store: Store) -> tuple[Store, list[int]]:
    """Six photos in two roots with formats and capture times; the files' own are of 2001."""
    rows = [
        (b"/a", b"x/1.jpg", "JPEG", "2019-12-31T23:59:59"),
        (b"/a", b"x/2.jpg", "JPEG", "2020-01-01T00:00:00+05:00"),
        (b"/a", b"xy/3.png", "PNG", "2020-06-01"),
        (b"/b", b"4.png", "PNG", None),
        (b"/b", b"\xff\xfe/5.heic", "HEIF", "2021-02-03T04:05:06.789-03:00"),
        (b"/b", b"x/6.jpg", "JPEG", "2020-01-01 12:00:00"),
    ]
    ids = []
    with store.write() as writer:
        writer.ensure_space(SPACE)
        for number, (root, path, kind, taken_at) in enumerate(rows):
            photo = new_photo(number, unit_vectors(6)[number], format=kind, taken_at=taken_at)
            photo_id = writer.add_photo(SPACE.key, photo)
            writer.link_files(photo_id, [file_entry(writer.ensure_root(root, 1).id, path)])
            ids.append(photo_id)
    return store, ids


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Where(), {0, 1, 2, 3, 4, 5}),
        (Where(formats=("JPEG",)), {0, 1, 5}),
        (Where(formats=("png", "HEIF")), {2, 3, 4}),
        (Where(formats=("GIF",)), set()),
        (Where(under=(b"/a",)), {0, 1, 2}),
        (Where(under=(b"/a/",)), {0, 1, 2}),
        (Where(under=(b"/a/x",)), {0, 1}),
        (Where(under=(b"/a/x/1.jpg",)), {0}),
        (Where(under=(b"/",)), {0, 1, 2, 3, 4, 5}),
        (Where(under=(b"/b/\xff\xfe", b"/a/xy")), {2, 4}),
        (Where(under=(b"/c",)), set()),
        (Where(under=(b"/a/nothing",)), set()),
        (Where(taken_from="2020"), {1, 2, 4, 5}),
        (Where(taken_from="2020-01-01", taken_before="2020-01-02"), {1, 5}),
        (Where(taken_before="2020-01-01T00:00:00Z"), {0, 3}),
        (Where(taken_from="2001-09", taken_before="2001-10"), {3}),
        (Where(taken_before="2001-09"), set()),
        (Where(taken_from="2021-02-03T04:05:06"), {4}),
        (Where(under=(b"/b",), formats=("JPEG",), taken_from="2020-01-01"), {5}),
    ],
)
def test_conditions_select(
    dated: tuple[Store, list[int]], where: Where, expected: set[int]
) -> None:
    store, ids = dated
    assert photo_ids(store, where) == {ids[number] for number in expected}


def test_condition_on_a_folder_looks_at_present_files_only(
    dated: tuple[Store, list[int]],
) -> None:
    store, ids = dated
    root_a, root_b = store.roots()
    with store.write() as writer:
        writer.link_files(ids[0], [file_entry(root_b.id, b"copy.jpg")])
        file = next(file for file in store.files(root_a.id) if file.photo_id == ids[0])
        writer.mark_vanished([file.id])
    assert ids[0] not in photo_ids(store, Where(under=(b"/a",)))
    assert ids[0] in photo_ids(store, Where(under=(b"/b",)))


def test_time_that_is_no_time_is_a_mistake(dated: tuple[Store, list[int]]) -> None:
    with pytest.raises(ValueError, match="yesterday"):
        dated[0].nearest(SPACE.key, unit_vectors(1), 1, Where(taken_from="yesterday"))


def test_nearest_cuts_and_orders(store: Store) -> None:
    ids = fill(store, 200)
    vectors, queries = as_stored(unit_vectors(200)), unit_vectors(2, seed=3)
    for query, neighbours in zip(queries, store.nearest(SPACE.key, queries, 7), strict=True):
        products = vectors @ query
        best = np.argsort(-products)[:7]
        assert [neighbour.photo_id for neighbour in neighbours] == [ids[place] for place in best]
        assert [neighbour.cosine for neighbour in neighbours] == pytest.approx(
            products[best].tolist(), abs=2e-5
        )
    same = store.nearest(SPACE.key, unit_vectors(200)[5:6], 1)[0][0]
    assert same.photo_id == ids[5]
    assert 0.999 < same.cosine <= 1.0
    with pytest.raises(ValueError, match="k is 0"):
        store.nearest(SPACE.key, queries, 0)
    with pytest.raises(InvalidVectorError):
        store.nearest(SPACE.key, unit_vectors(1, 3), 1)


# --- random histories against a model ---------------------------------------------------------

CONTENTS = 6
PATHS = [b"a.jpg", b"sub/b.jpg", b"sub/c.png", b"d\xff.jpg"]
ROOTS = [b"/photos/one", b"/photos/two"]
SPACES = [SPACE, OTHER_SPACE]
VECTORS = {space.key: unit_vectors(CONTENTS, space.dimension, seed=11) for space in SPACES}
TAKEN = [f"2020-01-0{number + 1}T00:00:00" for number in range(CONTENTS)]
FORMATS = ["JPEG", "PNG"]
TAGS = ["dog", "stra\u00dfe", "at the sea"]
VOCABULARIES = ["first", "second"]

Operation = tuple[str, int, int, int]
operations = st.tuples(
    st.sampled_from(
        [
            "add",
            "add",
            "add",
            "copy",
            "fail",
            "vanish",
            "refresh",
            "drop_file",
            "drop_root",
            "prune",
            "absorb",
            "drop_space",
            "companions",
            "facts",
            "online",
            "exclude",
            "exchange",
            "tag",
            "clear_tags",
            "record",
        ]
    ),
    st.integers(0, CONTENTS - 1),
    st.integers(0, len(ROOTS) * len(PATHS) - 1),
    st.integers(0, 1),
)
transactions = st.tuples(
    st.sampled_from(["commit", "commit", "commit", "abort", "reopen", "snapshot"]),
    st.lists(operations, min_size=1, max_size=5),
)


@dataclass
class ModelFile:
    content: int | None
    present: bool = True
    failed: bool = False
    companions: frozenset[bytes] = frozenset()
    """Absolute paths."""


@dataclass
class Model:
    """Files by absolute path, and which contents have which vectors."""

    files: dict[bytes, ModelFile] = field(default_factory=dict)
    vectors: dict[int, set[str]] = field(default_factory=dict)
    roots: set[bytes] = field(default_factory=set)
    online: set[bytes] = field(default_factory=set)
    titles: dict[int, str] = field(default_factory=dict)
    tags: dict[tuple[int, str], tuple[str, dict[str, float]]] = field(default_factory=dict)
    """Vocabulary and tags by content and space."""
    records: dict[str, str] = field(default_factory=dict)

    def copy(self) -> Model:
        files = {path: replace(file) for path, file in self.files.items()}
        vectors = {content: set(spaces) for content, spaces in self.vectors.items()}
        return Model(
            files,
            vectors,
            set(self.roots),
            set(self.online),
            dict(self.titles),
            dict(self.tags),
            dict(self.records),
        )

    def forget_contents(self, kept: Collection[int]) -> None:
        self.tags = {key: tags for key, tags in self.tags.items() if key[0] in kept}
        self.vectors = {c: spaces for c, spaces in self.vectors.items() if c in kept}
        self.titles = {c: title for c, title in self.titles.items() if c in kept}

    def unknown_online(self) -> set[bytes]:
        known = {
            p for p, f in self.files.items() if f.present and (f.failed or f.content is not None)
        }
        return self.online - known

    def paths_of(self, content: int) -> set[bytes]:
        return {p for p, file in self.files.items() if file.present and file.content == content}

    def visible(self) -> set[int]:
        return {content for content in self.vectors if self.paths_of(content)}


def root_of(model: Model, path: bytes) -> bytes:
    """Return the root that a path would be indexed under, as an engine would choose it."""
    for root in model.roots:
        if path.startswith(root + b"/"):
            return root
    return next(root for root in ROOTS if path.startswith(root + b"/"))


def companions_at(path: bytes, has_one: bool) -> tuple[Companion, ...]:
    return (Companion(path + b".xmp", "sidecar", Fingerprint(4, 2**63 + 1, 6)),) * has_one


def photo_of(content: int, key: str) -> NewPhoto:
    return new_photo(
        content, VECTORS[key][content], format=FORMATS[content % 2], taken_at=TAKEN[content]
    )


class Driver:
    """Does the same to a store's writer and to the model."""

    def __init__(self, store: Store, writer: StoreWriter, model: Model) -> None:
        self.store, self.writer, self.model = store, writer, model
        self.ids: dict[int, int] = {}
        # Their committed rows are deleted, whatever was written under the path since.
        self.deleted: set[bytes] = set()
        self.deleted_roots: set[bytes] = set()
        # Contents whose photo is of this very transaction, whatever row was committed before.
        self.fresh: set[int] = set()
        self.is_over = False

    def file_ids(self, path: bytes) -> list[int]:
        """Return the committed row of a path (none for rows of this very transaction)."""
        return [
            file.id
            for root in self.store.roots()
            for file in self.store.files(root.id)
            if root.path + b"/" + file.path == path
        ]

    def apply(self, operation: Operation) -> None:
        if self.is_over:
            return
        what, content, place, which_space = operation
        path = ROOTS[place // len(PATHS)] + b"/" + PATHS[place % len(PATHS)]
        space, model, writer = SPACES[which_space], self.model, self.writer
        if what in ("add", "copy", "fail"):
            root_path = root_of(model, path)
            root = writer.ensure_root(root_path, None)
            model.roots.add(root_path)
            entry = file_entry(root.id, path[len(root_path) + 1 :], content)
            belonging = frozenset({path + b".xmp"} if content % 3 == 0 else ())
            entry = replace(entry, companions=companions_at(entry.path, content % 3 == 0))
            if what == "fail":
                writer.record_failure(entry, "no picture")
                model.files[path] = ModelFile(None, failed=True, companions=belonging)
                return
            if what == "copy" and content not in model.vectors:
                return
            key = space.key if what == "add" else next(iter(sorted(model.vectors[content])))
            writer.link_files(writer.add_photo(key, photo_of(content, key)), [entry])
            if content not in model.vectors:
                self.fresh.add(content)
            model.files[path] = ModelFile(content, companions=belonging)
            model.vectors.setdefault(content, set()).add(key)
        elif what == "absorb":
            writer.ensure_root(b"/photos", 5)
            model.roots = {b"/photos"}
        elif what == "drop_space":
            writer.drop_space(OTHER_SPACE.key)
            writer.ensure_space(OTHER_SPACE)
            for spaces in model.vectors.values():
                spaces.discard(OTHER_SPACE.key)
            self.clear_tags(OTHER_SPACE.key)
            model.forget_contents([c for c, spaces in model.vectors.items() if spaces])
            for file in model.files.values():
                if file.content not in model.vectors:
                    file.content = None  # to be read again
        elif what == "prune":
            writer.prune(math.inf)
            self.deleted |= {p for p, file in model.files.items() if not file.present}
            model.files = {p: file for p, file in model.files.items() if file.present}
            model.forget_contents(model.visible())
        elif what == "facts":
            known = self.store.photos_by_hash(space.key, [b"content-%d" % content])
            for photo_id, _ in known.values():
                facts = photo_of(content, space.key).facts
                title = f"title {place}"
                writer.update_facts(photo_id, replace(facts, title=title, metadata_version=3))
                # Rows deleted in this very transaction are none, and not the content's new one.
                if content in model.vectors and content not in self.fresh:
                    model.titles[content] = title
        elif what in ("online", "exclude"):
            for root in self.store.roots():
                if self.knows(root.path) and path.startswith(root.path + b"/"):
                    if what == "exclude":
                        writer.set_root_exclude(root.id, [f"*.{content}", "sub/"])
                        continue
                    mine = {p for p in model.online if p.startswith(root.path + b"/")}
                    writer.set_online_only(root.id, [path[len(root.path) + 1 :]])
                    model.online = model.online - mine | {path}
        elif what == "tag":
            known = self.store.photos_by_hash(space.key, [b"content-%d" % content])
            labels = dict(zip(TAGS[: place % 4], (0.5, 1.0, 0.0), strict=False))
            for photo_id, _ in known.values():
                writer.put_tags(space.key, VOCABULARIES[place % 2], [(photo_id, [*labels.items()])])
                if space.key in model.vectors.get(content, ()) and content not in self.fresh:
                    model.tags[content, space.key] = VOCABULARIES[place % 2], labels
        elif what == "clear_tags":
            writer.clear_tags(space.key)
            self.clear_tags(space.key)
        elif what == "record":
            value = json.dumps({"\u00e9": place}) if place % 3 else None
            writer.put_record("kind", str(content), value)
            model.records.pop(str(content), None)
            if value is not None:
                model.records[str(content)] = value
        elif what == "exchange":
            self.exchange_roots()
        else:
            self.apply_to_row(what, path)

    def clear_tags(self, key: str) -> None:
        self.model.tags = {of: tags for of, tags in self.model.tags.items() if of[1] != key}

    def knows(self, root_path: bytes) -> bool:
        """Tell whether the committed row of a root is still that root's."""
        return root_path in self.model.roots and root_path not in self.deleted_roots

    def exchange_roots(self) -> None:
        """Let each of two roots lie where the other lay, as drives that changed their letters."""
        ids = {root.path: root.id for root in self.store.roots() if self.knows(root.path)}
        if ids.keys() != set(ROOTS):
            return
        one, two = ROOTS
        for path, place in ((one, b"/elsewhere"), (two, one), (one, two)):
            self.writer.relocate_root(ids[path], place)

        def moved(path: bytes) -> bytes:
            here = one if path.startswith(one + b"/") else two
            return (two if here == one else one) + path[len(here) :]

        model = self.model
        model.files = {
            moved(path): replace(file, companions=frozenset(map(moved, file.companions)))
            for path, file in model.files.items()
        }
        model.online = {moved(path) for path in model.online}
        # What is committed lies elsewhere: nothing more is done in this transaction.
        self.is_over = True

    def apply_to_row(self, what: str, path: bytes) -> None:
        model, writer = self.model, self.writer
        if what == "drop_root":
            for root in self.store.roots():
                known = root.path in model.roots and root.path not in self.deleted_roots
                if known and path.startswith(root.path + b"/"):
                    writer.drop_root(root.id)
                    gone = {p for p in model.files if p.startswith(root.path + b"/")}
                    self.deleted |= gone
                    named = {model.files[p].content for p in gone}
                    model.files = {p: f for p, f in model.files.items() if p not in gone}
                    still = {file.content for file in model.files.values()}
                    gone_contents = named - still - {None}
                    model.forget_contents([c for c in model.vectors if c not in gone_contents])
                    model.online = {p for p in model.online if not p.startswith(root.path + b"/")}
                    model.roots.discard(root.path)
                    self.deleted_roots.add(root.path)
            return
        rows = self.file_ids(path)
        if not rows or path not in model.files or path in self.deleted:
            return
        if what == "vanish":
            writer.mark_vanished(rows)
            model.files[path].present = False
        elif what == "companions":
            has_one = not model.files[path].companions
            root_path = next(r.path for r in self.store.roots() if path.startswith(r.path + b"/"))
            relative = path[len(root_path) + 1 :]
            moved = root_path not in model.roots
            if moved:  # absorbed within this transaction: relative to the outer one now
                relative = path[len(b"/photos/") :]
            for row in rows:
                writer.set_companions(row, companions_at(relative, has_one))
            model.files[path].companions = frozenset({path + b".xmp"} if has_one else ())
        elif what == "refresh":
            writer.refresh_files([(row, Fingerprint(1, 2, 3), None) for row in rows])
            model.files[path].present = True
        else:
            writer.drop_files(rows)
            self.deleted.add(path)
            del model.files[path]


def compare_annotations(store: Store, model: Model) -> None:
    assert store.records("kind") == dict(sorted(model.records.items()))
    assert store.records("another") == {}
    hashes = {b"content-%d" % content: content for content in range(CONTENTS)}
    for space in store.spaces():
        known = store.photos_by_hash(space.key, list(hashes))
        content_of = {photo_id: hashes[digest] for digest, (photo_id, _) in known.items()}
        mine = {content: tags for (content, key), tags in model.tags.items() if key == space.key}
        assert {
            content_of[photo_id]: dict(tags)
            for photo_id, tags in store.tags(space.key, [*content_of, 10**9]).items()
        } == {content: tags for content, (_, tags) in mine.items() if tags}
        visible = {c for c in model.visible() if space.key in model.vectors[c]}
        counts = Counter(tag for c, (_, tags) in mine.items() if c in visible for tag in tags)
        assert store.tag_counts(space.key) == counts
        for vocabulary in VOCABULARIES:
            untagged = {c for c in visible if mine.get(c, ("", {}))[0] != vocabulary}
            found = store.photos_untagged(space.key, vocabulary)
            assert {content_of[photo_id] for photo_id in found} == untagged
            some = sorted(content_of)[:2]
            assert store.photos_untagged(space.key, vocabulary, some) == found & set(some)
        if space == store.active_space():
            for tag in TAGS:
                assert {
                    content_of[n.photo_id]
                    for n in store.nearest(
                        space.key, unit_vectors(1, space.dimension), 9, Where(tags=(tag.upper(),))
                    )[0]
                } == {c for c in visible if c in mine and tag in mine[c][1]}


def compare(store: Store, model: Model) -> None:
    compare_annotations(store, model)
    visible = model.visible()
    present = [file for file in model.files.values() if file.present]
    assert store.counts() == StoreCounts(
        pictures=len(visible),
        files=sum(file.content is not None for file in present),
        failed=sum(file.failed for file in present),
        vanished=len(model.vectors) - len(visible),
        online_only=len(model.unknown_online()),
    )
    assert set(store.online_only()) == model.unknown_online()
    assert {root.path for root in store.roots()} == model.roots
    hashes = {b"content-%d" % content: content for content in range(CONTENTS)}
    for space in store.spaces():
        known = store.photos_by_hash(space.key, list(hashes))
        assert {hashes[digest]: has for digest, (_, has) in known.items()} == {
            content: space.key in spaces for content, spaces in model.vectors.items()
        }
        content_of = {photo_id: hashes[digest] for digest, (photo_id, _) in known.items()}
        shown = {content for content in visible if space.key in model.vectors[content]}
        for where, wanted in [
            (None, shown),
            (Where(formats=("PNG",)), {c for c in shown if c % 2}),
            (Where(taken_before=TAKEN[3], taken_from="2010"), {c for c in shown if c < 3}),
            (
                Where(under=(b"/photos/one/sub", b"/photos/two/a.jpg")),
                {
                    c
                    for c in shown
                    if any(
                        p.startswith(b"/photos/one/sub/") or p == b"/photos/two/a.jpg"
                        for p in model.paths_of(c)
                    )
                },
            ),
        ]:
            query = unit_vectors(1, space.dimension, seed=77)
            (neighbours,) = store.nearest(space.key, query, 100, where)
            exact = {c: float(as_stored(VECTORS[space.key])[c] @ query[0]) for c in wanted}
            assert {content_of[n.photo_id]: n.cosine for n in neighbours} == pytest.approx(
                exact, abs=2e-5
            )
            matched = store.matches(space.key, query[0], 0.05, where)
            assert {content_of[n.photo_id] for n in matched} == {
                c for c, cosine in exact.items() if cosine >= 0.05
            }
        for photo in store.photos(sorted(content_of)):
            content = content_of[photo.id]
            paths = model.paths_of(content)
            assert set(photo.paths) == paths
            belonging = {c for path in paths for c in model.files[path].companions}
            assert set(photo.companions) == belonging
            assert photo.facts.title == model.titles.get(content)
    known_files = {
        root.path + b"/" + file.path: (
            file.photo_id is None,
            file.present,
            {root.path + b"/" + companion.path for companion in file.companions},
        )
        for root in store.roots()
        for file in store.files(root.id)
    }
    assert known_files == {
        path: (file.content is None, file.present, set(file.companions))
        for path, file in model.files.items()
    }
    older = {title for title in model.titles if title in visible}
    for space in store.spaces():
        hashes = [b"content-%d" % content for content in visible]
        known_ids = store.photos_by_hash(space.key, hashes)
        read_again = {i for i, _ in known_ids.values()} - store.photos_with_older_metadata(3)
        assert {int(p.content_hash[8:]) for p in store.photos(sorted(read_again))} == older


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(transactions, min_size=1, max_size=10))
def test_any_history_gives_what_the_model_says(
    make_library: Callable[[], Library], history: list[tuple[str, list[Operation]]]
) -> None:
    library = make_library()
    store = library.open()
    model = Model()
    try:
        with store.write() as writer:
            for space in SPACES:
                writer.ensure_space(space)
        for ending, steps in history:
            trial = model.copy()
            try:
                with store.write() as writer:
                    driver = Driver(store, writer, trial)
                    for step in steps:
                        driver.apply(step)
                    if ending == "abort":
                        raise InterruptedError
            except InterruptedError:
                pass
            else:
                model = trial
            if ending == "reopen":
                store.close()
                store = library.open()
            elif ending == "snapshot" and hasattr(store, "write_snapshot"):
                store.write_snapshot(force=True)
            compare(store, model)
    finally:
        store.close()
    library.check()

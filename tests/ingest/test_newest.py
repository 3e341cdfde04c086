"""`--newest`: the newest of all roots together, and everything else left as it was planned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from siglip_index.records import Fingerprint, Root
from siglip_search.ingest.newest import only_newest
from siglip_search.ingest.plan import Plan, RootPlan
from siglip_search.photos.scan import Part, SeenFile

if TYPE_CHECKING:
    from collections.abc import Sequence

Times = tuple[list[int], list[int], list[int]]


def seen(name: str, mtime: int) -> SeenFile:
    return SeenFile(name.encode(), Fingerprint(size=1, mtime_ns=mtime, inode=None), device=None)


def plans_of(roots: Sequence[Times]) -> list[RootPlan]:
    return [
        RootPlan(
            Root(id=number, path=b"/%d" % number, device=None),
            Plan(
                **{
                    kind: [seen(f"{kind}{i}", time) for i, time in enumerate(times)]
                    for kind, times in zip(("added", "changed", "unembedded"), root, strict=True)
                }
            ),
        )
        for number, root in enumerate(roots)
    ]


times = st.lists(st.integers(0, 5), max_size=4)


@given(roots=st.lists(st.tuples(times, times, times), max_size=3), most=st.integers(1, 20))
def test_exactly_so_many_and_none_left_out_is_newer(roots: list[Times], most: int) -> None:
    plans = plans_of(roots)
    before = [(p.root.id, file) for p in plans for file in p.plan.to_read()]
    kept_plans, left_out = only_newest(plans, most)
    kept = [(p.root.id, file) for p in kept_plans for file in p.plan.to_read()]
    assert len(kept) == min(most, len(before))
    assert left_out == len(before) - len(kept)
    assert len(set(kept)) == len(kept)
    assert set(kept) <= set(before)
    if left_out:
        newest_out = max(file.fingerprint.mtime_ns for _, file in set(before) - set(kept))
        assert newest_out <= min(file.fingerprint.mtime_ns for _, file in kept)


def test_part_of_a_root_stays_a_part() -> None:
    (plan,) = plans_of([([1, 2], [], [])])
    (kept,), left_out = only_newest([replace(plan, parts=(Part(b"sub"),))], 1)
    assert (kept.parts, left_out) == ((Part(b"sub"),), 1)

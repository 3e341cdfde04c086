"""Commit and count the part of a plan that needs no picture to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_index.locations import join
from siglip_index.records import FileEntry
from siglip_search.ingest.report import Failure, IngestReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_index.protocol import Store
    from siglip_search.ingest.plan import RootPlan


def count_without_reading(plans: Sequence[RootPlan]) -> IngestReport:
    """Return the counts of everything that a stat call alone has told."""
    report = IngestReport()
    for root_plan in plans:
        plan = root_plan.plan
        report.removed += len(plan.removed)
        report.unreachable += len(plan.unreachable)
        report.moved += len(plan.moved)
        report.added += len(plan.returned)
        report.unchanged += len(plan.unchanged)
        report.failed += len(plan.failed)
        report.online_only += len(plan.online_only)
        for extra, paths in plan.without_extra.items():
            report.missing_extras[extra] = report.missing_extras.get(extra, 0) + len(paths)
            report.ignored += len(paths)
        report.failures.extend(
            Failure(join(root_plan.root.path, known.path), known.failure or "")
            for known in plan.failed
        )
    return report


def record_without_reading(store: Store, plans: Sequence[RootPlan]) -> IngestReport:
    """Commit, in one transaction, what a stat call alone has told, and return its counts.

    Raises:
        StoreError: The commit failed and nothing was changed.
    """
    with store.write() as writer:
        for root_plan in plans:
            plan = root_plan.plan
            writer.mark_vanished(file.id for file in (*plan.removed, *plan.stacked))
            writer.refresh_files(
                (known.id, seen.fingerprint, seen.device)
                for known, seen in (*plan.returned, *plan.refreshed)
            )
            for known, seen in plan.moved:
                assert known.photo_id is not None  # the plan moves pictures only
                entry = FileEntry(
                    root_plan.root.id, seen.path, seen.fingerprint, seen.device, seen.companions
                )
                writer.link_files(known.photo_id, [entry])
            writer.drop_files(known.id for known, _ in plan.moved)
            for known, companions in plan.companions:
                writer.set_companions(known.id, companions)
            writer.forget_metadata(plan.stale_metadata)
            if plan.root_seen:
                placeholders = [seen.path for seen in plan.online_only]
                for part in root_plan.parts:
                    writer.set_online_only(
                        root_plan.root.id, placeholders, part.within, subfolders=part.subfolders
                    )
    return count_without_reading(plans)

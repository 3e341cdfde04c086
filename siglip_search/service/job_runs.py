"""Carrying out what `index` handed over, for the command that waits for it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from siglip_index.errors import StoreError
from siglip_search.errors import SiglipSearchError
from siglip_search.ingest.report import IngestReport
from siglip_search.service.index_events import listener_for
from siglip_search.service.messages import report_object

if TYPE_CHECKING:
    from siglip_search.engine.following import Follower
    from siglip_search.engine.indexing import IndexOptions
    from siglip_search.service.jobs import HandedOver
    from siglip_search.service.journal import Journal
    from siglip_search.service.run_stop import RunStop
    from siglip_search.service.runs import Runs


def carry_out_job(
    job: HandedOver,
    follower: Follower,
    runs: Runs,
    journal: Journal,
    *,
    own_options: IndexOptions,
    stop: RunStop,
) -> bool:
    """Carry out a job and end it, whatever happens; return whether it went well.

    Args:
        job: What is to be indexed, and who waits.
        follower: Does it.
        runs: Accounts for it.
        journal: Takes a line about it.
        own_options: How the daemon itself indexes; its device is the job's as well.
        stop: Ends the run.
    """
    options = replace(job.request.options, device=own_options.device)
    what = f"index {', '.join(job.request.paths) or 'all folders'}"
    try:
        if job.cancelled.is_set():
            # It may have waited for long. Begun, it would make its folders the library's own, and
            # the daemon would go on with what the user took back.
            report = IngestReport(stopped=True)
        else:
            report = runs.carry_out(
                lambda listener: follower.index(
                    [os.fsencode(path) for path in job.request.paths],
                    options=options,
                    stop=stop,
                    listener=listener,
                ),
                what,
                listener_for(job.on_event),
            )
            _warn_of_one_time_choices(report, options, own_options)
        job.succeed(report_object(report))
    except (SiglipSearchError, StoreError) as error:
        journal.warning(f"{what}: {error}")
        job.fail(error)
        return False
    except OSError as error:  # of a disk that fails, which the daemon outlives
        journal.warning(f"{what}: {error}")
        job.fail(SiglipSearchError(str(error), hint="Check the drive; the daemon goes on."))
        return False
    finally:
        if not job.has_ended:
            job.fail(SiglipSearchError("the daemon failed", hint="Its log says why."))
    return True


def _warn_of_one_time_choices(
    report: IngestReport, options: IndexOptions, own_options: IndexOptions
) -> None:
    if set(options.exclude) - set(own_options.exclude):
        report.warnings.append(
            "--exclude holds for this run, and the daemon goes on with all pictures: "
            "`siglip-search roots exclude` leaves them out for good"
        )
    if options.newest is not None and report.pending:
        report.warnings.append("the daemon goes on with the pictures that are left")

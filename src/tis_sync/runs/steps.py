"""The steps of a run: each is recorded when it is done, and not done again after a crash.

A step that was under way when the process died is done again, so each may be repeated. What goes
wrong leaves a step as a `TisSyncError`, with a line for people; its traceback goes to the log.
"""

import time
from typing import Any, TypedDict

from tis_sync.errors import (
    DeliveryError,
)
from tis_sync.jobs.base import IndexProduct, Job, TableProduct
from tis_sync.jobs.catalogue import BY_NAME, upstream
from tis_sync.logs import run_log
from tis_sync.reconcile.partitions import partitions
from tis_sync.reconcile.table import replace
from tis_sync.runs import builds, java_lock, outcome, parts, verdict
from tis_sync.runs.ask import days_of
from tis_sync.runs.run import NIGHT, Run, State
from tis_sync.runs.services import Services, services
from tis_sync.runs.step import step
from tis_sync.tcs import schema
from tis_sync.tcs.read import KeyRange

TURN_SECONDS = 0.2  # how often a waiting run looks at those it waits for
Keys = list[int | None]  # a key range, as DBOS records it


class Prepared(TypedDict):
    """What `prepare` found: the partitions, and how the job's product is to be made right."""

    ranges: list[Keys]
    mode: str  # "table", "replace" (a table, whole), "index" (in place), "build", "count"
    index: str | None


class Verdict(TypedDict):
    """What `judge` decided: write nothing, carry the plan out, or build the index anew instead."""

    decision: str  # "nothing", "apply", "build"


@step
def wait_for_turn(run_id: str) -> str | None:
    """Wait until no upstream job is active; then begin.

    Returns:
        None when the run may go on; else why it must not: an upstream job did not succeed.

    """
    s = services()
    run = s.history.get(run_id)
    job = BY_NAME[run.job]
    ahead = upstream(job) if run.trigger == NIGHT else set(job.depends_on)
    seen: dict[str, str] = {}
    while waiting_for := s.history.all_active(ahead):
        seen |= {other.job: other.id for other in waiting_for}
        if not s.history.get(run_id).is_active:
            return "cancelled while it waited"
        time.sleep(TURN_SECONDS)
    if run.trigger in {NIGHT, "schedule"}:
        for name in sorted(ahead):
            last = s.history.get(seen[name]) if name in seen else s.history.last(name)
            if last is not None and last.state in {"failed", "held", "cancelled"}:
                return (
                    f"not run, because {name} {last.state} (run {last.id[:8]}); "
                    f"mend that: `tis-sync run {name}`, and this follows"
                )
    s.history.begin(run_id, s.clock())
    return None


@step
def prepare(run_id: str) -> Prepared:
    """Check everything that the run needs, take the Java service's lock, cut the keys.

    Raises:
        UnreachableError, SchemaError, LockedError: what the run needs is not there.

    """
    s = services()
    run = s.history.get(run_id)
    job = BY_NAME[run.job]
    s.history.phase(run_id, "check", s.clock())
    with run_log(run_id) as log:
        engine = s.tcs()
        schema.require(engine, {table: sorted(names) for table, names in job.needed().items()})
        java_lock.take(s, job, run)
        columns = _key_columns(job)
        mode, index = _mode(s, job, run)
        ranges = partitions(engine, columns, s.settings.partition_keys)
        log.info("started", job=job.name, partitions=len(ranges), today=str(run.as_of.today))
    if s.settings.alert_runs and not run.options.dry_run:
        s.tell(f"{job.name} started", f"Run {run.id[:8]}, asked for by {run.who}.")
    return Prepared(ranges=[[k.low, k.high] for k in ranges], mode=mode, index=index)


@step
def plan_partition(run_id: str, keys: Keys, index: str | None) -> parts.Part:
    """Plan one partition."""
    s = services()
    with run_log(run_id), s.partition_slots:
        part = parts.plan(s, s.history.get(run_id), KeyRange(*keys), index)
    s.history.partition_done(run_id)
    return part


@step
def apply_partition(run_id: str, keys: Keys, index: str | None) -> int:
    """Apply one partition's plan; returns how many documents were refused."""
    s = services()
    with run_log(run_id), s.partition_slots:
        refused = parts.apply(s, s.history.get(run_id), KeyRange(*keys), index)
    s.history.partition_done(run_id)
    return refused


@step
def fill_partition(run_id: str, keys: Keys, index: str) -> parts.Part:
    """Write one partition's documents into a new index."""
    s = services()
    with run_log(run_id), s.partition_slots:
        part = parts.fill(s, s.history.get(run_id), KeyRange(*keys), index)
    s.history.partition_done(run_id)
    return part


@step
def enter(run_id: str, phase: str, partitions_to_do: int) -> None:
    """The run enters a phase."""
    s = services()
    s.history.phase(run_id, phase, s.clock(), partitions_to_do)
    with run_log(run_id) as log:
        log.info(phase, partitions=partitions_to_do)


@step
def judge(run_id: str, planned: list[parts.Part], mode: str) -> Verdict:
    """Add up the plans, record what they come to, and decide.

    Raises:
        HeldError: the guard objects, and the run was not approved.

    """
    s = services()
    run = s.history.get(run_id)
    total = sum(planned, parts.Part())
    size = total.existing + total.added - total.removed
    s.history.note(
        run_id,
        considered=total.considered,
        added=total.added,
        changed=total.changed,
        removed=total.removed + total.duplicates,
        set_aside=total.set_aside,
        size=size,
        detail=total.sample if run.options.dry_run else {"duplicates": total.duplicates},
    )
    verdict.mind_set_aside(s, run, total.set_aside)
    if run.options.dry_run:
        return Verdict(decision="nothing")
    job = BY_NAME[run.job]
    verdict.guard(s, run, total.existing, total.removed, total.emptied)
    if isinstance(job.product, IndexProduct):
        verdict.mind_size(s, run, size)
    if not total.writes:
        return Verdict(decision="nothing")
    if mode == "index" and total.writes > s.settings.rebuild_share * max(1, total.existing):
        return Verdict(decision="build")
    return Verdict(decision="apply")


@step
def begin_build(run_id: str) -> str:
    """Create the index of a build (or find it again); nobody reads it yet."""
    s = services()
    product = BY_NAME[s.history.get(run_id).job].product
    assert isinstance(product, IndexProduct)
    return s.search().begin(product.spec, builds.build_name(run_id))


@step
def publish(run_id: str, index: str, filled: list[parts.Part]) -> None:
    """Compare a finished index with its source and its size before, then let readers see it.

    Raises:
        DeliveryError: it does not hold all the documents.
        HeldError: it shrank more than the guard allows, and the run was not approved.

    """
    s = services()
    run = s.history.get(run_id)
    product = BY_NAME[run.job].product
    assert isinstance(product, IndexProduct)
    s.history.phase(run_id, "publish", s.clock())
    total = sum(filled, parts.Part())
    held = s.search().refresh(index)
    s.history.note(
        run_id,
        considered=total.considered,
        added=held,
        changed=0,
        removed=0,
        set_aside=total.set_aside,
        size=held,
    )
    if held != total.added:
        raise DeliveryError(
            f"The new index {index} holds {held:,} of {total.added:,} documents; it was not "
            "published, and the old one still serves."
        )
    verdict.mind_set_aside(s, run, total.set_aside)
    live = s.search().live(product.spec)
    if live is not None and live.name != index:
        verdict.guard(s, run, live.documents, max(0, live.documents - held), 0)
    verdict.mind_size(s, run, held)
    s.search().publish(product.spec, index)
    with run_log(run_id) as log:
        log.info("published", index=index, documents=held)


@step
def settle(run_id: str, index: str | None, refused: int) -> None:
    """After changes in place: make them visible, count what was refused."""
    s = services()
    run = s.history.get(run_id)
    if index is not None:
        s.search().refresh(index)
    if refused:
        s.history.note(run_id, set_aside=(run.set_aside or 0) + refused)
        verdict.mind_set_aside(s, run, (run.set_aside or 0) + refused)


@step
def replace_table(run_id: str, ranges: list[Keys]) -> None:
    """Replace a table whole, inside one transaction.

    Raises:
        HeldError: it would shrink more than the guard allows, and the run was not approved.

    """
    s = services()
    run = s.history.get(run_id)
    job = BY_NAME[run.job]
    assert isinstance(job.product, TableProduct)
    s.history.phase(run_id, "replace", s.clock(), len(ranges))
    wanted = {tuple(keys): parts.desired_rows(s, run, KeyRange(*keys)) for keys in ranges}
    count = sum(frame.height for frame in wanted.values())
    existing = parts.table_size(s, job.product)
    verdict.guard(s, run, existing, max(0, existing - count), 0)
    replace(s.tcs(), job.product.target, wanted.values())
    s.history.note(
        run_id, considered=count, added=count, changed=0, removed=existing, set_aside=0, size=count
    )


@step
def note_waiting(run_id: str, reason: str, seconds: float) -> None:
    """The run will be tried again by itself: say so, with an alarm while it lasts."""
    s = services()
    run = s.history.get(run_id)
    s.history.phase(run_id, "waiting", s.clock())
    with run_log(run_id) as log:
        log.warning("waiting", reason=reason, seconds=seconds)
    s.alarms.raise_(
        "failed",
        run.job,
        f"{reason} Tried again by itself in {seconds:.0f} s. Until then: {BY_NAME[run.job].stale}.",
        s.clock(),
        run_id,
    )


@step
def is_unattended(run_id: str) -> bool:
    """Whether nobody waits for the run, so that it should try again by itself."""
    run = services().history.get(run_id)
    while run.parent is not None:
        run = services().history.get(run.parent)
    return run.trigger != "manual"


@step
def finish(run_id: str, state: State, error: str | None) -> list[str]:
    """End the run: free its locks, raise or close alarms, ask for what follows.

    Returns:
        The ids of the runs that follow, to be started.

    """
    s = services()
    run = s.history.get(run_id)
    job = BY_NAME[run.job]
    if state != "succeeded" and isinstance(job.product, IndexProduct) and not run.options.dry_run:
        builds.abandon_build(s, job.product, run_id)
    java_lock.free(s, job, run)
    wrote = state == "succeeded" and run.wrote and not run.options.dry_run
    if wrote and run.options.follow_ups and run.trigger != NIGHT:
        outcome.follow_ups(s, run, job)
    if not run.options.dry_run:
        outcome.announce(s, run, job, state, error)
    s.history.end(run_id, state, s.clock(), error, again=days_of(s, job))
    s.workspaces.drop(run_id)
    run = s.history.get(run_id)
    with run_log(run_id) as log:
        (log.info if state == "succeeded" else log.error)(
            state,
            job=run.job,
            seconds=None if run.seconds is None else round(run.seconds, 2),
            added=run.added,
            changed=run.changed,
            removed=run.removed,
            error=error,
        )
    return [child.id for child in s.history.children(run_id)]


def _mode(s: Services, job: Job, run: Run) -> tuple[str, str | None]:
    """How the job's product is to be made right, and the index concerned."""
    product = job.product
    if isinstance(product, TableProduct):
        return ("replace" if run.options.rebuild and not run.options.dry_run else "table"), None
    s.search().check()
    live = s.search().live(product.spec)
    fits = live is not None and live.ours and live.version == product.spec.version
    if live is not None and fits and not run.options.rebuild:
        return "index", live.name
    return ("count" if run.options.dry_run else "build"), None


def _key_columns(job: Job) -> list[Any]:
    product = job.product
    if isinstance(product, IndexProduct):
        return [product.keys]
    read = [r.by for r in product.reads if r.by is not None and r.through is None]
    return [product.target.by, *read]

"""The guard, what counts as unusual, and the limit on concurrent requests."""

import threading

from tis_sync.reconcile.guard import Guard
from tis_sync.runs.checks import unusual_duration, unusual_size
from tis_sync.search.concurrency import ConcurrencyLimiter


def test_the_guard_objects_above_both_the_share_and_the_rows() -> None:
    guard = Guard(share=0.1, rows=5)

    def objection(existing: int, lost: int, *, beyond_approval: bool = False) -> str | None:
        return guard.objection(
            existing=existing, lost=lost, verb="remove", name="T", beyond_approval=beyond_approval
        )

    assert objection(100, 10) is None
    assert objection(100, 11) == "would remove 11 of 100 records of T, more than 10%"
    assert objection(10, 5) is None
    assert objection(0, 0) is None
    assert "that were not in the approved plan" in (objection(9, 9, beyond_approval=True) or "")
    assert guard.objection(
        existing=1304, lost=1311, verb="remove", name="T", counted_before=True
    ) == (
        "would remove 1,311 records of T, more than 10% of the 1,304 that existed when the plan "
        "was judged"
    )  # fmt: skip


def test_a_size_is_unusual_only_if_enough_runs_are_known() -> None:
    assert unusual_size(1, [100, 100], 0.2) is None
    assert unusual_size(80, [100, 100, 100], 0.2) is None
    assert unusual_size(79, [100, 100, 100], 0.2) == "79 documents, usually 100"
    assert unusual_size(121, [100, 100, 100], 0.2) is not None


def test_a_duration_is_unusual_above_a_multiple_of_the_usual_and_a_minute() -> None:
    assert unusual_duration(59, [1, 1, 1], 3) is None
    assert unusual_duration(61, [1, 1, 1], 3) == "61 s so far, usually 1 s"
    assert unusual_duration(290, [100, 100, 100], 3) is None
    assert unusual_duration(310, [100, 100, 100], 3) is not None


def test_the_limit_halves_when_the_server_refuses_and_grows_by_one_each_round() -> None:
    now = 0.0
    limiter = ConcurrencyLimiter(8, target_seconds=1.0, clock=lambda: now)
    assert limiter.limit == 8
    limiter.refused()
    limiter.refused()
    assert limiter.limit == 2
    for _ in range(3):
        with limiter.slot():
            now += 0.5
    assert limiter.limit == 3
    with limiter.slot():
        now += 1.5
    assert limiter.limit == 1
    for _ in range(100):
        with limiter.slot():
            pass
    assert limiter.limit == 8


def test_no_more_requests_than_the_limit_are_in_flight() -> None:
    limiter = ConcurrencyLimiter(3, target_seconds=100.0)
    in_flight, most = 0, 0
    lock, gate = threading.Lock(), threading.Event()

    def work() -> None:
        nonlocal in_flight, most
        with limiter.slot():
            with lock:
                in_flight += 1
                most = max(most, in_flight)
                if most == 3:
                    gate.set()
            gate.wait(10)
            with lock:
                in_flight -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 3

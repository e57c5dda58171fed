"""Every job agrees with a naive reference, on SQLite and on MariaDB."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import naive
from tests.conftest import TODAY
from tests.property.strategies import days_from, worlds
from tests.world import Rows, World
from tis_sync.jobs.base import AsOf
from tis_sync.jobs.person_index import PERSON_INDEX
from tis_sync.jobs.person_owner import PERSON_OWNER
from tis_sync.jobs.person_status import PERSON_RECORD_STATUS
from tis_sync.jobs.post_funding import POST_FUNDING_STATUS
from tis_sync.jobs.post_index import POST_INDEX
from tis_sync.jobs.trusts import (
    PERSON_EMPLOYING_BODY,
    PERSON_TRAINING_BODY,
    POST_EMPLOYING_BODY,
    POST_TRAINING_BODY,
)
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers
ON_TODAY = AsOf.on(TODAY)
BODIES = ("employingBodyId", "trainingBodyId")
widths = st.sampled_from([1, 400_000])  # a partition for each key, or one for all
examples = settings(max_examples=60)


@examples
@given(rows=worlds(), width=widths)
def test_person_owner_follows_the_rules(tcs: World, rows: Rows, width: int) -> None:
    tcs.fill(rows)
    tcs.settle(PERSON_OWNER, ON_TODAY, width=width)
    found = tcs.rows(t.PersonOwner, "id", "owner", "rule")
    assert found == naive.person_owner(rows, TODAY)
    assert all(plan.is_empty for plan in tcs.settle(PERSON_OWNER, ON_TODAY, width=width))


@examples
@given(rows=worlds(), width=widths)
def test_person_trusts_are_the_set_from_both_bodies(tcs: World, rows: Rows, width: int) -> None:
    tcs.fill(rows)
    tcs.settle(PERSON_EMPLOYING_BODY, ON_TODAY, width=width)
    between = tcs.rows(t.PersonTrust, "personId", "trustId")
    right = naive.person_trusts(rows, *BODIES)
    assert set(naive.person_trusts(rows, BODIES[0])) <= set(between) <= set(right)
    tcs.settle(PERSON_TRAINING_BODY, ON_TODAY, width=width)
    assert tcs.rows(t.PersonTrust, "personId", "trustId") == right


@examples
@given(rows=worlds(), width=widths)
def test_post_trusts_are_the_set_from_both_bodies(tcs: World, rows: Rows, width: int) -> None:
    tcs.fill(rows)
    tcs.settle(POST_EMPLOYING_BODY, ON_TODAY, width=width)
    between = tcs.rows(t.PostTrust, "postId", "trustId")
    right = naive.post_trusts(rows, *BODIES)
    assert set(naive.post_trusts(rows, BODIES[0])) <= set(between) <= set(right)
    tcs.settle(POST_TRAINING_BODY, ON_TODAY, width=width)
    assert tcs.rows(t.PostTrust, "postId", "trustId") == right


@examples
@given(rows=worlds(), missed=st.integers(0, 3), every=st.booleans(), width=widths)
def test_person_status_follows_memberships(
    tcs: World, rows: Rows, missed: int, every: bool, width: int
) -> None:
    tcs.fill(rows)
    first = TODAY - timedelta(days=missed)
    tcs.settle(PERSON_RECORD_STATUS, AsOf(TODAY, first, TODAY, every=every), width=width)
    right = naive.person_status(rows, TODAY, days_from(first, missed + 1), every=every)
    assert tcs.rows(t.Person, "id", "status") == right


@examples
@given(rows=worlds(), missed=st.integers(0, 3), width=widths)
def test_post_funding_ends_with_the_last_funding(
    tcs: World, rows: Rows, missed: int, width: int
) -> None:
    tcs.fill(rows)
    first = TODAY - timedelta(days=missed)
    tcs.settle(POST_FUNDING_STATUS, AsOf(TODAY, first, TODAY), width=width)
    right = naive.post_funding(rows, days_from(first, missed + 1))
    assert tcs.rows(t.Post, "id", "fundingStatus") == right


@examples
@given(rows=worlds())
def test_person_views_have_one_row_per_person_and_current_placement(tcs: World, rows: Rows) -> None:
    tcs.fill(rows)
    views, set_aside = tcs.views(PERSON_INDEX, ON_TODAY)
    found = {row.pop("documentId"): row for row in views.to_dicts()}
    assert found == naive.person_views(rows, TODAY)
    assert set_aside == []


@examples
@given(rows=worlds())
def test_post_views_have_one_row_per_post(tcs: World, rows: Rows) -> None:
    tcs.fill(rows)
    views, _ = tcs.views(POST_INDEX, ON_TODAY)
    found = {row.pop("documentId"): row for row in views.drop("programmes").to_dicts()}
    assert found == naive.post_views(rows, TODAY)

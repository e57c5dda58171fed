"""Documents: how words are made, and that a hash tells documents apart, everywhere alike."""

import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.documents import FORM, people, person, views
from tis_sync.search.documents import encode, fingerprints, words_of
from tis_sync.search.model import HASH_BITS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("O'Brien-Müller", ["o", "brien", "muller"]),
        ("  Zoë\tNí Dhomhnaill ", ["zoe", "ni", "dhomhnaill"]),
        ("𠮷田 美咲", ["𠮷田", "美咲"]),
        ("WES/RHM01/021", ["wes", "rhm01", "021"]),
        ("Łukasz 😀 100%", ["łukasz", "100"]),
        ("...", []),
    ],
)
def test_words_are_small_letters_and_digits_without_accents(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.text())
def test_words_of_words_are_the_same_words(text: str) -> None:
    words = words_of(text)
    assert words_of(" ".join(words)) == words


def test_a_hash_does_not_depend_on_neighbours_chunks_or_the_process() -> None:
    frame = people(50)
    together = fingerprints(frame, FORM)
    alone = pl.concat([fingerprints(one, FORM) for one in frame.iter_slices(1)])
    assert together.equals(alone)
    assert encode(frame, FORM).drop("body").equals(together)
    code = (
        "from tests.servers.documents import FORM, people\n"
        "from tis_sync.search.documents import fingerprints\n"
        "print(fingerprints(people(50), FORM)['hash'].to_list())"
    )
    from pathlib import Path

    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    assert told.stdout.strip() == str(together["hash"].to_list())


def test_any_change_of_a_field_changes_the_hash() -> None:
    one = person(5)
    variants = [
        one,
        one | {"status": None},
        one | {"role": ""},
        one | {"surname": one["forenames"], "forenames": one["surname"]},
        one | {"trusts": []},
        one | {"trusts": list(reversed(one["trusts"]))},
        one | {"programmeMemberships": [one["programmeMemberships"][0] | {"programmeId": 99}]},
    ]
    hashes = fingerprints(views(variants), FORM)["hash"]
    assert hashes.n_unique() == len(variants)
    assert (hashes < 2**HASH_BITS).all()

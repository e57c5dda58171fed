"""Documents: their words, and hashes that are the same everywhere and change with every field."""

import subprocess
import sys
from pathlib import Path

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
def test_words_are_lower_case_letters_and_digits_without_accents(
    text: str, words: list[str]
) -> None:
    assert words_of(text) == words


@given(st.text())
def test_normalising_words_twice_changes_nothing(text: str) -> None:
    words = words_of(text)
    assert words_of(" ".join(words)) == words


def test_a_hash_does_not_depend_on_neighbours_chunks_or_the_process() -> None:
    frame = people(50)
    whole = fingerprints(frame, FORM)
    one_by_one = pl.concat([fingerprints(one, FORM) for one in frame.iter_slices(1)])
    assert whole.equals(one_by_one)
    assert encode(frame, FORM).drop("body").equals(whole)
    code = (
        "from tests.servers.documents import FORM, people\n"
        "from tis_sync.search.documents import fingerprints\n"
        "print(fingerprints(people(50), FORM)['hash'].to_list())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    assert printed.stdout.strip() == str(whole["hash"].to_list())


def test_any_change_to_a_field_changes_the_hash() -> None:
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

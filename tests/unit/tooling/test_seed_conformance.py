"""The page of conformance: fresh, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

from tools import pages, seed_conformance

ROOT = Path(__file__).parents[3]


def test_the_page_is_fresh() -> None:
    found = (ROOT / seed_conformance.PAGE).read_text()
    assert pages.difference(found, seed_conformance.page()) == ""


def test_every_test_that_is_named_exists() -> None:
    for clause in seed_conformance.CLAUSES:
        for name in clause.tests:
            file, _, test = name.partition("::")
            text = (ROOT / file).read_text()
            assert re.search(rf"^((async )?def {test}\(|{test} = )", text, re.MULTILINE), name


def test_what_is_kept_is_held_and_what_is_not_says_so() -> None:
    for clause in seed_conformance.CLAUSES:
        assert bool(clause.tests) is clause.verdict.startswith("kept"), clause

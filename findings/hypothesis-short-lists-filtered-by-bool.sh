#!/bin/sh
# hypothesis 6.170.15 (Python): `lists(integers(), max_size=2).filter(bool)`, short lists that are not empty, ends in the library's own
# AssertionError before the test has seen a value; so does `.filter(len)`, and max_size=1. With max_size=3, with the same filter
# written as a lambda, or with min_size=1 in its place all is well. `filter(bool)` is understood and turned into a least size
# of 1, but the size that lists have on average was chosen before, for lists that may be empty.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check hypothesis==6.170.15
cd "$work"
"$work/venv/bin/python" - <<'PY'
from hypothesis import given, settings
from hypothesis import strategies as st

numbers = st.integers()
seen = {}
for name, strategy in {
    "at most 1, filter(bool)": st.lists(numbers, max_size=1).filter(bool),
    "at most 2, filter(bool)": st.lists(numbers, max_size=2).filter(bool),
    "at most 2, filter(len)": st.lists(numbers, max_size=2).filter(len),
    "at most 3, filter(bool)": st.lists(numbers, max_size=3).filter(bool),
    "at most 2, filter(lambda)": st.lists(numbers, max_size=2).filter(lambda found: len(found) > 0),
    "from 1 to 2": st.lists(numbers, min_size=1, max_size=2),
}.items():

    @settings(max_examples=100, database=None, derandomize=True)
    @given(strategy)
    def runs(value):
        assert value

    try:
        runs()
        seen[name] = "ok"
    except AssertionError as error:
        at = error.__traceback__
        while at.tb_next:
            at = at.tb_next
        seen[name] = "AssertionError in " + at.tb_frame.f_globals["__name__"]
    print(f"{name}: {seen[name]}")
inside = "AssertionError in hypothesis.internal.conjecture."
assert [each.startswith(inside) for each in seen.values()] == [True, True, True, False, False, False], seen
assert list(seen.values())[3:] == ["ok"] * 3, seen
PY
echo "as described"

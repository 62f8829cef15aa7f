#!/bin/sh
# datasketches 5.2.0 (Python): a sketch of distinct values hashes the bytes of what it is given, so 1 and 1.0 are two of them, though
# Python's own set, SQL and JSON readers that give floats see one; True is 1. An empty text is none at all: a sketch of it counts 0
# where a set counts 1. Two producers that write an account as 1 and as 1.0 double its uniques, and only in the estimate.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check datasketches==5.2.0
"$work/venv/bin/python" - <<'PY'
from datasketches import cpc_sketch, hll_sketch, update_theta_sketch

for make in (lambda: hll_sketch(12), cpc_sketch, update_theta_sketch):
    counts = []
    for values in ([1, 1.0], [1, True], [""]):
        sketch = make()
        for value in values:
            sketch.update(value)
        counts.append((round(sketch.get_estimate()), len(set(values))))
    print(type(sketch).__name__, "1 and 1.0, 1 and True, an empty text (sketch, set):", counts)
    assert counts == [(2, 1), (1, 1), (0, 1)], counts
PY
echo "as described"

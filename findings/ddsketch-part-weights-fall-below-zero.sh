#!/bin/sh
# ddsketch 3.0.1 (Python): `add` takes a weight, any positive float, but ranks count in ones: where the weights of a sketch sum to less
# than one, its median is -0.99, whatever was added. Latencies of 10 and 20 ms of a sample at 40 % give a median of 10.07 with
# weights of 1, and one below zero with weights of 0.4.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ddsketch==3.0.1
"$work/venv/bin/python" - <<'PY'
from ddsketch import DDSketch


def median(weight):
    sketch = DDSketch(0.01)
    for latency_ms in (10, 20):
        sketch.add(latency_ms, weight)
    return round(sketch.get_quantile_value(0.5), 2)


print("median of 10 and 20, weight 1:", median(1.0), "and weight 0.4:", median(0.4))
assert (median(1.0), median(0.4)) == (10.07, -0.99)
PY
echo "as described"

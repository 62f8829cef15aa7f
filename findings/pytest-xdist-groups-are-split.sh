#!/bin/sh
# pytest 9.2.0 with pytest-xdist 3.8.0: `--dist loadgroup` no longer keeps tests of one `xdist_group` on one worker. xdist writes
# the group into an attribute from which pytest 9.2 does not read a test's id any more, so the scheduler sees no groups: without
# an error or a warning each worker makes the fixtures of every group, and a test that relies on the one before it in its group
# fails now and then.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pytest==9.2.0 pytest-xdist==3.8.0
cat > "$work/test_group.py" <<'PY'
import time

import pytest

pytestmark = pytest.mark.xdist_group("one")


@pytest.mark.parametrize("number", range(20))
def test_of_the_group(number, worker_id, record_property):
    time.sleep(0.05)
    with open(f"ran-{worker_id}", "a") as ran:
        ran.write(f"{number}\n")
PY
cd "$work"
"$work/venv/bin/python" -m pytest -q -n 2 --dist loadgroup -p no:cacheprovider test_group.py
echo "workers that ran tests of the group: $(ls ran-* | tr '\n' ' ')"
test "$(ls ran-* | wc -l)" -eq 2
echo "as described"

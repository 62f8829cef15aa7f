#!/bin/sh
# croniter 7.0.0 and cronsim 2.8 (Python) both take `0 0 */10 * 1` and run it on different days: croniter on every tenth day of
# the month and on every Monday, 9 times in March 2026, cronsim only on a tenth day that is a Monday, not at all in that March. To
# cronsim a field that begins with a star narrows the other one, so `*/10` and `1-31/10`, the same days of the month, are two
# schedules; to croniter they are one. A run for bills that one library was asked about is not the one that the other starts.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check croniter==7.0.0 cronsim==2.8
"$work/venv/bin/python" - <<'PY'
import datetime
from itertools import takewhile

from croniter import croniter
from cronsim import CronSim

before = datetime.datetime(2025, 12, 31, 23, 59)
end = datetime.datetime(2027, 1, 1)


def runs(rule):
    one = takewhile(lambda time: time < end, croniter(rule, before, ret_type=datetime.datetime))
    other = takewhile(lambda time: time < end, CronSim(rule, before))
    return list(one), list(other)


seen = {}
for rule in ("0 0 1 * */2", "0 0 1 * 0-6/2", "0 0 */10 * 1", "0 0 1-31/10 * 1"):
    one, other = runs(rule)
    seen[rule] = (len(one), len(other))
    march = [sum(time.month == 3 for time in times) for times in (one, other)]
    print(f"{rule:>16}: croniter {len(one)} runs in 2026, cronsim {len(other)}; in March {march[0]} and {march[1]}")
assert seen == {"0 0 1 * */2": (213, 8), "0 0 1 * 0-6/2": (213, 213), "0 0 */10 * 1": (90, 5), "0 0 1-31/10 * 1": (90, 90)}, seen
PY
echo "as described"

#!/bin/sh
# aniso8601 10.0.1 with relativetimebuilder 3.0.3 (Python), the builder whose months are months of the calendar:
# R5/2026-01-31/P1M (monthly from 31 January) is the 28th of every month from February on, because each date is made from
# the one before it and not from the start. R5/2024-02-29/P1Y is 28 February even in the next leap year. aniso8601 by itself
# takes a month for 30 days and leaves February out: 31 January, 2 March, 1 April. The start plus n months by
# dateutil 2.9.0 gives 31 March. A subscription that began on the 31st is billed three days early for ever.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  aniso8601==10.0.1 relativetimebuilder==3.0.3 python-dateutil==2.9.0.post0
"$work/venv/bin/python" - <<'PY'
import datetime

from aniso8601 import parse_repeating_interval
from dateutil.relativedelta import relativedelta
from relativetimebuilder import RelativeTimeBuilder


def dates(text, **builder):
    return [str(date) for date in parse_repeating_interval(text, **builder)]


monthly = dates("R5/2026-01-31/P1M", builder=RelativeTimeBuilder)
yearly = dates("R5/2024-02-29/P1Y", builder=RelativeTimeBuilder)
plain = dates("R5/2026-01-31/P1M")
start = datetime.date(2026, 1, 31)
by_dateutil = [str(start + relativedelta(months=count)) for count in range(5)]
print("monthly, relativetimebuilder:", *monthly)
print("monthly, aniso8601:          ", *plain)
print("monthly, start + n months:   ", *by_dateutil)
print("yearly,  relativetimebuilder:", *yearly)
assert monthly == ["2026-01-31", "2026-02-28", "2026-03-28", "2026-04-28", "2026-05-28"], monthly
assert yearly == ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-28"], yearly
assert plain[:3] == ["2026-01-31", "2026-03-02", "2026-04-01"], plain
assert by_dateutil[2] == "2026-03-31", by_dateutil
PY
echo "as described"

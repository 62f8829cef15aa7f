#!/bin/sh
# uuid7 0.1.0 (Python), the package of that name: its version 7 ids count seconds in 36 bits, as an early draft did, where RFC 9562
# has 48 bits of milliseconds. Their version says 7 all the same, so uuid6 2025.0.1 and everybody else read one of 2026
# as of the year 2200: ids of both, sorted, do not follow time, and all of this package stand behind all others
# for 170 years. An index or a page that relies on their order never gives a new row of the others again.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check uuid7==0.1.0 uuid6==2025.0.1
"$work/venv/bin/python" - <<'PY'
import datetime
import time

import uuid6
from uuid_extensions import uuid7

instant = datetime.datetime(2026, 3, 5, tzinfo=datetime.UTC)
one = uuid7(int(instant.timestamp()) * 10**9)
read = datetime.datetime.fromtimestamp((one.int >> 80) / 1000, datetime.UTC)
print(f"{one}: version {one.version}, made for {instant:%Y-%m-%d}, read by RFC 9562 as {read:%Y-%m-%d}")
earlier = uuid7(time.time_ns() - 10**9)
later = uuid6.uuid7()
print("a second earlier by uuid7, now by uuid6; in order:", str(earlier) < str(later))
assert (one.version, read.year) == (7, 2200), (one, read)
assert str(earlier) > str(later), (earlier, later)
PY
echo "as described"

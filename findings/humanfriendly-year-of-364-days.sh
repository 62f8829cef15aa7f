#!/bin/sh
# humanfriendly 10.0 (Python): a year is 52 weeks, 364 days. A setting `1 year` that it reads ends a day early (two in leap years), a
# retention of `10 years` twelve or thirteen; and it prints 365 days as "1 year and 1 day". pytimeparse 1.1.10 reads no years at all.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check humanfriendly==10.0 pytimeparse==1.1.10
"$work/venv/bin/python" - <<'PY'
import humanfriendly
import pytimeparse

days = [humanfriendly.parse_timespan(text) / 86_400 for text in ("1 year", "10 years")]
told = humanfriendly.format_timespan(365 * 86_400)
print("days of 1 year and of 10 years:", days, "- 365 days are told as", told)
assert days == [364, 3640], days
assert told == "1 year and 1 day", told
assert pytimeparse.parse("1 year") is None
PY
echo "as described"

#!/bin/sh
# github.com/sosodev/duration 1.4.0 (Go): a time.Duration of 31 days is written as `P1MT14H`, one of 60 days as `P1M4W1DT14H`: it takes
# months of 730 hours out of a span that was counted in hours. Who reads that in ISO 8601 counts months of the calendar: with
# isodate 0.7.2 (Python), 31 days from 1 February 2026 end on 1 March at 14:00, 28 days and 14 hours later, and 31 days from
# 1 July end on 1 August at 14:00. A term of payment sent so is short or long by hours or days.
set -eu
command -v go >/dev/null || { echo "needs Go"; exit 1; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check isodate==0.7.2
export GOPATH="$work/go" GOFLAGS=-mod=mod
go mod init example.test/terms >/dev/null 2>&1
go get github.com/sosodev/duration@v1.4.0 >/dev/null 2>&1
cat >main.go <<'GO'
package main

import (
	"fmt"
	"time"

	"github.com/sosodev/duration"
)

func main() {
	for _, days := range []time.Duration{30, 31, 60} {
		fmt.Println(days*1, duration.Format(days*24*time.Hour))
	}
}
GO
go run . | sed 's/^\([0-9]*\)ns/\1/' >written
cat written
venv/bin/python - <<'PY'
import datetime

import isodate

written = dict(line.split() for line in open("written"))
assert written == {"30": "P4W2D", "31": "P1MT14H", "60": "P1M4W1DT14H"}, written
lengths = {}
for month in (2, 7):
    start = datetime.datetime(2026, month, 1)
    lengths[month] = start + isodate.parse_duration(written["31"]) - start
    print(f"{written['31']} from {start:%d %B %Y} lasts {lengths[month]}")
assert lengths == {2: datetime.timedelta(days=28, hours=14), 7: datetime.timedelta(days=31, hours=14)}, lengths
PY
echo "as described"

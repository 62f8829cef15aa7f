#!/bin/sh
# github.com/teambition/rrule-go 1.8.2: RFC 5545 (3.3.5) reads a local time that a change of clocks leaves out by the offset before
# the change, so 02:30 of 8 March 2026 in New York is 03:30 EDT. This package gives 01:30 EST, an hour before the time it was asked
# for, and a day's cycle that ends then ends 23 hours after the last and 24 before the next.
set -eu
command -v go >/dev/null || { echo "needs Go"; exit 1; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
export GOPATH="$work/go" GOFLAGS=-mod=mod
cat >go.mod <<'MOD'
module finding

go 1.25
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	_ "time/tzdata"

	"github.com/teambition/rrule-go"
)

func main() {
	rule, err := rrule.StrToRRule("DTSTART;TZID=America/New_York:20260307T023000\nRRULE:FREQ=DAILY;COUNT=3")
	if err != nil {
		panic(err)
	}
	told := ""
	for _, at := range rule.All() {
		told += at.Format("2 15:04 MST, ")
	}
	fmt.Println(told)
	if told != "7 02:30 EST, 8 01:30 EST, 9 02:30 EDT, " {
		panic("changed")
	}
}
GO
go get github.com/teambition/rrule-go@v1.8.2 2>/dev/null
go run .
echo "as described"

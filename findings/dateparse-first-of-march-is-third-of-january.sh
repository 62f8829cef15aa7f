#!/bin/sh
# github.com/araddon/dateparse (v0.0.0-20210429162001): dates with dots, which are day.month.year wherever they are written, are read month
# first: 01.03.2026 of a German statement is 3 January, without a word, and 13.03.2026 of the same column is an error, so half of
# a year's lines are booked in other months. Only ParseStrict says that the date is ambiguous.
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

	"github.com/araddon/dateparse"
)

func main() {
	dotted, err := dateparse.ParseAny("01.03.2026")
	_, later := dateparse.ParseAny("13.03.2026")
	_, strict := dateparse.ParseStrict("01.03.2026")
	fmt.Println("01.03.2026 is", dotted.Format("2 January"), err, "and 13.03.2026:", later)
	fmt.Println("strict:", strict)
	if dotted.Format("01-02") != "01-03" || err != nil || later == nil || strict == nil {
		panic("changed")
	}
}
GO
go get github.com/araddon/dateparse@v0.0.0-20210429162001-6b43995a97de 2>/dev/null
go run .
echo "as described"

#!/bin/sh
# github.com/netresearch/go-cron 0.9.1, the kept fork of robfig/cron 3.0.1: where a line names both days of the month and days of the
# week, robfig and POSIX run on either, the fork by default only where both hold. `0 0 1-7 * 1` at 7 March 2026 runs next that
# day, on the 9th and the 16th by the one, and on 6 April, 4 May and 1 June by the other: after changing the import alone, a
# settlement of every Monday is one of a month.
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
	"time"

	fork "github.com/netresearch/go-cron"
	"github.com/robfig/cron/v3"
)

type schedule interface{ Next(time.Time) time.Time }

func three(of schedule, err error) string {
	if err != nil {
		panic(err)
	}
	at, told := time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC), ""
	for range 3 {
		at = of.Next(at)
		told += at.Format("01-02 ")
	}
	return told
}

func main() {
	const line = "0 0 1-7 * 1"
	either, err := cron.ParseStandard(line)
	first := three(either, err)
	both, err := fork.ParseStandard(line)
	second := three(both, err)
	fmt.Println("robfig:", first)
	fmt.Println("fork:  ", second)
	if first != "03-07 03-09 03-16 " || second != "04-06 05-04 06-01 " {
		panic("changed")
	}
}
GO
go get github.com/netresearch/go-cron@v0.9.1 github.com/robfig/cron/v3@v3.0.1 2>/dev/null
go run .
echo "as described"

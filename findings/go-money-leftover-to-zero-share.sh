#!/bin/sh
# github.com/Rhymond/go-money 1.0.15 (Go): Allocate gives what is left over by rounding to the parties in the order in which they
# are named, a cent each, whatever their share is. A party of 0 % that is named first gets the cent: 1.01 USD by 0:50:50 is
# 0.01, 0.50 and 0.50, and a refund of it takes a cent from a party that never had a share. Named last, the same party gets none.
set -eu
command -v go >/dev/null || { echo "needs Go"; exit 1; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
export GOPATH="$work/go" GOFLAGS=-mod=mod
go mod init example.test/shares >/dev/null 2>&1
go get github.com/Rhymond/go-money@v1.0.15 >/dev/null 2>&1
cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"github.com/Rhymond/go-money"
)

func shares(cents int64, ratios ...int) string {
	parts, err := money.New(cents, "USD").Allocate(ratios...)
	if err != nil {
		panic(err)
	}
	var shown []int64
	for _, part := range parts {
		shown = append(shown, part.Amount())
	}
	return fmt.Sprint(shown)
}

func main() {
	seen := []string{shares(101, 0, 50, 50), shares(101, 50, 50, 0), shares(-101, 0, 50, 50)}
	fmt.Println("101 by 0:50:50, 101 by 50:50:0, -101 by 0:50:50:", seen)
	if seen[0] != "[1 50 50]" || seen[1] != "[51 50 0]" || seen[2] != "[-1 -50 -50]" {
		os.Exit(1)
	}
}
GO
go run .
echo "as described"

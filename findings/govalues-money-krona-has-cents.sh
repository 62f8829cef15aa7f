#!/bin/sh
# github.com/govalues/money 0.2.4 (Go): the Icelandic krona has two decimals, where ISO 4217 gives it none: 500 ISK are
# 50000 minor units, and bojanz/currency 1.5.1, asked the same, says 500. Of the other currencies that both know, all agree.
# Whoever hands the integer of one to a processor whose table is that of the other charges a hundred times too much.
set -eu
command -v go >/dev/null || { echo "needs Go"; exit 1; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
export GOPATH="$work/go" GOFLAGS=-mod=mod
go mod init example.test/units >/dev/null 2>&1
go get github.com/govalues/money@v0.2.4 github.com/bojanz/currency@v1.5.1 >/dev/null 2>&1
cat >main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"github.com/bojanz/currency"
	"github.com/govalues/money"
)

func main() {
	differ, known := []string{}, 0
	for _, code := range currency.GetCurrencyCodes() {
		one, err := money.ParseAmount(code, "500")
		if err != nil {
			continue
		}
		known++
		minor, _ := one.MinorUnits()
		other, err := currency.NewAmount("500", code)
		if err != nil {
			panic(err)
		}
		others, err := other.Int64()
		if err != nil {
			panic(err)
		}
		if minor != others {
			differ = append(differ, fmt.Sprintf("500 %s: govalues %d, bojanz %d", code, minor, others))
		}
	}
	fmt.Println("currencies that both know:", known > 100, "different:", differ)
	if known <= 100 || len(differ) != 1 || differ[0] != "500 ISK: govalues 50000, bojanz 500" {
		os.Exit(1)
	}
}
GO
go run .
echo "as described"

#!/bin/sh
# github.com/linkedin/goavro/v2 2.15.0 (Go): a decimal with more digits than the scale of its schema is written rounded towards minus
# infinity, without an error: 1.999 at scale 2 as 1.99 and -1.999 as -2.00, and -0.001 as -0.01. A charge and its refund no
# longer cancel, and a log of usage drifts downwards. fastavro 1.13.1 (Python) refuses the same value for the same schema.
set -eu
command -v go >/dev/null || { echo "needs Go"; exit 1; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fastavro==1.13.1
export GOPATH="$work/go" GOFLAGS=-mod=mod
go mod init example.test/decimals >/dev/null 2>&1
go get github.com/linkedin/goavro/v2@v2.15.0 >/dev/null 2>&1
cat >schema.json <<'JSON'
{"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
JSON
cat >main.go <<'GO'
package main

import (
	"fmt"
	"math/big"
	"os"

	"github.com/linkedin/goavro/v2"
)

func main() {
	schema, err := os.ReadFile("schema.json")
	if err != nil {
		panic(err)
	}
	codec, err := goavro.NewCodec(string(schema))
	if err != nil {
		panic(err)
	}
	expected := map[string]string{"1.999": "1.99", "-1.999": "-2.00", "0.001": "0.00", "-0.001": "-0.01"}
	for _, sent := range []string{"1.999", "-1.999", "0.001", "-0.001"} {
		amount, _ := new(big.Rat).SetString(sent)
		written, err := codec.BinaryFromNative(nil, amount)
		if err != nil {
			panic(err)
		}
		read, _, err := codec.NativeFromBinary(written)
		if err != nil {
			panic(err)
		}
		got := read.(*big.Rat).FloatString(2)
		fmt.Printf("goavro: sent %s, read %s\n", sent, got)
		if got != expected[sent] {
			os.Exit(1)
		}
	}
}
GO
go run .
venv/bin/python - <<'PY'
import io
import json
from decimal import Decimal

import fastavro

schema = json.load(open("schema.json"))
for sent in ("1.999", "-1.999"):
    try:
        fastavro.schemaless_writer(io.BytesIO(), schema, Decimal(sent))
    except ValueError as error:
        print(f"fastavro: {sent}: {error}")
    else:
        raise SystemExit(f"fastavro took {sent}")
PY
echo "as described"

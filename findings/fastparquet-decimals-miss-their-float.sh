#!/bin/sh
# fastparquet 2026.9.0 (Python) reads a decimal column as floats, and not as the floats that those amounts are: 19.99 comes back as
# 19.990000000000002, which is not equal to 19.99 and is not what float("19.99") gives. It multiplies by 0.01, where dividing by 100
# gives the nearest float. Of all amounts from 0.00 to 999.99 it misses one in seven, so that a filter
# on a price finds nothing. pyarrow 26.0.1, which wrote the file, reads the decimals as they are.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check fastparquet==2026.9.0 pyarrow==26.0.1 pandas==2.3.3 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
from decimal import Decimal

import fastparquet
import pyarrow
from pyarrow import parquet

amounts = [Decimal(cents) / 100 for cents in range(100_000)]
column = pyarrow.array(amounts, pyarrow.decimal128(12, 2))
parquet.write_table(pyarrow.table({"amount": column}), "usage.parquet")
assert parquet.read_table("usage.parquet")["amount"].to_pylist() == amounts
read = fastparquet.ParquetFile("usage.parquet").to_pandas()["amount"]
missed = [amount for amount, got in zip(amounts, read) if float(amount) != got]
print("19.99 is read as", repr(float(read[1999])), "- rows where amount == 19.99:", int((read == 19.99).sum()))
print(f"missed: {len(missed)} of {len(amounts)}, first", *missed[:5])
assert float(read[1999]) == 19.990000000000002 and not (read == 19.99).any()
assert len(missed) == 13_929, len(missed)
PY
echo "as described"

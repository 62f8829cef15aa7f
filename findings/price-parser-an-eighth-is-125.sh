#!/bin/sh
# price-parser 0.5.1 (Python): three digits after a single separator are taken for thousands even behind a leading zero, where no
# thousands can be: `0.125 BTC` is 125, `0,500 KWD` 500. And no sign is read, so a refund written `-5.00 USD` is a price of 5.00.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check price-parser==0.5.1
"$work/venv/bin/python" - <<'PY'
from price_parser import Price

texts = ["0.12 BTC", "0.125 BTC", "0,500 KWD", "-5.00 USD"]
amounts = [str(Price.fromstring(text).amount) for text in texts]
for text, amount in zip(texts, amounts, strict=True):
    print(f"{text}: {amount}")
assert amounts == ["0.12", "125", "500", "5.00"], amounts
PY
echo "as described"

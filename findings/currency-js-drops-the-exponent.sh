#!/bin/sh
# currency.js 2.0.4 (JavaScript): a number written with an exponent is read with the letter taken out: "1E+2" is 12.00 and not 100, "1.5E2"
# 1.52 and not 150. No error, not even with `errorOnInvalid`. Decimal types write round amounts so by themselves: Python's
# Decimal("100.00").normalize() is 1E+2, and JSON allows it. big.js 7.0.1, asked the same, gives 100 and 150.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock currency.js@2.0.4 big.js@7.0.1
cat >read.js <<'JS'
const assert = require("assert");
const Big = require("big.js");
const currency = require("currency.js");

const read = ["1E+2", "1.5E2", "2.5e3"].map((text) => {
  const one = currency(text, { errorOnInvalid: true }).toString();
  const other = Big(text).toFixed(2);
  console.log(`${text}: currency.js ${one}, big.js ${other}`);
  return [one, other];
});
assert.deepStrictEqual(read, [["12.00", "100.00"], ["1.52", "150.00"], ["2.53", "2500.00"]]);
JS
python3 -c 'from decimal import Decimal; print("as Python writes 100.00 without its zeros:", Decimal("100.00").normalize())'
node read.js
echo "as described"

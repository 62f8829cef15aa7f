#!/bin/sh
# dinero.js 2.0.2 (JavaScript): transformScale, by which an amount with more digits is brought to minor units, rounds towards minus
# infinity where no rule is named: 10.199 USD are 10.19, and -10.199 are -10.20, so that a charge and its own refund differ by a
# cent, always at the cost of who refunds. Its allocate treats both signs alike: -1.01 by 1:1 is the negative of 1.01 by 1:1.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock dinero.js@2.0.2
cat >scale.mjs <<'JS'
import assert from "assert";
import { USD, add, allocate, dinero, toDecimal, transformScale } from "dinero.js";

const [charge, refund] = [10199, -10199].map((amount) => transformScale(dinero({ amount, currency: USD, scale: 3 }), 2));
const shares = [101, -101].map((amount) => allocate(dinero({ amount, currency: USD }), [1, 1]).map((share) => toDecimal(share)));
console.log(`charge ${toDecimal(charge)}, refund ${toDecimal(refund)}, left ${toDecimal(add(charge, refund))}`);
console.log("1.01 by 1:1:", ...shares[0], "and -1.01:", ...shares[1]);
assert.deepStrictEqual([charge, refund].map((amount) => toDecimal(amount)), ["10.19", "-10.20"]);
assert.deepStrictEqual(shares, [["0.51", "0.50"], ["-0.51", "-0.50"]]);
JS
node scale.mjs
echo "as described"

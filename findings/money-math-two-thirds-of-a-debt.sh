#!/bin/sh
# money-math 2.6.3 (JavaScript): results below zero are rounded with the half of a unit added where it is to be taken away.
# -2.00 / 3.00 is -0.65 where 2.00 / 3.00 is 0.67; rounded to 5 cents -1.03 is -0.95, and a debt of 0.03 turns into
# a credit of 0.05. What is taken back of a bill by it is never what was billed.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock money-math@2.6.3
cat >debt.js <<'JS'
const assert = require("assert");
const money = require("money-math");

const thirds = ["2.00", "-2.00"].map((amount) => money.div(amount, "3.00"));
const cash = ["1.03", "-1.03", "-0.03"].map((amount) => money.roundTo5Cents(amount));
console.log("two thirds of a dollar:", thirds.join(" and "));
console.log("to 5 cents, 1.03, -1.03 and -0.03:", cash.join(", "));
assert.deepStrictEqual(thirds, ["0.67", "-0.65"]);
assert.deepStrictEqual(cash, ["1.05", "-0.95", "0.05"]);
JS
node debt.js
echo "as described"

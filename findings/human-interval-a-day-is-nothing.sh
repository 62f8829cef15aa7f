#!/bin/sh
# human-interval 2.0.1 (JavaScript): a unit that it knows beside words it doesn't is worth nothing: `a day`, `an hour` and `half an hour`
# are 0 ms, `one and a half hours` is one hour, where an unknown unit is not a number. A retention of `a day` keeps nothing,
# and a job every `half an hour` is always due; `one day` and `1.5 hours` are right.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock human-interval@2.0.1
cat >intervals.js <<'JS'
const assert = require("assert");
const interval = require("human-interval");

const texts = ["one day", "a day", "an hour", "half an hour", "one and a half hours", "1.5 hours"];
const hours = texts.map((text) => interval(text) / 3600000);
texts.forEach((text, index) => console.log(`${text}: ${hours[index]} h`));
assert.deepStrictEqual(hours, [24, 0, 0, 0, 1, 1.5]);
JS
node intervals.js
echo "as described"

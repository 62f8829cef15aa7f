#!/bin/sh
# timestring 7.0.0 (JavaScript): a decimal comma, which ISO 8601 prefers to the point, is dropped as if it were not there: `0,5h` is
# five hours, `1,5h` fifteen. A sign is dropped too, so `-1h` is an hour ahead; what it does not know raises an error otherwise.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock timestring@7.0.0
cat >hours.js <<'JS'
const assert = require("assert");
const timestring = require("timestring");

const texts = ["0.5h", "0,5h", "1,5h", "-1h"];
const hours = texts.map((text) => timestring(text) / 3600);
texts.forEach((text, index) => console.log(`${text}: ${hours[index]} h`));
assert.deepStrictEqual(hours, [0.5, 5, 15, 1]);
assert.throws(() => timestring("1mo"));
JS
node hours.js
echo "as described"

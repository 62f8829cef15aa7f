#!/bin/sh
# mt940js 1.3.5 (JavaScript): the entry date of a line of field 61 is written without its year, and the package takes that of the value
# date. A card payout that is entered on 31 December with the value of 4 January comes out as entered twelve months later than
# the statement it stands in was closed, so that no match by booking date finds it.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock mt940js@1.3.5
cat >statement.sta <<'STA'
:20:LARK20261231
:25:11223344/0001234567
:28C:365/1
:60F:C261230EUR1000,00
:61:2701041231C480,25NMSCPAYOUT-5512//BK0003
:86:Card payout 5512
:62F:C261231EUR1480,25
-
STA
cat >entry.js <<'JS'
const assert = require("assert");
const fs = require("fs");
const { Parser } = require("mt940js");

const [statement] = new Parser().parse(fs.readFileSync("statement.sta", "utf8"));
const day = (date) => date.toISOString().slice(0, 10);
const [line] = statement.transactions;
console.log(`closed ${day(statement.closingBalanceDate)}, value ${day(line.date)}, entered ${day(line.entryDate)}`);
assert.deepStrictEqual(
  [statement.closingBalanceDate, line.date, line.entryDate].map(day),
  ["2026-12-31", "2027-01-04", "2027-12-31"],
);
JS
node entry.js
echo "as described"

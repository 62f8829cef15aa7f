#!/bin/sh
# rrule-temporal 2.2.8 (JavaScript): `SKIP=BACKWARD` of RFC 7529 puts a day that a month lacks on the month's last day. It does so for a
# monthly rule whose day comes from its start (31 January, 28 February, 31 March), and not for the same rule that names its day,
# `BYMONTHDAY=31`, which leaves out February, April and June as if SKIP were not there. A yearly rule that names 30 February
# is moved to the 28th. Naming the day that the start has anyway turns twelve bills a year into seven.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock rrule-temporal@2.2.8
cat >dates.mjs <<'JS'
import assert from "assert";
import { RRuleTemporal } from "rrule-temporal";

function dates(rule) {
  const rruleString = `DTSTART:20260131T000000Z\nRRULE:RSCALE=GREGORIAN;SKIP=BACKWARD;${rule}`;
  const found = new RRuleTemporal({ rruleString }).all((_, index) => index < 400).map((time) => time.toString().slice(0, 10));
  console.log(`${rule}: ${found.length} dates, ${found.slice(0, 4).join(" ")}`);
  return found;
}
const implied = dates("FREQ=MONTHLY;UNTIL=20261231T000000Z");
const named = dates("FREQ=MONTHLY;BYMONTHDAY=31;UNTIL=20261231T000000Z");
const yearly = dates("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;COUNT=2");
assert.deepStrictEqual([implied.length, implied[1]], [12, "2026-02-28"]);
assert.deepStrictEqual([named.length, named[1]], [7, "2026-03-31"]);
assert.deepStrictEqual(yearly, ["2026-02-28", "2027-02-28"]);
JS
node dates.mjs
echo "as described"

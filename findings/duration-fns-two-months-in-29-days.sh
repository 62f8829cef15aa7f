#!/bin/sh
# duration-fns 3.0.2 (JavaScript): from 31 January to 1 March, 29 days, `between` counts two months and takes 30 days away again:
# `P2M-30D`. From 31 January to 28 February, the last day of both, it is a month less three days. Whoever bills
# `between(start, end).months` bills two months for four weeks. date-fns 4.1.0, asked the same, says one month and one day, and
# one month: no part of it is ever negative.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund duration-fns@3.0.2 date-fns@4.1.0 >/dev/null
cat >between.mjs <<'JS'
import * as durations from "duration-fns";
import { intervalToDuration } from "date-fns";
process.env.TZ = "UTC";
const seen = [["2026-01-31", "2026-03-01"], ["2026-01-31", "2026-02-28"]].map(([start, end]) => {
  const between = durations.toString(durations.between(`${start}T00:00:00Z`, `${end}T00:00:00Z`));
  const { months = 0, days = 0 } = intervalToDuration({ start: new Date(start), end: new Date(end) });
  return `${start} to ${end}: ${between}, date-fns P${months}M${days}D`;
});
console.log(seen.join("\n"));
const expected = [
  "2026-01-31 to 2026-03-01: P2M-30D, date-fns P1M1D",
  "2026-01-31 to 2026-02-28: P1M-3D, date-fns P1M0D",
];
process.exit(seen.join() === expected.join() ? 0 : 1);
JS
TZ=UTC node between.mjs
echo "as described"

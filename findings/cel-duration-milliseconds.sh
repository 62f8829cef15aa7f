#!/bin/sh
# cel-python 0.5.0 and @bufbuild/cel 0.6.1 (JavaScript), two implementations of one expression language: for a duration of 1.2 s
# `getMilliseconds()` is 1200 in the first, the whole, and 200 in the second, what is left below a second; `getSeconds()`,
# of which both give the whole, gives no hint of that. A target written as `took.getMilliseconds() < 500` is met in one and
# missed in the other. @marcbachmann/cel-js 8.0.0 sides with the first.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check cel-python==0.5.0
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock @bufbuild/cel@0.6.1 @marcbachmann/cel-js@8.0.0
cat >rules.txt <<'RULES'
duration('72s').getSeconds()
duration('1.2s').getMilliseconds()
duration('1h').getMilliseconds()
duration('1.2s').getMilliseconds() < 500
RULES
cat >ask.mjs <<'JS'
import { readFileSync } from "fs";
import { run } from "@bufbuild/cel";
import { evaluate } from "@marcbachmann/cel-js";

for (const rule of readFileSync("rules.txt", "utf8").trim().split("\n")) console.log(String(run(rule)), String(evaluate(rule)));
JS
node ask.mjs >javascript
"$work/venv/bin/python" - <<'PY'
import celpy

environment = celpy.Environment()
seen = []
for rule, answers in zip(open("rules.txt").read().splitlines(), open("javascript")):
    bufbuild, cel_js = answers.split()
    value = environment.program(environment.compile(rule)).evaluate({})
    python = str(bool(value)).lower() if "<" in rule else str(int(value))
    print(f"{rule}: cel-python {python}, @bufbuild/cel {bufbuild}, cel-js {cel_js}")
    seen.append((python, bufbuild, cel_js))
assert seen == [("72", "72", "72"), ("1200", "200", "1200"), ("3600000", "0", "3600000"), ("false", "true", "false")], seen
PY
echo "as described"

#!/bin/sh
# @bufbuild/cel 0.6.1 (JavaScript): a key whose value is null is not in its map: `'coupon' in order` and `has(order.coupon)` are false
# for {"coupon": null}, while `size(order)` counts it, `order.coupon` reads it and `order.exists(key, key == 'coupon')` finds
# it. cel-python 0.5.0, asked the same, says true each time. A rule that is written for both ("refuse what names a coupon") decides
# by the engine that happens to run it.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check cel-python==0.5.0
cd "$work"
npm install --silent --no-audit --no-fund @bufbuild/cel@0.6.1 >/dev/null
cat >rules.json <<'JSON'
["'coupon' in {'coupon': null}", "has({'coupon': null}.coupon)", "size({'coupon': null}) == 1",
 "{'coupon': null}.exists(key, key == 'coupon')", "'coupon' in {'coupon': ''}"]
JSON
cat >rules.mjs <<'JS'
import { run } from "@bufbuild/cel";
import { readFileSync } from "node:fs";
console.log(JSON.parse(readFileSync("rules.json", "utf8")).map((rule) => run(rule, {})).join(" "));
JS
node rules.mjs >javascript.txt
"$work/venv/bin/python" -W ignore - <<'PY'
import json

import celpy

rules = json.load(open("rules.json"))
environment = celpy.Environment()
python = [bool(environment.program(environment.compile(rule)).evaluate({})) for rule in rules]
javascript = [word == "true" for word in open("javascript.txt").read().split()]
for rule, one, other in zip(rules, javascript, python, strict=True):
    print(f"{rule}: {one} in JavaScript, {other} in Python")
assert javascript == [False, False, True, True, True], javascript
assert python == [True] * 5, python
PY
echo "as described"

#!/bin/sh
# mt-940 5.1.1 (Python): a reversed credit (`RC` in field 61), by which the bank takes a credit back, gets a positive amount,
# as the credit itself has; only `D` makes an amount negative. So the entries of a statement no longer lead from its opening to
# its closing balance: 100.00 in and the same 100.00 taken back are 200.00 more. mt940js 1.3.5 reads the same statement with
# -100.00. Returned direct debits and bounced transfers come as such entries.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check mt-940==5.1.1
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock mt940js@1.3.5
cat >statement.sta <<'STA'
:20:STATEMENT
:25:10020030/1234567
:28C:00001/001
:60F:C260301EUR1000,00
:61:2603020302C100,00NTRFNONREF//A1
:61:2603030303RC100,00NTRFNONREF//A2
:61:2603040304D40,00NTRFNONREF//A3
:61:2603050305RD40,00NTRFNONREF//A4
:62F:C260305EUR1000,00
STA
cat >read.js <<'JS'
const { Parser } = require("mt940js");
const [statement] = new Parser().parse(require("fs").readFileSync("statement.sta", "utf8"));
console.log(statement.transactions.map((entry) => entry.amount).join(" "));
JS
theirs=$(node read.js)
echo "mt940js: C, RC, D, RD: $theirs"
test "$theirs" = "100 -100 -40 40"
"$work/venv/bin/python" - <<'PY'
import mt940

statement = mt940.parse("statement.sta")
amounts = [entry.data["amount"].amount for entry in statement]
opening = statement.data["final_opening_balance"].amount.amount
closing = statement.data["final_closing_balance"].amount.amount
print("mt-940:  C, RC, D, RD:", *amounts)
print(f"opening {opening} and entries {sum(amounts)} make {opening + sum(amounts)}; closing balance of the same statement {closing}")
assert [int(amount) for amount in amounts] == [100, 100, -40, 40], amounts
assert closing == opening == 1000, (opening, closing)
PY
echo "as described"

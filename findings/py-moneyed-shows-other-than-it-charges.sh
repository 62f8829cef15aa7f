#!/bin/sh
# py-moneyed 3.0 with babel 2.19.0 (Python): 10.75 HUF are 1075 minor units, which is what a processor is told, and the text of the
# same amount, which is what the customer is shown, is HUF11. The first follows ISO 4217, the second Babel's own table, in which
# 15 currencies have fewer decimals (iso4217 1.16.20260101 lists those of the standard). 10.750 IQD become IQD11 on a bill of which
# three decimals are due. Sums of rounded lines do not add up to the total below them: three times 0.40 HUF are 0 each, and 1.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check py-moneyed==3.0 babel==2.19.0 iso4217==1.16.20260101
"$work/venv/bin/python" - <<'PY'
import iso4217
from babel.numbers import get_currency_precision
from moneyed import Money
from moneyed.l10n import format_money

shown = {}
for amount in (Money("10.75", "HUF"), Money("10.750", "IQD"), Money("0.40", "HUF"), 3 * Money("0.40", "HUF")):
    text = format_money(amount, locale="en_GB").replace("\xa0", " ")
    shown[f"{amount.amount} {amount.currency}"] = (amount.get_amount_in_sub_unit(), text)
    print(f"{amount.amount} {amount.currency}: {amount.get_amount_in_sub_unit()} minor units, shown as {text}")
fewer = [
    each.code
    for each in iso4217.Currency
    if each.exponent is not None and get_currency_precision(each.code) < each.exponent
]
print(len(fewer), "currencies with fewer decimals in Babel than in ISO 4217:", *sorted(fewer))
assert shown == {
    "10.75 HUF": (1075, "HUF11"),
    "10.750 IQD": (10750, "IQD11"),
    "0.40 HUF": (40, "HUF0"),
    "1.20 HUF": (120, "HUF1"),
}, shown
assert len(fewer) == 15, fewer
PY
echo "as described"

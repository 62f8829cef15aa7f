#!/bin/sh
# ofxtools 1.1.1 and ofxparse 0.21 (Python), two readers of one bank statement format: `20260301003500[+5.50:IST]`, a time half past five
# ahead of Greenwich with its offset in hours and a fraction, is 19:05 the day before in ofxparse and 18:45 in ofxtools, which takes
# what follows the point for minutes, 50 of them. Near midnight an entry lies in another day, and at the end of a month in
# another bill.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ofxtools==1.1.1 ofxparse==0.21
"$work/venv/bin/python" - <<'PY'
import io
from datetime import UTC

from ofxparse import OfxParser
from ofxtools.Parser import OFXTree

STATEMENT = """OFXHEADER:100
DATA:OFXSGML
VERSION:102
SECURITY:NONE
ENCODING:USASCII
CHARSET:1252
COMPRESSION:NONE
OLDFILEUID:NONE
NEWFILEUID:NONE

<OFX><SIGNONMSGSRSV1><SONRS><STATUS><CODE>0<SEVERITY>INFO</STATUS><DTSERVER>20260302<LANGUAGE>ENG</SONRS></SIGNONMSGSRSV1>
<BANKMSGSRSV1><STMTTRNRS><TRNUID>1<STATUS><CODE>0<SEVERITY>INFO</STATUS><STMTRS><CURDEF>INR
<BANKACCTFROM><BANKID>121<ACCTID>123<ACCTTYPE>CHECKING</BANKACCTFROM>
<BANKTRANLIST><DTSTART>20260201<DTEND>20260302
<STMTTRN><TRNTYPE>CREDIT<DTPOSTED>20260301003500[%s]<TRNAMT>10.00<FITID>1<NAME>A</STMTTRN>
</BANKTRANLIST><LEDGERBAL><BALAMT>10.00<DTASOF>20260302</LEDGERBAL></STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>"""
seen = {}
for offset in ("+5:PKT", "+5.50:IST"):
    given = (STATEMENT % offset).encode()
    one = OfxParser.parse(io.BytesIO(given)).account.statement.transactions[0].date
    tree = OFXTree()
    tree.parse(io.BytesIO(given))
    other = tree.convert().statements[0].transactions[0].dtposted.astimezone(UTC)
    seen[offset] = (f"{one:%d %H:%M}", f"{other:%d %H:%M}")
    print(f"00:35 on 1 March 2026 [{offset}] in UTC: ofxparse {seen[offset][0]}, ofxtools {seen[offset][1]}")
assert seen == {"+5:PKT": ("28 19:35", "28 19:35"), "+5.50:IST": ("28 19:05", "28 18:45")}, seen
PY
echo "as described"

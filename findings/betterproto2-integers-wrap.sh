#!/bin/sh
# betterproto2 0.10.0: an integer that does not fit its field is sent as another one, and half a second backwards as half
# a second forwards. No error, no warning: an amount of 2^64+500 minor units arrives as 500, one of 2^63 as a negative one.
# Seen by reading the bytes with protobuf 7.36.2, which refuses both values itself.
# What follows for us: generated messages are checked before they are encoded (tools/sdk_checked.py).
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check betterproto2==0.10.0 protobuf==7.36.2 grpcio-tools==1.85.1 betterproto2-compiler==0.10.1
cat >"$work/amounts.proto" <<'PROTO'
syntax = "proto3";
package amounts;
import "google/protobuf/duration.proto";
message Amount {
  int64 minor_units = 1;
  google.protobuf.Duration since = 2;
}
PROTO
cd "$work"
mkdir sdk
PATH="$work/venv/bin:$PATH" "$work/venv/bin/python" -m grpc_tools.protoc -I. --python_out=. --python_betterproto2_out=sdk amounts.proto
"$work/venv/bin/python" - <<'PY'
import datetime

from sdk import amounts as sdk
import amounts_pb2

seen = []
for sent in (2**64 + 500, 2**63):
    arrived = amounts_pb2.Amount.FromString(bytes(sdk.Amount(minor_units=sent))).minor_units
    seen.append(arrived)
    print(f"sent {sent}, arrived {arrived}")
    try:
        amounts_pb2.Amount(minor_units=sent)
    except ValueError as error:
        print(f"  protobuf itself: {error}")
back = sdk.Amount(since=datetime.timedelta(seconds=-0.5))
since = amounts_pb2.Amount.FromString(bytes(back)).since
print(f"sent -0.5 s, arrived {since.seconds} s {since.nanos} ns")
assert seen == [500, -(2**63)], seen
assert (since.seconds, since.nanos) == (0, 500_000_000), since
PY
echo "as described"

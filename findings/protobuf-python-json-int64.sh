#!/bin/sh
# protobuf 7.36.2 (Python): the JSON number 9007199254740993.0 for an int64 field is read as 9007199254740992. The number is
# a valid spelling of an int64 in protobuf's JSON, and as a text, or without `.0`, it keeps its last digit. It passes
# through a double. Amounts of money in minor units lose 1 without an error.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check protobuf==7.36.2
"$work/venv/bin/python" - <<'PY'
from google.protobuf import json_format
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

file = descriptor_pb2.FileDescriptorProto(name="amount.proto", package="amount", syntax="proto3")
message = file.message_type.add(name="Amount")
message.field.add(
    name="minor_units",
    number=1,
    type=descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
)
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
Amount = message_factory.GetMessageClass(pool.FindMessageTypeByName("amount.Amount"))
read = {}
for text in ('9007199254740993.0', '9007199254740993', '"9007199254740993"'):
    read[text] = json_format.Parse('{"minor_units": %s}' % text, Amount()).minor_units
    print(f"{text:>20} is read as {read[text]}")
assert list(read.values()) == [2**53, 2**53 + 1, 2**53 + 1], read
PY
echo "as described"

"""Rules of prices and plans: no I/O, no protobuf, no clock."""

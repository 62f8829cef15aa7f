"""Pure rules of payments: reading requests, planning, and what comes next. No I/O, no clock, no protobuf."""

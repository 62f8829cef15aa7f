"""What a unit of work leaves for the log: events, and timers that become events."""

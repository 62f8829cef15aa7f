"""Pure rules of metering: events and their verdicts, receipts, usage over windows, late usage, settings."""

"""Every statement of metering, run in the caller's unit of work."""

"""Every statement of the event service."""

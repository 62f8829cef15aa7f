"""Rules of the event service: what an event is, what its payload must look like, how types may change. Pure."""

"""Use cases of the event service: reading the feed, registering types, publishing from outside."""

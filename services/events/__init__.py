"""Events: gives a tenant the feed of what happened, and takes in what happens outside.

The log itself and the machinery behind it belong to the runtime (`services.runtime.events`), because every service
publishes and reacts. This service reads pages of the feed by an opaque cursor, follows it live, keeps the registry of
event types (the catalogue of the release in `registry/`, and what tenants register), publishes the events of outside
producers, speaks CloudEvents in both directions, and sends events to webhooks.
"""

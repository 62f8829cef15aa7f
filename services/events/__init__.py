"""Events: gives a tenant the feed of what happened, in the order in which it was committed.

The log itself and the machinery behind it belong to the runtime (`services.runtime.events`), because every service
publishes and reacts. This service reads: pages of the feed by an opaque cursor, and a live tail.
"""

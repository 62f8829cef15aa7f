"""Events of one's own: their type, their publication, and the feed that everybody reads."""

import json
from uuid import uuid4

from payments_sdk.payments.events import v1 as events
from tollmesh_client import Client

schema = json.dumps({"type": "object", "required": ["sku"]})
kind = events.EventType(subject="stock.moved", owner="depot", key_field="sku")
kind.versions = [events.EventTypeVersion(version=1, json_schema=schema)]
# The id is the event's for ever: published again, with it, it is a duplicate.
moved = events.Event(
    id=f"move-{uuid4()}", subject="stock.moved", json=b'{"sku": "bolt", "count": 3}'
)
wrong = events.Event(id=f"move-{uuid4()}", subject="stock.moved", json=b'{"count": 4}')

with Client() as client:
    client.event.register_event_types(events.RegisterEventTypesRequest(event_types=[kind]))
    # From now on; a reader that keeps `cursor` of an answer goes on there after a break.
    tail = client.event.tail_events(events.TailEventsRequest(subjects=["stock.*"]), timeout=30)
    request = events.PublishEventsRequest(events=[moved, moved, wrong])
    for result in client.event.publish_events(request).results:
        print(result.outcome.name, result.reason)
    told = next(tail)
    print("told:", told.event.json, bool(told.cursor))
    for event in client.event.all_events(events.ListEventsRequest(subjects=["stock.*"])):
        print(event.id == moved.id, event.subject, event.key)

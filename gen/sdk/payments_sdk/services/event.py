"""EventService gives a tenant its events in an order that never changes: what was read once stays in
its place, and nothing is ever put in before a cursor that was handed out.


Written by `make generate` from payments/events/v1/events_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.events import v1 as events_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncEventService", "EventService")

_REGISTER_EVENT_TYPES = Method(
    "/payments.events.v1.EventService/RegisterEventTypes",
    events_v1.RegisterEventTypesRequest,
    events_v1.RegisterEventTypesResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_EVENT_TYPES = Method(
    "/payments.events.v1.EventService/ListEventTypes",
    events_v1.ListEventTypesRequest,
    events_v1.ListEventTypesResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_EVENT_TYPE = Method(
    "/payments.events.v1.EventService/GetEventType",
    events_v1.GetEventTypeRequest,
    events_v1.GetEventTypeResponse,
    repeatable=True,
    has_request_id=False,
)
_PUBLISH_EVENTS = Method(
    "/payments.events.v1.EventService/PublishEvents",
    events_v1.PublishEventsRequest,
    events_v1.PublishEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_EVENTS = Method(
    "/payments.events.v1.EventService/ListEvents",
    events_v1.ListEventsRequest,
    events_v1.ListEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_TAIL_EVENTS = Method(
    "/payments.events.v1.EventService/TailEvents",
    events_v1.TailEventsRequest,
    events_v1.TailEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_TIMERS = Method(
    "/payments.events.v1.EventService/ListTimers",
    events_v1.ListTimersRequest,
    events_v1.ListTimersResponse,
    repeatable=True,
    has_request_id=False,
)
_CANCEL_TIMER = Method(
    "/payments.events.v1.EventService/CancelTimer",
    events_v1.CancelTimerRequest,
    events_v1.CancelTimerResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_JOURNEYS = Method(
    "/payments.events.v1.EventService/ListJourneys",
    events_v1.ListJourneysRequest,
    events_v1.ListJourneysResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_JOURNEY = Method(
    "/payments.events.v1.EventService/GetJourney",
    events_v1.GetJourneyRequest,
    events_v1.GetJourneyResponse,
    repeatable=True,
    has_request_id=False,
)
_PUT_SCHEDULE = Method(
    "/payments.events.v1.EventService/PutSchedule",
    events_v1.PutScheduleRequest,
    events_v1.PutScheduleResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_SCHEDULES = Method(
    "/payments.events.v1.EventService/ListSchedules",
    events_v1.ListSchedulesRequest,
    events_v1.ListSchedulesResponse,
    repeatable=True,
    has_request_id=False,
)
_DELETE_SCHEDULE = Method(
    "/payments.events.v1.EventService/DeleteSchedule",
    events_v1.DeleteScheduleRequest,
    events_v1.DeleteScheduleResponse,
    repeatable=True,
    has_request_id=True,
)
_PUBLISH_CLOUD_EVENTS = Method(
    "/payments.events.v1.EventService/PublishCloudEvents",
    events_v1.PublishCloudEventsRequest,
    events_v1.PublishCloudEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_CREATE_WEBHOOK_ENDPOINT = Method(
    "/payments.events.v1.EventService/CreateWebhookEndpoint",
    events_v1.CreateWebhookEndpointRequest,
    events_v1.CreateWebhookEndpointResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_WEBHOOK_ENDPOINT = Method(
    "/payments.events.v1.EventService/GetWebhookEndpoint",
    events_v1.GetWebhookEndpointRequest,
    events_v1.GetWebhookEndpointResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_WEBHOOK_ENDPOINTS = Method(
    "/payments.events.v1.EventService/ListWebhookEndpoints",
    events_v1.ListWebhookEndpointsRequest,
    events_v1.ListWebhookEndpointsResponse,
    repeatable=True,
    has_request_id=False,
)
_UPDATE_WEBHOOK_ENDPOINT = Method(
    "/payments.events.v1.EventService/UpdateWebhookEndpoint",
    events_v1.UpdateWebhookEndpointRequest,
    events_v1.UpdateWebhookEndpointResponse,
    repeatable=True,
    has_request_id=True,
)
_DELETE_WEBHOOK_ENDPOINT = Method(
    "/payments.events.v1.EventService/DeleteWebhookEndpoint",
    events_v1.DeleteWebhookEndpointRequest,
    events_v1.DeleteWebhookEndpointResponse,
    repeatable=True,
    has_request_id=True,
)
_ROTATE_WEBHOOK_SECRET = Method(
    "/payments.events.v1.EventService/RotateWebhookSecret",
    events_v1.RotateWebhookSecretRequest,
    events_v1.RotateWebhookSecretResponse,
    repeatable=True,
    has_request_id=True,
)
_TEST_WEBHOOK_ENDPOINT = Method(
    "/payments.events.v1.EventService/TestWebhookEndpoint",
    events_v1.TestWebhookEndpointRequest,
    events_v1.TestWebhookEndpointResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_WEBHOOK_DELIVERIES = Method(
    "/payments.events.v1.EventService/ListWebhookDeliveries",
    events_v1.ListWebhookDeliveriesRequest,
    events_v1.ListWebhookDeliveriesResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_WEBHOOK_ATTEMPTS = Method(
    "/payments.events.v1.EventService/ListWebhookAttempts",
    events_v1.ListWebhookAttemptsRequest,
    events_v1.ListWebhookAttemptsResponse,
    repeatable=True,
    has_request_id=False,
)
_REDELIVER_WEBHOOK = Method(
    "/payments.events.v1.EventService/RedeliverWebhook",
    events_v1.RedeliverWebhookRequest,
    events_v1.RedeliverWebhookResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_CONSUMERS = Method(
    "/payments.events.v1.EventService/ListConsumers",
    events_v1.ListConsumersRequest,
    events_v1.ListConsumersResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_DEAD_LETTERS = Method(
    "/payments.events.v1.EventService/ListDeadLetters",
    events_v1.ListDeadLettersRequest,
    events_v1.ListDeadLettersResponse,
    repeatable=True,
    has_request_id=False,
)
_REPLAY_DEAD_LETTERS = Method(
    "/payments.events.v1.EventService/ReplayDeadLetters",
    events_v1.ReplayDeadLettersRequest,
    events_v1.ReplayDeadLettersResponse,
    repeatable=True,
    has_request_id=True,
)
_REPLAY_EVENTS = Method(
    "/payments.events.v1.EventService/ReplayEvents",
    events_v1.ReplayEventsRequest,
    events_v1.ReplayEventsResponse,
    repeatable=True,
    has_request_id=True,
)


class EventService:
    """EventService gives a tenant its events in an order that never changes: what was read once stays
    in its place, and nothing is ever put in before a cursor that was handed out.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def register_event_types(
        self, request: events_v1.RegisterEventTypesRequest, *, timeout: float | None = None
    ) -> events_v1.RegisterEventTypesResponse:
        """RegisterEventTypes registers types of events that producers outside the mesh publish, or
        further versions of them, and answers for each. What is registered belongs to the tenant.
        Within a version fields may only be added; whatever else changes needs the next version. A
        type that is already registered stays unchanged, so that a call may be repeated.

        Errors: BATCH_TOO_LARGE. All others are reported per type.
        """
        return self._caller.unary(_REGISTER_EVENT_TYPES, request, timeout)

    def list_event_types(
        self, request: events_v1.ListEventTypesRequest, *, timeout: float | None = None
    ) -> events_v1.ListEventTypesResponse:
        """ListEventTypes lists the types that came with the release and those of the tenant, by
        subject.
        """
        return self._caller.unary(_LIST_EVENT_TYPES, request, timeout)

    def all_event_types(
        self, request: events_v1.ListEventTypesRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.EventType]:
        """Yield the event_types of all pages of list_event_types, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: events_v1.ListEventTypesRequest) -> events_v1.ListEventTypesResponse:
            return self.list_event_types(asked, timeout=timeout)

        return items(page, request, "event_types", BY_TOKEN)

    def get_event_type(
        self, request: events_v1.GetEventTypeRequest, *, timeout: float | None = None
    ) -> events_v1.GetEventTypeResponse:
        """GetEventType reads one type with all its versions.

        Errors: NOT_FOUND.
        """
        return self._caller.unary(_GET_EVENT_TYPE, request, timeout)

    def publish_events(
        self, request: events_v1.PublishEventsRequest, *, timeout: float | None = None
    ) -> events_v1.PublishEventsResponse:
        """PublishEvents takes events of producers outside the mesh and answers for each. All that are
        accepted are committed together, in their order. An event whose id came before is not
        published again: with the same content it is OUTCOME_DUPLICATE, with other content
        OUTCOME_CONFLICT.

        Over REST the body travels as it is, so that `data` keeps its text to the byte:

        {"events": [{"id": "o-1", "subject": "order.created", "data": {"order_id": "ord_…"}}]}

        Errors: BATCH_TOO_LARGE; INVALID_FIELD for a body that is no such JSON. All others are
        reported per event.
        """
        return self._caller.unary(_PUBLISH_EVENTS, request, timeout)

    def list_events(
        self, request: events_v1.ListEventsRequest, *, timeout: float | None = None
    ) -> events_v1.ListEventsResponse:
        """ListEvents reads a page of events, oldest first. A reader that keeps `next_cursor` and asks
        again sees every event exactly once. Events are kept for a time that the operator sets (90
        days, unless told otherwise); a cursor older than the oldest stored event continues with
        that one. EVENT_TYPE_UNKNOWN for a subject of which there is neither an event nor a type.

        Over REST, `Accept: application/cloudevents-batch+json` answers with the bare batch of
        CloudEvents; `next_cursor` then is the header Tollmesh-Next-Cursor, and the next page the
        header Link with rel="next".

        Errors: INVALID_FIELD for a subject that breaks the grammar; INVALID_PAGE_TOKEN for a cursor
        that this tenant was not given for these subjects.
        """
        return self._caller.unary(_LIST_EVENTS, request, timeout)

    def all_events(
        self, request: events_v1.ListEventsRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.Event]:
        """Yield the events of all pages of list_events, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: events_v1.ListEventsRequest) -> events_v1.ListEventsResponse:
            return self.list_events(asked, timeout=timeout)

        return items(page, request, "events", BY_CURSOR)

    def tail_events(
        self, request: events_v1.TailEventsRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.TailEventsResponse]:
        """TailEvents sends events as they are committed, until the caller ends the stream. It starts
        with what is committed from now on, unless `after` or `from_start` say otherwise; initial
        metadata comes once that start is settled, so that nothing committed later is missed. After
        a break, the `cursor` of the last answer goes on without a gap.

        Over REST, `Accept: text/event-stream` answers with Server-Sent Events, each with its cursor
        as `id`; the header Last-Event-ID goes on after that event.

        Errors: as ListEvents, EVENT_TYPE_UNKNOWN whenever there is no type; INVALID_FIELD for
        `from_start` beside `after`; OVERLOADED when as many streams are open as the process keeps
        (64), or of one tenant (16); STREAM_ENDED when the server is about to stop.
        """
        return self._caller.stream(_TAIL_EVENTS, request, timeout)

    def list_timers(
        self, request: events_v1.ListTimersRequest, *, timeout: float | None = None
    ) -> events_v1.ListTimersResponse:
        """ListTimers lists the pending timers, by key.

        Errors: INVALID_PAGE_TOKEN.
        """
        return self._caller.unary(_LIST_TIMERS, request, timeout)

    def all_timers(
        self, request: events_v1.ListTimersRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.Timer]:
        """Yield the timers of all pages of list_timers, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: events_v1.ListTimersRequest) -> events_v1.ListTimersResponse:
            return self.list_timers(asked, timeout=timeout)

        return items(page, request, "timers", BY_TOKEN)

    def cancel_timer(
        self, request: events_v1.CancelTimerRequest, *, timeout: float | None = None
    ) -> events_v1.CancelTimerResponse:
        """CancelTimer cancels a pending timer. A journey whose deadline is cancelled waits without
        one.

        Errors: NOT_FOUND if there is no such timer: it was cancelled or replaced, or is already an
        event.
        """
        return self._caller.unary(_CANCEL_TIMER, request, timeout)

    def list_journeys(
        self, request: events_v1.ListJourneysRequest, *, timeout: float | None = None
    ) -> events_v1.ListJourneysResponse:
        """ListJourneys lists journeys by kind and id, without their steps.

        Errors: INVALID_PAGE_TOKEN.
        """
        return self._caller.unary(_LIST_JOURNEYS, request, timeout)

    def all_journeys(
        self, request: events_v1.ListJourneysRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.Journey]:
        """Yield the journeys of all pages of list_journeys, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: events_v1.ListJourneysRequest) -> events_v1.ListJourneysResponse:
            return self.list_journeys(asked, timeout=timeout)

        return items(page, request, "journeys", BY_TOKEN)

    def get_journey(
        self, request: events_v1.GetJourneyRequest, *, timeout: float | None = None
    ) -> events_v1.GetJourneyResponse:
        """GetJourney reads a journey with its steps.

        Errors: NOT_FOUND.
        """
        return self._caller.unary(_GET_JOURNEY, request, timeout)

    def put_schedule(
        self, request: events_v1.PutScheduleRequest, *, timeout: float | None = None
    ) -> events_v1.PutScheduleResponse:
        """PutSchedule lets an event be published again and again: at every time that a cron expression
        names, in a time zone, once. The same name again changes the schedule; what it owes stays
        owed, unless it now fires at other times. The event is checked by its type now, not each
        time: put the schedule again before the version that it names is retired.

        Errors: SCHEDULE_INVALID; SCHEDULES_FULL; EVENT_TYPE_UNKNOWN, EVENT_SUBJECT_OWNED,
        EVENT_VERSION_RETIRED and EVENT_PAYLOAD_INVALID as in PublishEvents.
        """
        return self._caller.unary(_PUT_SCHEDULE, request, timeout)

    def list_schedules(
        self, request: events_v1.ListSchedulesRequest, *, timeout: float | None = None
    ) -> events_v1.ListSchedulesResponse:
        """ListSchedules lists schedules by name.

        Errors: INVALID_PAGE_TOKEN.
        """
        return self._caller.unary(_LIST_SCHEDULES, request, timeout)

    def all_schedules(
        self, request: events_v1.ListSchedulesRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.Schedule]:
        """Yield the schedules of all pages of list_schedules, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: events_v1.ListSchedulesRequest) -> events_v1.ListSchedulesResponse:
            return self.list_schedules(asked, timeout=timeout)

        return items(page, request, "schedules", BY_TOKEN)

    def delete_schedule(
        self, request: events_v1.DeleteScheduleRequest, *, timeout: float | None = None
    ) -> events_v1.DeleteScheduleResponse:
        """DeleteSchedule ends a schedule. The events that it published stay.

        Errors: NOT_FOUND.
        """
        return self._caller.unary(_DELETE_SCHEDULE, request, timeout)

    def publish_cloud_events(
        self, request: events_v1.PublishCloudEventsRequest, *, timeout: float | None = None
    ) -> events_v1.PublishCloudEventsResponse:
        """PublishCloudEvents takes events of producers outside the mesh as CloudEvents 1.0 and answers
        for each, as PublishEvents does: `type` is the subject, with the suffix of a version from
        the second on, `partitionkey` or else `subject` is the key, `correlationid`, `causationid`
        and `traceparent` are what their names say. `source` and every other attribute are kept and
        go out again with the event. An id must be unique among all sources.

        Over REST all three modes are taken, by their Content-Type: one event in JSON
        (`application/cloudevents+json`), a batch in JSON (`application/cloudevents-batch+json`),
        and binary, where `ce-` headers hold the attributes and the body is the data. `data` is
        stored byte for byte.

        Errors: CLOUD_EVENTS_CONTENT_TYPE for any other form; BATCH_TOO_LARGE; INVALID_FIELD for a
        body that is no JSON. All others are reported per event: CLOUD_EVENT_INVALID,
        CLOUD_EVENT_UNSUPPORTED, and those of PublishEvents.
        """
        return self._caller.unary(_PUBLISH_CLOUD_EVENTS, request, timeout)

    def create_webhook_endpoint(
        self, request: events_v1.CreateWebhookEndpointRequest, *, timeout: float | None = None
    ) -> events_v1.CreateWebhookEndpointResponse:
        """CreateWebhookEndpoint makes an endpoint that gets the tenant's events from now on, and its
        signing secret. The secret is shown in this answer only; the answer to a repetition leaves
        it out.

        Errors: WEBHOOK_URL_REFUSED, WEBHOOK_ENDPOINTS_FULL, SECRETS_KEY_MISSING; EVENT_TYPE_UNKNOWN
        for a subject that no type has: register the type first.
        """
        return self._caller.unary(_CREATE_WEBHOOK_ENDPOINT, request, timeout)

    def get_webhook_endpoint(
        self, request: events_v1.GetWebhookEndpointRequest, *, timeout: float | None = None
    ) -> events_v1.GetWebhookEndpointResponse:
        """GetWebhookEndpoint reads an endpoint and how it fares.

        Errors: NOT_FOUND.
        """
        return self._caller.unary(_GET_WEBHOOK_ENDPOINT, request, timeout)

    def list_webhook_endpoints(
        self, request: events_v1.ListWebhookEndpointsRequest, *, timeout: float | None = None
    ) -> events_v1.ListWebhookEndpointsResponse:
        """ListWebhookEndpoints lists the endpoints, oldest first.

        Errors: INVALID_PAGE_TOKEN.
        """
        return self._caller.unary(_LIST_WEBHOOK_ENDPOINTS, request, timeout)

    def all_webhook_endpoints(
        self, request: events_v1.ListWebhookEndpointsRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.WebhookEndpoint]:
        """Yield the endpoints of all pages of list_webhook_endpoints, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: events_v1.ListWebhookEndpointsRequest) -> events_v1.ListWebhookEndpointsResponse:
            return self.list_webhook_endpoints(asked, timeout=timeout)

        return items(page, request, "endpoints", BY_TOKEN)

    def update_webhook_endpoint(
        self, request: events_v1.UpdateWebhookEndpointRequest, *, timeout: float | None = None
    ) -> events_v1.UpdateWebhookEndpointResponse:
        """UpdateWebhookEndpoint changes what the request names and leaves the rest. Enabling an
        endpoint forgets its failures; what was skipped meanwhile is sent by RedeliverWebhook.

        Errors: NOT_FOUND, WEBHOOK_URL_REFUSED, EVENT_TYPE_UNKNOWN.
        """
        return self._caller.unary(_UPDATE_WEBHOOK_ENDPOINT, request, timeout)

    def delete_webhook_endpoint(
        self, request: events_v1.DeleteWebhookEndpointRequest, *, timeout: float | None = None
    ) -> events_v1.DeleteWebhookEndpointResponse:
        """DeleteWebhookEndpoint removes an endpoint with its secrets; undelivered events are dropped.
        The log of its attempts stays for its 30 days.

        Errors: NOT_FOUND.
        """
        return self._caller.unary(_DELETE_WEBHOOK_ENDPOINT, request, timeout)

    def rotate_webhook_secret(
        self, request: events_v1.RotateWebhookSecretRequest, *, timeout: float | None = None
    ) -> events_v1.RotateWebhookSecretResponse:
        """RotateWebhookSecret makes a new signing secret. Until the overlap has passed, the earlier
        ones sign as well, so that receivers change over in their own time. The secret is shown in
        this answer only.

        Errors: NOT_FOUND, SECRETS_KEY_MISSING; WEBHOOK_SECRETS_FULL when four earlier secrets still
        sign.
        """
        return self._caller.unary(_ROTATE_WEBHOOK_SECRET, request, timeout)

    def test_webhook_endpoint(
        self, request: events_v1.TestWebhookEndpointRequest, *, timeout: float | None = None
    ) -> events_v1.TestWebhookEndpointResponse:
        """TestWebhookEndpoint publishes an event `webhook-endpoint.tested` for this endpoint alone,
        waits until it was sent, and answers with that attempt. It is sent only once, even if that
        fails.

        Errors: NOT_FOUND, WEBHOOK_ENDPOINT_DISABLED.
        """
        return self._caller.unary(_TEST_WEBHOOK_ENDPOINT, request, timeout)

    def list_webhook_deliveries(
        self, request: events_v1.ListWebhookDeliveriesRequest, *, timeout: float | None = None
    ) -> events_v1.ListWebhookDeliveriesResponse:
        """ListWebhookDeliveries lists which event got how far on its way to which endpoint, the newest
        first.

        Errors: INVALID_PAGE_TOKEN; NOT_FOUND when there is no such endpoint.
        """
        return self._caller.unary(_LIST_WEBHOOK_DELIVERIES, request, timeout)

    def all_webhook_deliveries(
        self, request: events_v1.ListWebhookDeliveriesRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.WebhookDelivery]:
        """Yield the deliveries of all pages of list_webhook_deliveries, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: events_v1.ListWebhookDeliveriesRequest) -> events_v1.ListWebhookDeliveriesResponse:
            return self.list_webhook_deliveries(asked, timeout=timeout)

        return items(page, request, "deliveries", BY_TOKEN)

    def list_webhook_attempts(
        self, request: events_v1.ListWebhookAttemptsRequest, *, timeout: float | None = None
    ) -> events_v1.ListWebhookAttemptsResponse:
        """ListWebhookAttempts lists requests to endpoints and their responses, newest first.

        Errors: INVALID_PAGE_TOKEN; NOT_FOUND when there is no such endpoint.
        """
        return self._caller.unary(_LIST_WEBHOOK_ATTEMPTS, request, timeout)

    def all_webhook_attempts(
        self, request: events_v1.ListWebhookAttemptsRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.WebhookAttempt]:
        """Yield the attempts of all pages of list_webhook_attempts, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: events_v1.ListWebhookAttemptsRequest) -> events_v1.ListWebhookAttemptsResponse:
            return self.list_webhook_attempts(asked, timeout=timeout)

        return items(page, request, "attempts", BY_TOKEN)

    def redeliver_webhook(
        self, request: events_v1.RedeliverWebhookRequest, *, timeout: float | None = None
    ) -> events_v1.RedeliverWebhookResponse:
        """RedeliverWebhook sends again: one event, or what failed or was skipped in a period, up to
        1,000 deliveries a call. They restart the schedule with the same webhook-id.

        Errors: NOT_FOUND for an endpoint, or an event that it was never to get;
        WEBHOOK_ENDPOINT_DISABLED.
        """
        return self._caller.unary(_REDELIVER_WEBHOOK, request, timeout)

    def list_consumers(
        self, request: events_v1.ListConsumersRequest, *, timeout: float | None = None
    ) -> events_v1.ListConsumersResponse:
        """ListConsumers lists the readers inside the mesh by name: how far each got with the tenant's
        events, and which keys it fails at.

        Errors: INVALID_PAGE_TOKEN.
        """
        return self._caller.unary(_LIST_CONSUMERS, request, timeout)

    def all_consumers(
        self, request: events_v1.ListConsumersRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.Consumer]:
        """Yield the consumers of all pages of list_consumers, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: events_v1.ListConsumersRequest) -> events_v1.ListConsumersResponse:
            return self.list_consumers(asked, timeout=timeout)

        return items(page, request, "consumers", BY_TOKEN)

    def list_dead_letters(
        self, request: events_v1.ListDeadLettersRequest, *, timeout: float | None = None
    ) -> events_v1.ListDeadLettersResponse:
        """ListDeadLetters lists events that a consumer gave up on, by consumer and in the order of the
        feed.

        Errors: INVALID_PAGE_TOKEN; NOT_FOUND when there is no such consumer.
        """
        return self._caller.unary(_LIST_DEAD_LETTERS, request, timeout)

    def all_dead_letters(
        self, request: events_v1.ListDeadLettersRequest, *, timeout: float | None = None
    ) -> Iterator[events_v1.DeadLetter]:
        """Yield the dead_letters of all pages of list_dead_letters, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: events_v1.ListDeadLettersRequest) -> events_v1.ListDeadLettersResponse:
            return self.list_dead_letters(asked, timeout=timeout)

        return items(page, request, "dead_letters", BY_TOKEN)

    def replay_dead_letters(
        self, request: events_v1.ReplayDeadLettersRequest, *, timeout: float | None = None
    ) -> events_v1.ReplayDeadLettersResponse:
        """ReplayDeadLetters brings dead letters back into the queue of their consumer, in their order
        and with a fresh set of tries. Later events of a key go on once none of its letters is left.
        A letter had no effect yet, so this is always safe; mend what made it fail first.

        Errors: NOT_FOUND when there is no such consumer, or none of the events that are named is a
        dead letter of it.
        """
        return self._caller.unary(_REPLAY_DEAD_LETTERS, request, timeout)

    def replay_events(
        self, request: events_v1.ReplayEventsRequest, *, timeout: float | None = None
    ) -> events_v1.ReplayEventsResponse:
        """ReplayEvents has a consumer handle the events of a period again, those that it handled
        before. Its effects happen again, as far as its handler does not find them done by ids of
        its own; each replay has a generation, which handlers see. Replayed events come before those
        that wait, each key in its order; what waits by itself, or lies in the dead letters, is left
        out. A call takes in 10,000 places of the feed at most: go on with `next_page_token` and
        another request_id until it is empty.

        Errors: NOT_FOUND when there is no such consumer; CONSUMER_NOT_REPLAYABLE;
        EVENT_TYPE_UNKNOWN for a subject of which there is no type; INVALID_PAGE_TOKEN.
        """
        return self._caller.unary(_REPLAY_EVENTS, request, timeout)


class AsyncEventService:
    """EventService gives a tenant its events in an order that never changes: what was read once stays
    in its place, and nothing is ever put in before a cursor that was handed out.
    """

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def register_event_types(
        self, request: events_v1.RegisterEventTypesRequest, *, timeout: float | None = None
    ) -> events_v1.RegisterEventTypesResponse:
        """RegisterEventTypes registers types of events that producers outside the mesh publish, or
        further versions of them, and answers for each. What is registered belongs to the tenant.
        Within a version fields may only be added; whatever else changes needs the next version. A
        type that is already registered stays unchanged, so that a call may be repeated.

        Errors: BATCH_TOO_LARGE. All others are reported per type.
        """
        return await self._caller.unary(_REGISTER_EVENT_TYPES, request, timeout)

    async def list_event_types(
        self, request: events_v1.ListEventTypesRequest, *, timeout: float | None = None
    ) -> events_v1.ListEventTypesResponse:
        """ListEventTypes lists the types that came with the release and those of the tenant, by
        subject.
        """
        return await self._caller.unary(_LIST_EVENT_TYPES, request, timeout)

    def all_event_types(
        self, request: events_v1.ListEventTypesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.EventType]:
        """Yield the event_types of all pages of list_event_types, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: events_v1.ListEventTypesRequest) -> events_v1.ListEventTypesResponse:
            return await self.list_event_types(asked, timeout=timeout)

        return items_async(page, request, "event_types", BY_TOKEN)

    async def get_event_type(
        self, request: events_v1.GetEventTypeRequest, *, timeout: float | None = None
    ) -> events_v1.GetEventTypeResponse:
        """GetEventType reads one type with all its versions.

        Errors: NOT_FOUND.
        """
        return await self._caller.unary(_GET_EVENT_TYPE, request, timeout)

    async def publish_events(
        self, request: events_v1.PublishEventsRequest, *, timeout: float | None = None
    ) -> events_v1.PublishEventsResponse:
        """PublishEvents takes events of producers outside the mesh and answers for each. All that are
        accepted are committed together, in their order. An event whose id came before is not
        published again: with the same content it is OUTCOME_DUPLICATE, with other content
        OUTCOME_CONFLICT.

        Over REST the body travels as it is, so that `data` keeps its text to the byte:

        {"events": [{"id": "o-1", "subject": "order.created", "data": {"order_id": "ord_…"}}]}

        Errors: BATCH_TOO_LARGE; INVALID_FIELD for a body that is no such JSON. All others are
        reported per event.
        """
        return await self._caller.unary(_PUBLISH_EVENTS, request, timeout)

    async def list_events(
        self, request: events_v1.ListEventsRequest, *, timeout: float | None = None
    ) -> events_v1.ListEventsResponse:
        """ListEvents reads a page of events, oldest first. A reader that keeps `next_cursor` and asks
        again sees every event exactly once. Events are kept for a time that the operator sets (90
        days, unless told otherwise); a cursor older than the oldest stored event continues with
        that one. EVENT_TYPE_UNKNOWN for a subject of which there is neither an event nor a type.

        Over REST, `Accept: application/cloudevents-batch+json` answers with the bare batch of
        CloudEvents; `next_cursor` then is the header Tollmesh-Next-Cursor, and the next page the
        header Link with rel="next".

        Errors: INVALID_FIELD for a subject that breaks the grammar; INVALID_PAGE_TOKEN for a cursor
        that this tenant was not given for these subjects.
        """
        return await self._caller.unary(_LIST_EVENTS, request, timeout)

    def all_events(
        self, request: events_v1.ListEventsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.Event]:
        """Yield the events of all pages of list_events, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: events_v1.ListEventsRequest) -> events_v1.ListEventsResponse:
            return await self.list_events(asked, timeout=timeout)

        return items_async(page, request, "events", BY_CURSOR)

    def tail_events(
        self, request: events_v1.TailEventsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.TailEventsResponse]:
        """TailEvents sends events as they are committed, until the caller ends the stream. It starts
        with what is committed from now on, unless `after` or `from_start` say otherwise; initial
        metadata comes once that start is settled, so that nothing committed later is missed. After
        a break, the `cursor` of the last answer goes on without a gap.

        Over REST, `Accept: text/event-stream` answers with Server-Sent Events, each with its cursor
        as `id`; the header Last-Event-ID goes on after that event.

        Errors: as ListEvents, EVENT_TYPE_UNKNOWN whenever there is no type; INVALID_FIELD for
        `from_start` beside `after`; OVERLOADED when as many streams are open as the process keeps
        (64), or of one tenant (16); STREAM_ENDED when the server is about to stop.
        """
        return self._caller.stream(_TAIL_EVENTS, request, timeout)

    async def list_timers(
        self, request: events_v1.ListTimersRequest, *, timeout: float | None = None
    ) -> events_v1.ListTimersResponse:
        """ListTimers lists the pending timers, by key.

        Errors: INVALID_PAGE_TOKEN.
        """
        return await self._caller.unary(_LIST_TIMERS, request, timeout)

    def all_timers(
        self, request: events_v1.ListTimersRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.Timer]:
        """Yield the timers of all pages of list_timers, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: events_v1.ListTimersRequest) -> events_v1.ListTimersResponse:
            return await self.list_timers(asked, timeout=timeout)

        return items_async(page, request, "timers", BY_TOKEN)

    async def cancel_timer(
        self, request: events_v1.CancelTimerRequest, *, timeout: float | None = None
    ) -> events_v1.CancelTimerResponse:
        """CancelTimer cancels a pending timer. A journey whose deadline is cancelled waits without
        one.

        Errors: NOT_FOUND if there is no such timer: it was cancelled or replaced, or is already an
        event.
        """
        return await self._caller.unary(_CANCEL_TIMER, request, timeout)

    async def list_journeys(
        self, request: events_v1.ListJourneysRequest, *, timeout: float | None = None
    ) -> events_v1.ListJourneysResponse:
        """ListJourneys lists journeys by kind and id, without their steps.

        Errors: INVALID_PAGE_TOKEN.
        """
        return await self._caller.unary(_LIST_JOURNEYS, request, timeout)

    def all_journeys(
        self, request: events_v1.ListJourneysRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.Journey]:
        """Yield the journeys of all pages of list_journeys, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: events_v1.ListJourneysRequest) -> events_v1.ListJourneysResponse:
            return await self.list_journeys(asked, timeout=timeout)

        return items_async(page, request, "journeys", BY_TOKEN)

    async def get_journey(
        self, request: events_v1.GetJourneyRequest, *, timeout: float | None = None
    ) -> events_v1.GetJourneyResponse:
        """GetJourney reads a journey with its steps.

        Errors: NOT_FOUND.
        """
        return await self._caller.unary(_GET_JOURNEY, request, timeout)

    async def put_schedule(
        self, request: events_v1.PutScheduleRequest, *, timeout: float | None = None
    ) -> events_v1.PutScheduleResponse:
        """PutSchedule lets an event be published again and again: at every time that a cron expression
        names, in a time zone, once. The same name again changes the schedule; what it owes stays
        owed, unless it now fires at other times. The event is checked by its type now, not each
        time: put the schedule again before the version that it names is retired.

        Errors: SCHEDULE_INVALID; SCHEDULES_FULL; EVENT_TYPE_UNKNOWN, EVENT_SUBJECT_OWNED,
        EVENT_VERSION_RETIRED and EVENT_PAYLOAD_INVALID as in PublishEvents.
        """
        return await self._caller.unary(_PUT_SCHEDULE, request, timeout)

    async def list_schedules(
        self, request: events_v1.ListSchedulesRequest, *, timeout: float | None = None
    ) -> events_v1.ListSchedulesResponse:
        """ListSchedules lists schedules by name.

        Errors: INVALID_PAGE_TOKEN.
        """
        return await self._caller.unary(_LIST_SCHEDULES, request, timeout)

    def all_schedules(
        self, request: events_v1.ListSchedulesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.Schedule]:
        """Yield the schedules of all pages of list_schedules, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: events_v1.ListSchedulesRequest) -> events_v1.ListSchedulesResponse:
            return await self.list_schedules(asked, timeout=timeout)

        return items_async(page, request, "schedules", BY_TOKEN)

    async def delete_schedule(
        self, request: events_v1.DeleteScheduleRequest, *, timeout: float | None = None
    ) -> events_v1.DeleteScheduleResponse:
        """DeleteSchedule ends a schedule. The events that it published stay.

        Errors: NOT_FOUND.
        """
        return await self._caller.unary(_DELETE_SCHEDULE, request, timeout)

    async def publish_cloud_events(
        self, request: events_v1.PublishCloudEventsRequest, *, timeout: float | None = None
    ) -> events_v1.PublishCloudEventsResponse:
        """PublishCloudEvents takes events of producers outside the mesh as CloudEvents 1.0 and answers
        for each, as PublishEvents does: `type` is the subject, with the suffix of a version from
        the second on, `partitionkey` or else `subject` is the key, `correlationid`, `causationid`
        and `traceparent` are what their names say. `source` and every other attribute are kept and
        go out again with the event. An id must be unique among all sources.

        Over REST all three modes are taken, by their Content-Type: one event in JSON
        (`application/cloudevents+json`), a batch in JSON (`application/cloudevents-batch+json`),
        and binary, where `ce-` headers hold the attributes and the body is the data. `data` is
        stored byte for byte.

        Errors: CLOUD_EVENTS_CONTENT_TYPE for any other form; BATCH_TOO_LARGE; INVALID_FIELD for a
        body that is no JSON. All others are reported per event: CLOUD_EVENT_INVALID,
        CLOUD_EVENT_UNSUPPORTED, and those of PublishEvents.
        """
        return await self._caller.unary(_PUBLISH_CLOUD_EVENTS, request, timeout)

    async def create_webhook_endpoint(
        self, request: events_v1.CreateWebhookEndpointRequest, *, timeout: float | None = None
    ) -> events_v1.CreateWebhookEndpointResponse:
        """CreateWebhookEndpoint makes an endpoint that gets the tenant's events from now on, and its
        signing secret. The secret is shown in this answer only; the answer to a repetition leaves
        it out.

        Errors: WEBHOOK_URL_REFUSED, WEBHOOK_ENDPOINTS_FULL, SECRETS_KEY_MISSING; EVENT_TYPE_UNKNOWN
        for a subject that no type has: register the type first.
        """
        return await self._caller.unary(_CREATE_WEBHOOK_ENDPOINT, request, timeout)

    async def get_webhook_endpoint(
        self, request: events_v1.GetWebhookEndpointRequest, *, timeout: float | None = None
    ) -> events_v1.GetWebhookEndpointResponse:
        """GetWebhookEndpoint reads an endpoint and how it fares.

        Errors: NOT_FOUND.
        """
        return await self._caller.unary(_GET_WEBHOOK_ENDPOINT, request, timeout)

    async def list_webhook_endpoints(
        self, request: events_v1.ListWebhookEndpointsRequest, *, timeout: float | None = None
    ) -> events_v1.ListWebhookEndpointsResponse:
        """ListWebhookEndpoints lists the endpoints, oldest first.

        Errors: INVALID_PAGE_TOKEN.
        """
        return await self._caller.unary(_LIST_WEBHOOK_ENDPOINTS, request, timeout)

    def all_webhook_endpoints(
        self, request: events_v1.ListWebhookEndpointsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.WebhookEndpoint]:
        """Yield the endpoints of all pages of list_webhook_endpoints, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: events_v1.ListWebhookEndpointsRequest) -> events_v1.ListWebhookEndpointsResponse:
            return await self.list_webhook_endpoints(asked, timeout=timeout)

        return items_async(page, request, "endpoints", BY_TOKEN)

    async def update_webhook_endpoint(
        self, request: events_v1.UpdateWebhookEndpointRequest, *, timeout: float | None = None
    ) -> events_v1.UpdateWebhookEndpointResponse:
        """UpdateWebhookEndpoint changes what the request names and leaves the rest. Enabling an
        endpoint forgets its failures; what was skipped meanwhile is sent by RedeliverWebhook.

        Errors: NOT_FOUND, WEBHOOK_URL_REFUSED, EVENT_TYPE_UNKNOWN.
        """
        return await self._caller.unary(_UPDATE_WEBHOOK_ENDPOINT, request, timeout)

    async def delete_webhook_endpoint(
        self, request: events_v1.DeleteWebhookEndpointRequest, *, timeout: float | None = None
    ) -> events_v1.DeleteWebhookEndpointResponse:
        """DeleteWebhookEndpoint removes an endpoint with its secrets; undelivered events are dropped.
        The log of its attempts stays for its 30 days.

        Errors: NOT_FOUND.
        """
        return await self._caller.unary(_DELETE_WEBHOOK_ENDPOINT, request, timeout)

    async def rotate_webhook_secret(
        self, request: events_v1.RotateWebhookSecretRequest, *, timeout: float | None = None
    ) -> events_v1.RotateWebhookSecretResponse:
        """RotateWebhookSecret makes a new signing secret. Until the overlap has passed, the earlier
        ones sign as well, so that receivers change over in their own time. The secret is shown in
        this answer only.

        Errors: NOT_FOUND, SECRETS_KEY_MISSING; WEBHOOK_SECRETS_FULL when four earlier secrets still
        sign.
        """
        return await self._caller.unary(_ROTATE_WEBHOOK_SECRET, request, timeout)

    async def test_webhook_endpoint(
        self, request: events_v1.TestWebhookEndpointRequest, *, timeout: float | None = None
    ) -> events_v1.TestWebhookEndpointResponse:
        """TestWebhookEndpoint publishes an event `webhook-endpoint.tested` for this endpoint alone,
        waits until it was sent, and answers with that attempt. It is sent only once, even if that
        fails.

        Errors: NOT_FOUND, WEBHOOK_ENDPOINT_DISABLED.
        """
        return await self._caller.unary(_TEST_WEBHOOK_ENDPOINT, request, timeout)

    async def list_webhook_deliveries(
        self, request: events_v1.ListWebhookDeliveriesRequest, *, timeout: float | None = None
    ) -> events_v1.ListWebhookDeliveriesResponse:
        """ListWebhookDeliveries lists which event got how far on its way to which endpoint, the newest
        first.

        Errors: INVALID_PAGE_TOKEN; NOT_FOUND when there is no such endpoint.
        """
        return await self._caller.unary(_LIST_WEBHOOK_DELIVERIES, request, timeout)

    def all_webhook_deliveries(
        self, request: events_v1.ListWebhookDeliveriesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.WebhookDelivery]:
        """Yield the deliveries of all pages of list_webhook_deliveries, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: events_v1.ListWebhookDeliveriesRequest) -> events_v1.ListWebhookDeliveriesResponse:
            return await self.list_webhook_deliveries(asked, timeout=timeout)

        return items_async(page, request, "deliveries", BY_TOKEN)

    async def list_webhook_attempts(
        self, request: events_v1.ListWebhookAttemptsRequest, *, timeout: float | None = None
    ) -> events_v1.ListWebhookAttemptsResponse:
        """ListWebhookAttempts lists requests to endpoints and their responses, newest first.

        Errors: INVALID_PAGE_TOKEN; NOT_FOUND when there is no such endpoint.
        """
        return await self._caller.unary(_LIST_WEBHOOK_ATTEMPTS, request, timeout)

    def all_webhook_attempts(
        self, request: events_v1.ListWebhookAttemptsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.WebhookAttempt]:
        """Yield the attempts of all pages of list_webhook_attempts, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: events_v1.ListWebhookAttemptsRequest) -> events_v1.ListWebhookAttemptsResponse:
            return await self.list_webhook_attempts(asked, timeout=timeout)

        return items_async(page, request, "attempts", BY_TOKEN)

    async def redeliver_webhook(
        self, request: events_v1.RedeliverWebhookRequest, *, timeout: float | None = None
    ) -> events_v1.RedeliverWebhookResponse:
        """RedeliverWebhook sends again: one event, or what failed or was skipped in a period, up to
        1,000 deliveries a call. They restart the schedule with the same webhook-id.

        Errors: NOT_FOUND for an endpoint, or an event that it was never to get;
        WEBHOOK_ENDPOINT_DISABLED.
        """
        return await self._caller.unary(_REDELIVER_WEBHOOK, request, timeout)

    async def list_consumers(
        self, request: events_v1.ListConsumersRequest, *, timeout: float | None = None
    ) -> events_v1.ListConsumersResponse:
        """ListConsumers lists the readers inside the mesh by name: how far each got with the tenant's
        events, and which keys it fails at.

        Errors: INVALID_PAGE_TOKEN.
        """
        return await self._caller.unary(_LIST_CONSUMERS, request, timeout)

    def all_consumers(
        self, request: events_v1.ListConsumersRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.Consumer]:
        """Yield the consumers of all pages of list_consumers, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: events_v1.ListConsumersRequest) -> events_v1.ListConsumersResponse:
            return await self.list_consumers(asked, timeout=timeout)

        return items_async(page, request, "consumers", BY_TOKEN)

    async def list_dead_letters(
        self, request: events_v1.ListDeadLettersRequest, *, timeout: float | None = None
    ) -> events_v1.ListDeadLettersResponse:
        """ListDeadLetters lists events that a consumer gave up on, by consumer and in the order of the
        feed.

        Errors: INVALID_PAGE_TOKEN; NOT_FOUND when there is no such consumer.
        """
        return await self._caller.unary(_LIST_DEAD_LETTERS, request, timeout)

    def all_dead_letters(
        self, request: events_v1.ListDeadLettersRequest, *, timeout: float | None = None
    ) -> AsyncIterator[events_v1.DeadLetter]:
        """Yield the dead_letters of all pages of list_dead_letters, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: events_v1.ListDeadLettersRequest) -> events_v1.ListDeadLettersResponse:
            return await self.list_dead_letters(asked, timeout=timeout)

        return items_async(page, request, "dead_letters", BY_TOKEN)

    async def replay_dead_letters(
        self, request: events_v1.ReplayDeadLettersRequest, *, timeout: float | None = None
    ) -> events_v1.ReplayDeadLettersResponse:
        """ReplayDeadLetters brings dead letters back into the queue of their consumer, in their order
        and with a fresh set of tries. Later events of a key go on once none of its letters is left.
        A letter had no effect yet, so this is always safe; mend what made it fail first.

        Errors: NOT_FOUND when there is no such consumer, or none of the events that are named is a
        dead letter of it.
        """
        return await self._caller.unary(_REPLAY_DEAD_LETTERS, request, timeout)

    async def replay_events(
        self, request: events_v1.ReplayEventsRequest, *, timeout: float | None = None
    ) -> events_v1.ReplayEventsResponse:
        """ReplayEvents has a consumer handle the events of a period again, those that it handled
        before. Its effects happen again, as far as its handler does not find them done by ids of
        its own; each replay has a generation, which handlers see. Replayed events come before those
        that wait, each key in its order; what waits by itself, or lies in the dead letters, is left
        out. A call takes in 10,000 places of the feed at most: go on with `next_page_token` and
        another request_id until it is empty.

        Errors: NOT_FOUND when there is no such consumer; CONSUMER_NOT_REPLAYABLE;
        EVENT_TYPE_UNKNOWN for a subject of which there is no type; INVALID_PAGE_TOKEN.
        """
        return await self._caller.unary(_REPLAY_EVENTS, request, timeout)

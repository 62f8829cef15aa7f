"""Metering: takes usage events in, once each, with a verdict and a durable receipt, and sums them up.

An event is identified by its request_id within the tenant, for ever. A batch is stored, deduplicated and reported
(`usage.reported`) in one transaction and answered after the commit, never before. What was refused is kept with its
reason, apart from usage.
"""

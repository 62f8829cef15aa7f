The partitions that usage events lie in, made by the owner's rights.

-- @make_months
-- By the database's clock, as receipts' ids are by that of a machine: business time may be another one.
SELECT metering.make_months(now(), %(months)s);

-- @storage
SELECT partitions, seen_at, until_at, event_bytes, id_bytes, strays FROM metering.usage_storage();

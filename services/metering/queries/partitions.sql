The partitions that usage events lie in, made by the owner's rights.

-- @make_months
SELECT metering.make_months(%(from)s, %(months)s);

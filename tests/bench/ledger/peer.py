"""A ledger of functions in Postgres, to measure against: one transfer a call, or an array of them, and no service.

Written after what pgledger documents of its behaviour (MIT, read at c18c7d26): ids of its own, accounts with a version
and a balance, entries with the balance before and after, currencies compared, locks in the order of the accounts.
"""

from __future__ import annotations

import psycopg

TABLES = """
CREATE SCHEMA peer;
CREATE TABLE peer.account (
  id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name           text NOT NULL UNIQUE,
  currency       text NOT NULL,
  balance        numeric NOT NULL DEFAULT 0,
  version        bigint NOT NULL DEFAULT 0,
  allow_negative boolean NOT NULL DEFAULT true,
  allow_positive boolean NOT NULL DEFAULT true,
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE peer.transfer (
  id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  from_account uuid NOT NULL REFERENCES peer.account (id),
  to_account   uuid NOT NULL REFERENCES peer.account (id),
  amount       numeric NOT NULL CHECK (amount > 0),
  created_at   timestamptz NOT NULL DEFAULT now(),
  event_at     timestamptz NOT NULL DEFAULT now(),
  metadata     jsonb,
  CHECK (from_account <> to_account)
);
CREATE INDEX ON peer.transfer (from_account);
CREATE INDEX ON peer.transfer (to_account);
CREATE TABLE peer.entry (
  id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  account        uuid NOT NULL REFERENCES peer.account (id),
  transfer       uuid NOT NULL REFERENCES peer.transfer (id),
  amount         numeric NOT NULL,
  balance_before numeric NOT NULL,
  balance_after  numeric NOT NULL,
  version        bigint NOT NULL,
  created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON peer.entry (account);
CREATE INDEX ON peer.entry (transfer);
"""

FUNCTIONS = """
CREATE FUNCTION peer.move(p_account uuid, p_transfer uuid, p_amount numeric) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
  a peer.account;
BEGIN
  UPDATE peer.account
     SET balance = balance + p_amount, version = version + 1, updated_at = now()
   WHERE id = p_account
  RETURNING * INTO a;
  IF a.id IS NULL THEN
    RAISE EXCEPTION 'no account %', p_account;
  ELSIF a.balance < 0 AND NOT a.allow_negative OR a.balance > 0 AND NOT a.allow_positive THEN
    RAISE EXCEPTION 'account % does not take %', p_account, p_amount;
  END IF;
  INSERT INTO peer.entry (account, transfer, amount, balance_before, balance_after, version)
  VALUES (p_account, p_transfer, p_amount, a.balance - p_amount, a.balance, a.version);
  RETURN a.currency;
END $$;
CREATE FUNCTION peer.post(p_from uuid, p_to uuid, p_amount numeric) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
  v_id uuid;
  v_one text;
  v_other text;
BEGIN
  INSERT INTO peer.transfer (from_account, to_account, amount) VALUES (p_from, p_to, p_amount)
  RETURNING id INTO v_id;
  IF p_from < p_to THEN
    v_one := peer.move(p_from, v_id, -p_amount);
    v_other := peer.move(p_to, v_id, p_amount);
  ELSE
    v_other := peer.move(p_to, v_id, p_amount);
    v_one := peer.move(p_from, v_id, -p_amount);
  END IF;
  IF v_one <> v_other THEN
    RAISE EXCEPTION 'currencies differ: % and %', v_one, v_other;
  END IF;
  RETURN v_id;
END $$;
CREATE FUNCTION peer.post_all(p_from uuid[], p_to uuid[], p_amounts numeric[]) RETURNS SETOF uuid
LANGUAGE plpgsql AS $$
BEGIN
  -- In one order, as the single call locks two.
  PERFORM 1 FROM peer.account WHERE id = ANY (p_from || p_to) ORDER BY id FOR UPDATE;
  FOR i IN 1 .. cardinality(p_amounts) LOOP
    RETURN NEXT peer.post(p_from[i], p_to[i], p_amounts[i]);
  END LOOP;
END $$;
"""


def build(admin_url: str, accounts: int) -> dict[str, str]:
    """Make it with so many accounts; returns their ids by name."""
    with psycopg.connect(admin_url) as connection:
        connection.execute(TABLES)
        connection.execute(FUNCTIONS)
        connection.execute(
            "INSERT INTO peer.account (name, currency) SELECT 'account-' || n, 'USD' FROM generate_series(0, %s) AS n",
            (accounts - 1,),
        )
        found = connection.execute("SELECT name, id::text FROM peer.account").fetchall()
    return dict(found)

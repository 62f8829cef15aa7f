"""Consumers whose events matter only for some tenants: the others' are not even put into their queues."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0011"
down_revision = "0010"

_INTEREST = """
CREATE TABLE mesh.interest (
  tenant_id text NOT NULL,
  consumer  text NOT NULL,
  PRIMARY KEY (tenant_id, consumer)
)
"""
_ALL = "       ORDER BY s.consumer, n.place\n"
_OF_INTEREST = """       WHERE NOT EXISTS (SELECT FROM mesh.consumer c WHERE c.consumer = s.consumer AND c.by_tenant)
          OR EXISTS (SELECT FROM mesh.interest i WHERE i.tenant_id = n.tenant_id AND i.consumer = s.consumer)
"""
# From a table whose rows tell that a tenant is of interest: by a trigger, so that no writer forgets it.
_NOTE = """
CREATE FUNCTION mesh.note_interest() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  INSERT INTO mesh.interest (tenant_id, consumer) VALUES (NEW.tenant_id, TG_ARGV[0]) ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$body$
"""


def upgrade() -> None:
    """Let the tick look who is interested. Every consumer goes on as it was until it says otherwise."""
    op.execute("ALTER TABLE mesh.consumer ADD COLUMN by_tenant boolean NOT NULL DEFAULT false")
    if not _is_noted():
        op.execute(_INTEREST)
        schema.protect(op, "mesh", "interest", privileges=schema.APPEND_ONLY)
        schema.open_to_relay(op, "mesh", "interest")
        op.execute(_NOTE)
    _change_tick(_ALL, _OF_INTEREST + _ALL)


def downgrade() -> None:
    """Give every consumer the events of every tenant again.

    While tables of services still note who is interested, what they have noted stays: a later upgrade needs it.
    """
    _change_tick(_OF_INTEREST + _ALL, _ALL)
    op.execute("ALTER TABLE mesh.consumer DROP COLUMN by_tenant")
    if not _is_noted():
        op.execute("DROP FUNCTION mesh.note_interest()")
        op.execute("DROP TABLE mesh.interest")


def _is_noted() -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regproc('mesh.note_interest'))"
    return bool(op.get_bind().exec_driver_sql(query).scalar_one())


def _change_tick(before: str, after: str) -> None:
    query = "SELECT pg_get_functiondef('mesh.tick(integer)'::regprocedure)"
    (definition,) = op.get_bind().exec_driver_sql(query).one()
    # In one tick and in a page of it.
    assert definition.count(before) == 2, "the tick is not the one that this release knows"
    op.get_bind().exec_driver_sql(definition.replace(before, after).replace("%", "%%"))

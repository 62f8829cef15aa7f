"""Keys that a replaced key had made end with it after all, when it turns out that it had leaked."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0013"
down_revision = "0012"

# What was passed on counts among the keys of somebody above, but `created_by` still says who made it. Keys in between
# may have ended: the line goes through them.
_TAKE_BACK = """
CREATE FUNCTION mesh.take_back_keys_made_by(of_key text) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH RECURSIVE line AS (
    SELECT k.key_id FROM mesh.api_key k
     WHERE k.tenant_id = mesh.current_tenant() AND k.key_id = of_key AND k.revoked_at IS NOT NULL
    UNION
    SELECT k.key_id FROM line l JOIN mesh.api_key k ON k.created_by = l.key_id
  ), taken AS (
    UPDATE mesh.api_key k SET parent_key_id = of_key
      FROM line l
     WHERE k.key_id = l.key_id AND k.key_id <> of_key AND k.revoked_at IS NULL
       AND NOT EXISTS (
         SELECT FROM line above JOIN mesh.api_key m ON m.key_id = above.key_id
          WHERE above.key_id = k.parent_key_id AND m.revoked_at IS NULL)
    RETURNING k.key_id
  )
  SELECT count(*) FROM taken;
END
"""
_FUNCTION = "take_back_keys_made_by(text)"


def upgrade() -> None:
    """Make the function, and the index by which it finds what a key made."""
    op.execute("CREATE INDEX api_key_maker ON mesh.api_key (created_by)")
    op.execute(_TAKE_BACK)
    op.execute(f"REVOKE ALL ON FUNCTION mesh.{_FUNCTION} FROM PUBLIC")
    op.execute(f'GRANT EXECUTE ON FUNCTION mesh.{_FUNCTION} TO "{schema.role_names(op).service}"')


def downgrade() -> None:
    """Remove both. What has ended stays so."""
    op.execute(f"DROP FUNCTION mesh.{_FUNCTION}")
    op.execute("DROP INDEX mesh.api_key_maker")

"""Who calls: API keys of tenants, and the short-lived tokens that travel between services.

A key reads `tmk_<8 characters shown in lists>_<43 secret characters>`; the database holds its SHA-256 only. A mesh
token is a JWT (HS256) under the mesh's secret: the service's own principal, and the tenant and actor that it
acts for.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from services.runtime.database import Database
from services.runtime.errors import DatabaseUnavailable, Overloaded, Unauthenticated
from services.runtime.postgres import sql
from services.runtime.postgres.session import Call
from services.runtime.postgres.statements import statement

KEY_PREFIX = "tmk"
MESH_AUDIENCE = "tollmesh-mesh"
SERVICE_PREFIX = "mesh:"
"""How the ids of services begin, as principals."""
MESH_TOKEN_SECONDS = 60
# The longest life that is taken, whoever signed it: a token that leaked is soon worth nothing.
MESH_TOKEN_SECONDS_MAX = 300
# By how much the clocks of two machines of a mesh may differ.
MESH_LEEWAY_SECONDS = 5
# What a token of ours says; one that says more was made for something else.
_CLAIMS = frozenset({"aud", "sub", "tenant", "scopes", "correlation", "causation", "iat", "exp"})
_TENANT = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TEXT_MAX = 256
_SCOPES_MAX = 100
# A revoked key stops to work within a second, in every process and on every stream that it has open: it is looked up
# again after this time, whatever anybody was told.
CACHE_SECONDS = 0.5
CACHE_ENTRIES_MAX = 10_000
LOOKUPS_MAX = 4
# Keys that were never found good are looked up apart: who guesses waits for other guesses.
UNKNOWN_LOOKUPS_MAX = 2
UNKNOWN_LOOKUPS_WAITING_MAX = 64
# To check a signature takes longer than most else of a call, and callers show a token for as long as it lasts.
TOKENS_REMEMBERED_MAX = 1_000
# Every scope of its tenant.
SCOPE_ALL = "*"
# What concerns more than one tenant; never part of `*`.
OPERATOR_SCOPE = "mesh:admin"

_RESOLVE = statement(sql.load("services.runtime", "queries.sql")["resolve_api_key"])


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, once its credential was checked.

    Attributes:
        tenant_id: whose data it may touch.
        principal_id: id of the key, or of the service that acts.
        scopes: what it may do.
        correlation_id: chain that a mesh token belongs to; empty for keys.
        causation_id: cause that a mesh token names; empty for keys.
        expires_at: when the key ends; None for one that does not, and for mesh tokens.
    """

    tenant_id: str
    principal_id: str
    scopes: frozenset[str]
    correlation_id: str = ""
    causation_id: str = ""
    expires_at: datetime | None = None

    @property
    def is_service(self) -> bool:
        """True for a service that acts for a tenant; a key's id never looks so."""
        return self.principal_id.startswith(SERVICE_PREFIX)

    def may(self, scope: str) -> bool:
        """True when the scope is held."""
        return scope in self.scopes or (SCOPE_ALL in self.scopes and scope != OPERATOR_SCOPE)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; `secret` is shown once and stored nowhere."""

    secret: str
    prefix: str

    @property
    def secret_sha256(self) -> bytes:
        """The digest that is stored."""
        return digest(self.secret)


def new_key() -> NewKey:
    """Make a key of 256 random bits."""
    prefix = f"{KEY_PREFIX}_{secrets.token_hex(4)}"
    return NewKey(f"{prefix}_{secrets.token_urlsafe(32)}", prefix)


def digest(secret: str) -> bytes:
    """Return the SHA-256 of a key. Keys are random, so no slow hash is needed."""
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key, as the database has it.

    Attributes:
        revoked_at: when it was revoked, or the key that it was made with; None while it was not.
        expires_at: when it ends by itself; None for one that does not.
    """

    tenant_id: str
    key_id: str
    scopes: frozenset[str]
    revoked_at: datetime | None
    expires_at: datetime | None

    def worked_at(self, at: datetime) -> bool:
        """Whether it was good at a moment."""
        ends = (self.revoked_at, self.expires_at)
        return all(end is None or end > at for end in ends)


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A key that was found good: until when that counts, and since when it is known, in monotonic seconds."""

    until: float
    since: float
    principal: Principal


class KeyRing:
    """Resolves API keys, with a bounded cache of half a second.

    Beyond that it remembers which keys were found good, for calls that are held while the database is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: OrderedDict[bytes, _Remembered] = OrderedDict()
        # Who guesses keys must not take the connections of those who have one.
        self._lookups = asyncio.Semaphore(LOOKUPS_MAX)
        self._guesses = asyncio.Semaphore(UNKNOWN_LOOKUPS_MAX)
        self._guesses_waiting = 0

    async def resolve(self, secret: str) -> Principal:
        """Return the principal of a key.

        Raises:
            Unauthenticated: the key is unknown, expired or revoked.
            DatabaseUnavailable: it cannot be looked up now.
            Overloaded: too many keys that were not found good before wait to be looked up.
        """
        hashed = digest(secret)
        principal = self._remembered(hashed)
        if principal is not None:
            return principal
        if hashed in self._cache:
            async with self._lookups:
                # Whoever waited for the same key finds it now.
                return self._remembered(hashed) or await self._fresh(hashed)
        if self._guesses_waiting >= UNKNOWN_LOOKUPS_WAITING_MAX:
            raise Overloaded(
                f"{UNKNOWN_LOOKUPS_WAITING_MAX} keys that are new here wait to be looked up; repeat the same request",
                retry_after_ms=1000,
                limit=UNKNOWN_LOOKUPS_WAITING_MAX,
            )
        self._guesses_waiting += 1
        try:
            async with self._guesses:
                return self._remembered(hashed) or await self._fresh(hashed)
        finally:
            self._guesses_waiting -= 1

    async def resolve_or_recall(self, secret: str, seconds_max: float) -> tuple[Principal, bool]:
        """Return the principal of a key, and whether it was looked up.

        While the database is away a key counts that was found good a while ago. Who acts on that has to look it up
        again, by `state`, before anything comes of it.

        Args:
            secret: the key.
            seconds_max: how long ago at most.

        Raises:
            Unauthenticated: the key is unknown, expired or revoked.
            DatabaseUnavailable: it cannot be looked up now, and was not found good before.
        """
        # What is known to be away is not waited for.
        if not self._database.conditions.database_gone:
            try:
                return await self.resolve(secret), True
            except DatabaseUnavailable:
                pass
        principal = self._remembered(digest(secret))
        if principal is not None:
            return principal, True
        return self._recalled(digest(secret), seconds_max), False

    def _recalled(self, hashed: bytes, seconds_max: float) -> Principal:
        held = self._cache.get(hashed)
        if held is None or time.monotonic() - held.since > seconds_max:
            raise DatabaseUnavailable(
                "the database is unavailable, and this key was not used here a short while ago; repeat the same "
                "request: nothing is done twice",
                retry_after_ms=1000,
            )
        expires_at = held.principal.expires_at
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise _expired()
        return held.principal

    def _remembered(self, hashed: bytes) -> Principal | None:
        held = self._cache.get(hashed)
        return held.principal if held is not None and held.until > time.monotonic() else None

    async def _fresh(self, hashed: bytes) -> Principal:
        # From before it is looked up: it may be revoked while the answer is on its way.
        began = time.monotonic()
        try:
            principal = await self._load(hashed)
        except Unauthenticated:
            self._cache.pop(hashed, None)
            raise
        keep_s = CACHE_SECONDS
        if principal.expires_at is not None:
            # One that ends sooner is not remembered beyond its end.
            keep_s = min(keep_s, (principal.expires_at - datetime.now(UTC)).total_seconds())
        self._cache[hashed] = _Remembered(began + keep_s, began, principal)
        self._cache.move_to_end(hashed)
        while len(self._cache) > CACHE_ENTRIES_MAX:
            self._cache.popitem(last=False)
        return principal

    def forget(self) -> None:
        """Empty the cache: what was revoked stops to work at once."""
        self._cache.clear()

    async def state(self, key_sha256: bytes) -> KeyState | None:
        """Look a key up by its digest; None when there is none.

        Raises:
            DatabaseUnavailable: it cannot be looked up now.
        """
        async with self._database.session() as session:
            (found,) = await session.run(Call(_RESOLVE, {"secret_sha256": key_sha256}))
            row = found.first()
        if row is None or row.key_id is None:
            return None
        return KeyState(
            row.tenant_id, row.key_id, frozenset(row.scopes), row.revoked_at, row.expires_at
        )

    async def _load(self, hashed: bytes) -> Principal:
        row = await self.state(hashed)
        if row is None:
            raise refusal(
                "unknown_key", "the API key is unknown; create one with `tollmesh keys create`"
            )
        if row.revoked_at is not None:
            raise refusal(
                "revoked_key",
                "the API key, or the key it was created with, was revoked; use another",
            )
        if row.expires_at is not None and row.expires_at <= datetime.now(UTC):
            raise _expired()
        return Principal(row.tenant_id, row.key_id, row.scopes, expires_at=row.expires_at)


def _expired() -> Unauthenticated:
    return refusal("expired_key", "the API key has expired; create a new one")


def refusal(cause: str, message: str) -> Unauthenticated:
    """Build the refusal of a credential; the message never repeats the credential."""
    return Unauthenticated(message, cause=cause)


class MeshTokens:
    """Signs and checks the tokens that services show one another."""

    def __init__(self, secret: str) -> None:
        if len(secret) < 32:
            raise ValueError("the mesh secret needs at least 32 characters")
        self._secret = secret
        # Those that were found good, and until when they are: in seconds since 1970.
        self._good: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    def issue(self, principal: Principal) -> str:
        """Sign a token of sixty seconds, with the scopes of `principal` and no others."""
        now = int(time.time())
        claims = {
            "aud": MESH_AUDIENCE,
            "sub": principal.principal_id,
            "tenant": principal.tenant_id,
            "scopes": sorted(principal.scopes),
            "correlation": principal.correlation_id,
            "causation": principal.causation_id,
            "iat": now,
            "exp": now + MESH_TOKEN_SECONDS,
        }
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def resolve(self, token: str) -> Principal:
        """Return the principal of a token.

        Raises:
            Unauthenticated: the token is forged, expired, not for the mesh, lives too long or says what none of ours
                says.
        """
        until, principal = self._good.get(token, (0.0, None))
        if principal is not None and time.time() < until:
            return principal
        until, principal = self._checked(token)
        self._good[token] = (until, principal)
        while len(self._good) > TOKENS_REMEMBERED_MAX:
            self._good.popitem(last=False)
        return principal

    def _checked(self, token: str) -> tuple[float, Principal]:
        """Return the principal of a token, and until when it is good."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                audience=MESH_AUDIENCE,
                leeway=MESH_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "sub", "tenant", "scopes"]},
            )
        # Numbers beyond those of a clock, and what nests too deeply, fail as they like.
        except (jwt.InvalidTokenError, ValueError, ArithmeticError, RecursionError) as error:
            raise refusal(
                "mesh_token", "the mesh token is not valid; all services need the same mesh secret"
            ) from error
        principal = _principal_of(claims)
        return claims["exp"] + MESH_LEEWAY_SECONDS, principal


def _principal_of(claims: Mapping[str, Any]) -> Principal:
    """Read the claims of a token whose signature is good."""
    if not claims.keys() <= _CLAIMS:
        raise _odd("it has claims that ours have not")
    if claims["aud"] != MESH_AUDIENCE:  # a list of audiences that names it among others
        raise _odd(f"aud must be {MESH_AUDIENCE!r} alone")
    issued_at, expires_at = claims["iat"], claims["exp"]
    if type(issued_at) is not int or type(expires_at) is not int:
        raise _odd("iat and exp must be whole seconds")
    if not 0 < expires_at - issued_at <= MESH_TOKEN_SECONDS_MAX:
        raise _odd(f"it must not be valid for more than {MESH_TOKEN_SECONDS_MAX} seconds")
    tenant_id, principal_id, scopes = claims["tenant"], claims["sub"], claims["scopes"]
    if not isinstance(tenant_id, str) or not _TENANT.fullmatch(tenant_id):
        raise _odd("tenant is empty")
    if not _is_text(principal_id) or not principal_id:
        raise _odd("sub is empty")
    if (
        not isinstance(scopes, list)
        or len(scopes) > _SCOPES_MAX
        or not all(_is_text(scope) for scope in scopes)
    ):
        raise _odd("scopes must be a list of strings")
    correlation_id, causation_id = claims.get("correlation", ""), claims.get("causation", "")
    if not _is_text(correlation_id) or not _is_text(causation_id):
        raise _odd("correlation and causation must be strings")
    return Principal(tenant_id, principal_id, frozenset(scopes), correlation_id, causation_id)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _TEXT_MAX and value.isprintable()


def _odd(rule: str) -> Unauthenticated:
    return refusal("mesh_token", f"the mesh token is malformed: {rule}")

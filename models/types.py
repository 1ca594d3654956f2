"""How values are kept: UTC times, enumerations by value, and secrets as ciphertext.

The only place that encrypts at rest. Holds no table and sends no query.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from pydantic import SecretStr
from sqlalchemy import DateTime, Dialect, String, types

FORMAT = 1
NONCE_BYTES = 12
COUNTING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")

E = TypeVar("E", bound=StrEnum)


def utc_now() -> datetime:
    """The present moment, aware, UTC."""
    return datetime.now(UTC)


def steady() -> float:
    """Seconds by a clock that only counts: nobody sets it, and it goes on while the machine sleeps."""
    return time.clock_gettime(COUNTING)


class UtcDateTime(types.TypeDecorator[datetime]):
    """An aware UTC moment; SQLite keeps it naive and gives it back aware."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive moments: nobody can tell which zone they mean."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give every moment back as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(types.TypeDecorator[E]):
    """A StrEnum stored by its value, so that renaming a member in Python changes no row."""

    impl = String(40)
    cache_ok = True

    def __init__(self, enum: type[E]) -> None:
        """Store members of `enum`."""
        super().__init__()
        self.enum = enum
        self._members = {member.value: member for member in enum}
        self._values = {member: member.value for member in enum}

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Store the member's value; anything outside the enumeration raises ValueError."""
        return None if value is None else self._values.get(value) or self.enum(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        """Read the member back."""
        return None if value is None else self._members.get(value) or self.enum(value)


class KeyringProblem(Exception):
    """The key ring cannot be used; the message is one plain sentence without any key material."""


@dataclass(frozen=True)
class Place:
    """Where a secret lives; the ciphertext opens nowhere else."""

    workspace_id: uuid.UUID
    table: str
    row_id: uuid.UUID
    field: str

    @property
    def words(self) -> str:
        """What lives there, as people call it."""
        return _CALLED.get((self.table, self.field), ANY_SECRET)

    def associated_data(self, key_id: str) -> bytes:
        """What authenticated encryption binds the ciphertext to, unambiguous by its separator."""
        parts = (str(self.workspace_id), self.table, str(self.row_id), self.field, key_id)
        return "\x1f".join(parts).encode()


ANY_SECRET = "a stored secret"
_CALLED = {
    ("client_secrets", "value"): "the client secret",
    ("tokens", "access_token"): "the access token",
    ("tokens", "refresh_token"): "the refresh token",
    ("refreshes", "raw_reply"): "the kept reply",
    ("authorization_attempts", "state_data"): "what was kept for the provider's answer",
    ("authorization_attempts", "callback"): "the provider's answer",
    ("cards", "authorization_header"): "the Authorization header",
    ("card_headers", "value"): "the value of a header",
    ("previews", "html"): "the preview",
}


class Undecryptable(Exception):
    """A stored secret was tampered with, moved to another row, or its key is gone. Carries no value."""

    def __init__(self, reason: str, place: Place | None = None) -> None:
        """`reason` without its subject, such as "is damaged"; `place` says which secret it is."""
        super().__init__(f"{ANY_SECRET} {reason}")
        self._sentence = f"{place.words if place else ANY_SECRET} {reason}."

    @property
    def sentence(self) -> str:
        """The reason as a sentence of its own, which names the secret."""
        return f"{self._sentence[:1].upper()}{self._sentence[1:]}"


class Keyring:
    """Keys for stored secrets: the first encrypts, every one decrypts.

    AES-256-GCM-SIV (RFC 8452), so that a repeated random nonce gives away equality and nothing else.
    Stored form: one byte format, one byte length of the key id, key id, 12 bytes nonce, ciphertext with tag.
    """

    def __init__(self, keys: Iterable[tuple[str, bytes]]) -> None:
        """`keys` are (id, 32 bytes) in order. Raises KeyringProblem when unusable."""
        pairs = list(keys)
        if not pairs:
            raise KeyringProblem("CARDKEY_ENCRYPTION_KEYS is missing: it needs at least one id:base64 key.")
        if len({key_id for key_id, _ in pairs}) < len(pairs) or len({key for _, key in pairs}) < len(pairs):
            raise KeyringProblem("CARDKEY_ENCRYPTION_KEYS names the same id or the same key twice.")
        for key_id, key in pairs:
            _check_key(key_id, key)
        self.current_id = pairs[0][0]
        self._raw = dict(pairs)
        self._ciphers = {key_id: AESGCMSIV(key) for key_id, key in pairs}
        self._fingerprints = hmac.new(hashlib.sha256(b"fingerprint" + pairs[0][1]).digest(), digestmod="sha256")

    @classmethod
    def parse(cls, text: SecretStr) -> Keyring:
        """Read `id:base64,id:base64`. Raises KeyringProblem."""
        keys: list[tuple[str, bytes]] = []
        for entry in filter(None, (part.strip() for part in text.get_secret_value().split(","))):
            key_id, colon, encoded = entry.partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                key = b""
            if not colon or not key:
                raise KeyringProblem("CARDKEY_ENCRYPTION_KEYS must read id:base64, separated by commas.")
            keys.append((key_id, key))
        return cls(keys)

    @property
    def ids(self) -> tuple[str, ...]:
        """Key ids, the encrypting one first."""
        return tuple(self._ciphers)

    def holds(self, secret: str) -> bool:
        """Whether `secret` is one of the keys, raw or in base64: a key must not serve two purposes."""
        return any(secret in (base64.b64encode(key).decode(), key.hex()) for key in self._raw.values())

    def fingerprint(self, value: SecretStr) -> str:
        """Keyed hash (HMAC-SHA-256, 128 bits in hex): tells two secrets apart and gives nothing away."""
        # A copy, since hmac.digest lets other threads run each time, and is waited for by a drain's thread each time.
        mac = self._fingerprints.copy()
        mac.update(value.get_secret_value().encode())
        return mac.hexdigest()[:32]

    def encrypt(self, value: SecretStr, place: Place, nonce: bytes | None = None) -> bytes:
        """Ciphertext of `value`, bound to `place`; `nonce` is one of `nonces`, for whoever seals many."""
        nonce = nonce or os.urandom(NONCE_BYTES)
        data = value.get_secret_value().encode()
        key_id = self.current_id
        sealed = self._ciphers[key_id].encrypt(nonce, data, place.associated_data(key_id))
        return bytes((FORMAT, len(key_id))) + key_id.encode() + nonce + sealed

    def decrypt(self, sealed: bytes, place: Place) -> SecretStr:
        """The value stored at `place`. Raises Undecryptable."""
        key_id = key_id_of(sealed, place)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise Undecryptable(f"needs the key '{key_id}', which is not in CARDKEY_ENCRYPTION_KEYS", place)
        rest = sealed[2 + len(key_id) :]
        try:
            data = cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], place.associated_data(key_id))
        except (InvalidTag, ValueError):
            raise Undecryptable("was altered or belongs to another row", place) from None
        return SecretStr(data.decode())


def nonces(count: int) -> Iterator[bytes]:
    """So many random nonces, drawn at once: a call of the system for each lets other threads run each time."""
    drawn = os.urandom(NONCE_BYTES * count)
    return (drawn[place : place + NONCE_BYTES] for place in range(0, len(drawn), NONCE_BYTES))


def key_id_of(sealed: bytes, place: Place | None = None) -> str:
    """Id of the key that encrypted `sealed`. Raises Undecryptable for anything not in the stored form."""
    if len(sealed) < 2 or sealed[0] != FORMAT or len(sealed) < 2 + sealed[1] + NONCE_BYTES + 16:
        raise Undecryptable("is damaged", place)
    key_id = sealed[2 : 2 + sealed[1]].decode("ascii", "replace")
    return key_id if KEY_ID.fullmatch(key_id) else "?"


def _check_key(key_id: str, key: bytes) -> None:
    if not KEY_ID.fullmatch(key_id):
        raise KeyringProblem("A key id in CARDKEY_ENCRYPTION_KEYS may hold letters, digits, - and _ only.")
    if len(key) != 32:
        raise KeyringProblem(f"The key '{key_id}' in CARDKEY_ENCRYPTION_KEYS must be 32 bytes long in base64.")
    if not _looks_random(key):
        raise KeyringProblem(
            f"The key '{key_id}' in CARDKEY_ENCRYPTION_KEYS repeats itself or was typed; it has to be random."
        )


def _looks_random(key: bytes) -> bool:
    """Whether 32 bytes are not plainly made by hand; a random key fails once in 10¹³."""
    repeats = any(key == key[:length] * (len(key) // length) for length in (1, 2, 4, 8, 16))
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    typed = all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in key)
    return len(set(key)) >= 8 and len(steps) > 1 and not repeats and not typed

"""Password hashing and the rules for new passwords."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

SHORTEST = 12
LONGEST = 200
TELLING = 5
"""From how many characters on the name in an e-mail address gives a password away."""

_hasher = PasswordHasher()  # argon2id with the library's present parameters (RFC 9106, low memory)
_NOBODY = _hasher.hash("nobody has this password")


def hash_password(password: str) -> str:
    """argon2id hash with its parameters."""
    return _hasher.hash(password)


def matches(password_hash: str | None, password: str) -> bool:
    """Whether the password is right; takes as long when there is no such person."""
    try:
        return _hasher.verify(password_hash or _NOBODY, password) and password_hash is not None
    except (VerifyMismatchError, InvalidHashError):
        return False


def needs_new_hash(password_hash: str) -> bool:
    """Whether the hash was made with older parameters."""
    return _hasher.check_needs_rehash(password_hash)


def weakness(password: str, email: str = "") -> str:
    """Why a new password is refused, in words; empty when it is fine."""
    if len(password) < SHORTEST:
        return f"Use at least {SHORTEST} characters; a few words in a row work well."
    if len(password) > LONGEST:
        return f"Use at most {LONGEST} characters."
    if len(set(password)) < 5:
        return "This repeats the same few characters; use something longer to guess."
    name = email.partition("@")[0]
    if len(name) >= TELLING and name in password.lower():
        return "Leave your e-mail address out of the password."
    return ""

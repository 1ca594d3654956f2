"""What may be a token nobody knows yet, in a provider's words: starred by its name, or by its look.

The words of an error stay readable: plain words, error numbers, times, addresses, scopes, and ids called so.
"""

from __future__ import annotations

import re

from oauth.scrub import STARS

LONGEST_PLAIN = 24
"""Characters without a blank that are shown only if they are plain words joined by signs."""
LONGEST_NUMBER = 7
LONGEST_ERROR_NUMBER = 10
LONGEST_CAPITALS = 15
SHORTEST_JOINED = 12
SHORTEST_MIXED = 6
SHORTEST_ODD = 8
"""Letters that have to look like words."""
NAMED_TOKEN = re.compile(r"""(?i)(?:access|refresh|id)[_-]?token(?:["'\\\]]|%22|&quot;)*\s*(?:[:=>]|%3[ad])""")
"""What a reply looks like that holds tokens, whatever it is written in."""

_NOUN = (
    r"token|secret|passw(?:or)?d|passwd|passphrase|assertion|verifier|credential|authorization|signature|jwt|bearer"
    r"|cookie|session|key|code"
)
_NAMED = re.compile(
    rf"""(?ix)
    (?P<name> {_NOUN} ) s?
    (?: (?P<sign> (?: [\\"'\]`]|&quot;|%22 ){{0,4}} \s{{0,3}} (?: =>? | : | > | %3[ad] ) \s{{0,3}} )
      | \s{{1,3}} (?: (?: is | was | of | value ) \s{{1,3}} )? )
    (?P<quote> (?: [\\"'`(\[]|&quot;|%22 ){{0,4}} )
    (?P<scheme> (?: bearer | basic | token ) \s+ )?
    (?P<value> (?<=["']) [^"'<>\\]+ | [^\s"'<>,;&}}\])\\]+ )
    """
)
_WORD_BEFORE_CODE = re.compile(
    r"(?i)(?:error|status|response|http|sub|exit|reason|result|country|language|state|failure|event)[ _-]?$"
)
_NOT_JUST_BEFORE = re.compile(r"[A-Za-z]$")
"""A monkey is no key."""
_NOTHING = frozenset({"", "null", "none", "nil", "undefined", "true", "false", STARS})
_ADDRESS = r"[a-z][a-z0-9+.-]{1,9}://[^\s\"'<>]+"
_PIECE = re.compile(rf"(?P<address>{_ADDRESS})|[^\s\"'<>,;()\[\]{{}}|`•…=&?]+", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"[^/?#&=:@]+")
_CHUNK = re.compile(r"[^\W_]+")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_HARMLESS = re.compile(
    r"""(?ix)
    (?: AADSTS | AADB2C | IDX | MSIS | ORA | CAS | SQL | ERR | ERROR | HTTP | E ) [-_]? [0-9]{2,9}
    | (?: oauth | http | tls | ssl | utf | sha | md | rfc | base | ipv | iso | x | v ) -? [0-9]{1,5}
        (?: \.[0-9]{1,3} ){0,3}
    | (?: es | hs | ps | rs | s ) (?: 256 | 384 | 512 )
    | [0-9]{4}-[0-9]{2}-[0-9]{2} (?: T [0-9:.]{5,16} (?: z | [+-][0-9:]{2,6} )? )?
    | [0-9]{1,2}:[0-9]{2} (?: :[0-9]{2} (?: [.,][0-9]{1,9} )? )? z?
    | 1[5-9][0-9]{8} (?: [0-9]{3} )?
    | [0-9]{1,3} (?: \.[0-9]{1,3} ){3} (?: : [0-9]{1,5} )?
    """
)
_ID_BEFORE = re.compile(
    r"""(?ix)
    (?: \b (?: trace | correlation | request | req | client | tenant | app | application | directory | event | error
        | log | incident | transaction | ray | object | resource | principal | support | reference | debug | fbtrace )
        [ _-]? (?: id | identifier )
      | \b (?<! [_-] ) (?: id | identifier )
      | \b (?: trace | correlation | tenant | application | app | directory | resource | reference | incident ) )
    ["'\\]{0,3} \s{0,2} (?: is | [:=\#] )? \s{0,2} [\\"'(]{0,3} $
    """
)
_ID_OF_A_SECRET = re.compile(r"(?i)(?:token|session|secret|cookie|grant)[ _-]?(?:id|identifier)[^a-z]{0,8}$")
_ERROR_NUMBER_BEFORE = re.compile(r"(?i)error[ _-]?(?:sub)?code[^a-z]{0,4}$")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def star_tokens(text: str) -> str:
    """`text`, in one line, with whatever may be a token starred."""
    return _PIECE.sub(_piece, _NAMED.sub(_value, text))


def _value(match: re.Match[str]) -> str:
    """What stands behind a name: after a sign anything but nothing, in a sentence all but plain words and numbers."""
    before, value = match.string[max(0, match.start() - 12) : match.start()], match["value"]
    name = match["name"].lower()
    if name == "code" and _WORD_BEFORE_CODE.search(before):
        return match[0]
    if name in ("key", "code", "session", "cookie") and match["name"][0].islower() and _NOT_JUST_BEFORE.search(before):
        return match[0]
    sign = (match["sign"] or "").strip()
    strict = bool(sign) and (sign != ":" or bool(match["quote"]))
    scheme = name == "bearer" and not value.islower()
    if value.lower().strip(".!") in _NOTHING or (not strict and not scheme and _is_plain(value)):
        return match[0]
    end = match.start("value") - match.start()
    return f"{match[0][:end]}{STARS}"


def _piece(match: re.Match[str]) -> str:
    if match["address"]:
        return _IN_ADDRESS.sub(lambda part: part[0] if _is_plain(part[0]) else STARS, match[0])
    if _is_plain(match[0]) or _is_id(match):
        return match[0]
    return STARS


def _is_id(match: re.Match[str]) -> bool:
    """Whether the words before call it the id of something that is no secret."""
    before = match.string[max(0, match.start() - 40) : match.start()]
    if match[0].isdecimal() and len(match[0]) <= LONGEST_ERROR_NUMBER and _ERROR_NUMBER_BEFORE.search(before):
        return True
    return bool(_ID.fullmatch(match[0].rstrip(".:"))) and bool(
        _ID_BEFORE.search(before) and not _ID_OF_A_SECRET.search(before)
    )


def _is_plain(piece: str) -> bool:
    """Whether something without blanks is made of words, short numbers, and what is known to be harmless."""
    core = piece.strip(".:!*-")
    if _HARMLESS.fullmatch(core):
        return True
    chunks = _CHUNK.findall(core)
    mixed = sum(_is_mixed(chunk) and len(chunk) > 2 for chunk in chunks)
    if mixed > 1 and len(core) >= SHORTEST_ODD:
        return False
    if len(core) >= SHORTEST_JOINED and any(chunk.isdecimal() and len(chunk) > 4 for chunk in chunks):
        return all(chunk.isdecimal() for chunk in chunks) and sum(map(len, chunks)) <= LONGEST_NUMBER
    return all(_is_plain_chunk(chunk, len(core)) for chunk in chunks)


def _is_plain_chunk(chunk: str, size: int) -> bool:
    """A word, a short number, or a little of both: `size` is that of all it is part of."""
    if _HARMLESS.fullmatch(chunk):
        return True
    if chunk.isdecimal():
        return len(chunk) <= LONGEST_NUMBER
    if _is_mixed(chunk):
        return len(chunk) < SHORTEST_MIXED and size < LONGEST_PLAIN
    return not chunk.isascii() or _is_wordlike(chunk)


def _is_mixed(chunk: str) -> bool:
    return any(letter.isdigit() for letter in chunk) and not chunk.isdecimal()


def _is_wordlike(letters: str) -> bool:
    """Whether letters look like words: not too long, with vowels, and in capitals where words begin."""
    if len(letters) < SHORTEST_ODD:
        return True
    words = _WORDS.findall(letters)
    if len(words) > 1 and len(letters) < len(words) * 3.4:
        return False
    if letters.isupper() and len(letters) > LONGEST_CAPITALS:
        return False
    return _has_vowels(letters.lower()) and all(_can_be_spoken(word.lower()) for word in words)


def _can_be_spoken(word: str) -> bool:
    if len(word) > LONGEST_PLAIN or re.search("[bcdfghjklmnpqrstvwxz]{6}", word):
        return False
    return len(word) < 5 or any(letter in "aeiouy" for letter in word)


def _has_vowels(letters: str) -> bool:
    """Enough of them for something long; a short word may do with few."""
    return len(letters) < SHORTEST_JOINED or sum(letter in "aeiouy" for letter in letters) * 4 >= len(letters)

"""Reading an API's reply: text to JSON that can be shown, stored and given to a template. Sends nothing."""

from __future__ import annotations

import json
import re

import outbound
from oauth.scrub import NOTHING, STARS, Hidden, star

DEEPEST = 100
"""Levels of nesting beyond which nobody reads a reply."""
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
CHARSETS = frozenset("us-ascii iso-8859-1 iso-8859-15 windows-1252 utf-16 utf-16le utf-16be".split())
"""The few besides UTF-8 that APIs use. Python knows others that are slow or raise; the reply may not choose those."""
MESSAGES = ("error_description", "message", "detail", "title", "error")
LONGEST_SAID = 600


class NotJson(ValueError):
    """The reply is no JSON that can be used; the message says why."""


def text_of(reply: outbound.Reply) -> str:
    """The body as text, without characters that cannot be stored."""
    charset = (reply.charset or "").lower()
    return storable(reply.body.decode(charset if charset in CHARSETS else "utf-8-sig", "replace"))


def json_of(text: str, hidden: Hidden) -> object:
    """The JSON value in `text`, `hidden` starred in it; None for an empty text. Raises NotJson.

    Starred here and not in the text, where an escape would hide a secret and a star could break the JSON.
    """
    if not text.strip():
        return None
    try:
        value = _clean(json.loads(text, parse_constant=_refuse_constant), NOTHING, DEEPEST)
    except RecursionError:
        raise NotJson("The reply is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"The reply is not JSON: {error.msg} in line {error.lineno}.") from None
    except ValueError as error:
        raise NotJson(f"The reply is not usable JSON: {error}.") from None
    return _clean(value, hidden, DEEPEST) if hidden.places(json.dumps(value, ensure_ascii=False)) else value


def said_in(data: object, text: str) -> str:
    """What an API says about its refusal: its message where it has one, else the beginning of the body."""
    found = [data.get(name) for name in MESSAGES] if isinstance(data, dict) else []
    words = next((item for item in found if isinstance(item, str) and item.strip()), "")
    return (words or ("" if text.lstrip().startswith("<") else text))[:LONGEST_SAID]


def storable(text: str) -> str:
    """`text` with what no database holds replaced."""
    return UNSTORABLE.sub("\ufffd", text)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _clean(value: object, hidden: Hidden, levels: int) -> object:
    if levels == 0:
        raise RecursionError
    if isinstance(value, str):
        return star(storable(value), hidden)
    if isinstance(value, dict):
        return {star(storable(name), hidden): _clean(item, hidden, levels - 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, hidden, levels - 1) for item in value]
    if hidden and value is not None and not isinstance(value, bool) and star(str(value), hidden) != str(value):
        return STARS
    return value

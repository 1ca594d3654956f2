"""The document a card is shown in: its own page with its own policy, inside a sandboxed frame."""

from __future__ import annotations

FRAME_CSP = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
"""No scripts, no network, no navigation out of the box (RN-01, RN-06); styles are the card's own."""
_DEAD_LINKS = '<base target="_blank">'
"""A link opens a window, which the sandbox forbids: so a click does nothing, instead of losing the card.

Links that name the frame itself are stopped by the page around it; the style spares a click on them.
"""

_STYLE = (
    ":root{color-scheme:light dark}body{margin:0;padding:16px;font:14px/1.5 system-ui,sans-serif;"
    "overflow-wrap:break-word}h1,h2,h3{line-height:1.25;margin:0 0 8px}h2{font-size:1.15em}"
    "table+h2,ul+h2{margin-top:20px}table{border-collapse:collapse;width:100%}"
    "td,th{padding:6px 8px;text-align:left;vertical-align:top;border-bottom:1px solid #8884}"
    "p,ul,ol{margin:0 0 8px}img{max-width:100%}[target=_self i]{pointer-events:none}"
)


def document(card_html: str) -> str:
    """A whole page around a card's HTML, which may hold anything: the policy, not the text, keeps it in."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width">{_DEAD_LINKS}<title>Card</title><style>{_STYLE}</style></head><body>{card_html}</body></html>'
    )

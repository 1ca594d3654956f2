"""Trying a card: the real call, its reply rendered, and all of it made fit to be shown. Secrets leave as stars."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import SecretStr
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from models import CardPreview, User, keyring_of
from models.types import Undecryptable
from oauth.scrub import scrub, star_page
from rendering import frame
from rendering.liquid import RenderFailure
from rendering.table import table
from services import preview_tree
from services.calling import call_plans, calls
from services.calling.call_failures import CallFailure, Problem, Step
from services.calling.call_plans import Plan
from services.calling.calls import Call
from services.preview_tree import Tree
from services.resources import Resources

LONGEST_TEXT = 64 * 1024
INTERESTING = (
    "content-type content-length date retry-after www-authenticate link etag x-request-id request-id "
    "ratelimit-limit ratelimit-remaining ratelimit-reset x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset"
).split()
NO_TEMPLATE = "Template content is empty, so the reply is shown as a plain table."
EMPTY_CARD = (
    "The template showed nothing of this reply. If that is not meant, compare the names in it with those of the reply."
)
SHOWS = re.compile(r"<(?:img|svg|picture|hr|meter|progress|audio|video)\b|\bstyle=|>[^<]*[^<\s]|^[^<]*[^<\s]")
"""Whether HTML shows anything: text, or an element that shows without."""
NO_CONTENT = "The API answered without any content."


@dataclass(frozen=True)
class Body:
    """The reply's body: a tree where it is JSON, its text where it is not."""

    tree: Tree | None
    text: str
    note: str
    size: int
    """Bytes, after decompression."""


@dataclass(frozen=True)
class Preview:
    """Everything the preview shows; nothing in it is secret."""

    frame_id: uuid.UUID | None = None
    status: int | None = None
    elapsed_ms: int | None = None
    request: calls.Request | None = None
    reply_headers: tuple[tuple[str, str], ...] = ()
    body: Body | None = None
    notes: tuple[str, ...] = ()
    failure: CallFailure | None = None

    def without_details(self) -> Preview:
        """For those who may see the card and not how it is made: no request, no reply, nobody's raw words."""
        failure = self.failure.without_details() if self.failure else None
        return replace(self, request=None, reply_headers=(), body=None, failure=failure)


def run(
    resources: Resources, card_id: uuid.UUID, user: User, values: Mapping[str, str], template: str | None = None
) -> Preview:
    """Call the card's API with the sample `values` and render the reply.

    `template` is one that is not saved, for whoever may change the card; None takes the saved one.
    Raises NotFound for a card that is gone; every other failure is part of what is returned.
    """
    try:
        plan = call_plans.load(resources, card_id)
        with calls.slot(resources, plan.card.workspace_id, card_id):
            return _run(resources, plan, user, values, plan.card.template_content if template is None else template)
    except CallFailure as failure:
        return Preview(failure=failure)


def document(session: Session, row: CardPreview) -> str | None:
    """The rendered card as a page for its frame; None when it is gone or cannot be read any more."""
    try:
        html = row.unseal("html", keyring_of(session))
    except Undecryptable:
        return None
    return frame.document("" if html is None else html.get_secret_value())


def _run(resources: Resources, plan: Plan, user: User, values: Mapping[str, str], template: str) -> Preview:
    made = calls.call(resources, plan, values)
    frame_id, failure, notes = None, made.failure, list(made.notes)
    if failure is None:
        if not made.is_json:
            notes.append(NO_CONTENT)
        if not template.strip():
            notes.append(NO_TEMPLATE)
        try:
            html = star_page(_render(resources, template, made.data), made.hidden)
            frame_id = _keep(resources, plan, user, html)
            if not SHOWS.search(html):
                notes.append(EMPTY_CARD)
        except CallFailure as problem:
            failure = problem
    return Preview(
        frame_id=frame_id,
        status=made.reply.status if made.reply else None,
        elapsed_ms=round(made.reply.elapsed * 1000) if made.reply else None,
        request=made.request,
        reply_headers=_headers(made),
        body=_body(made),
        notes=tuple(notes),
        failure=failure,
    )


def _render(resources: Resources, template: str, data: object) -> str:
    """HTML that can be stored. Raises CallFailure."""
    if not template.strip():
        return table(data)
    try:
        html = resources.renderer.render(template, data)
    except RenderFailure as failure:
        raise CallFailure(Step.TEMPLATE, Problem.TEMPLATE, str(failure)) from None
    return html.encode("utf-8", "replace").decode()


def _keep(resources: Resources, plan: Plan, user: User, html: str) -> uuid.UUID:
    """Store the rendered card for its frame, in place of the person's older one. Raises CallFailure."""
    card = plan.card
    row = CardPreview(workspace_id=card.workspace_id, card_id=card.id, user_id=user.id)
    older = delete(CardPreview).where(col(CardPreview.card_id) == card.id, col(CardPreview.user_id) == user.id)
    with resources.database.session(writing=True) as session:
        row.seal("html", SecretStr(html), keyring_of(session))
        session.execute(older)
        session.add(row)
        try:
            session.commit()
        except IntegrityError:
            raise CallFailure(Step.TEMPLATE, Problem.CARD_GONE, "The card was deleted in the meantime.") from None
    return row.id


def _headers(made: Call) -> tuple[tuple[str, str], ...]:
    """Response headers that help; cookies and unknown ones stay out."""
    if made.reply is None:
        return ()
    found, hidden = [(name, made.reply.headers.get(name)) for name in INTERESTING], made.hidden
    return tuple((name, scrub(value, hidden, 500)) for name, value in found if value)


def _body(made: Call) -> Body | None:
    if made.reply is None:
        return None
    size = len(made.reply.body)
    if made.is_json:
        shown = preview_tree.tree(made.data)
        return Body(shown, "", shown.note, size)
    if not made.text.strip():
        return Body(None, "", "The reply is empty.", size)
    left_out = len(made.text) - LONGEST_TEXT
    cut = f" {left_out:,} more characters are left out here." if left_out > 0 else ""
    return Body(None, made.text[:LONGEST_TEXT], f"This is not JSON, so it is shown as it came.{cut}", size)

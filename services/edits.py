"""One edit of a workspace's cards and connections at a time.

What an edit checks (names, versions, where a secret may go) then still holds when it is written, and edits
that touch the same rows in another order cannot lock each other out. Reading and refreshing go on meanwhile.
"""

from __future__ import annotations

import uuid

from sqlmodel import Session, select

from models import Workspace

WITHOUT_KEY = {"key_share": True}
"""`with_for_update` for a row that others refer to: their inserts need not wait. SQLite has one writer anyhow."""


def wait(session: Session, workspace_id: uuid.UUID) -> None:
    """Until the commit no other edit goes on. Rows read before may be out of date by now."""
    session.exec(select(Workspace.id).where(Workspace.id == workspace_id).with_for_update(key_share=True)).one()

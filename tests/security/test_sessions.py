"""WB-02, WB-03, MT-07: cookies, sessions that end, rights that end at once."""

from datetime import timedelta

import pytest

from models import Membership, Role, UserSession
from models.types import utc_now
from services.audit import Actor
from services.people import members

pytestmark = pytest.mark.sqlite_only


def sign_in(client, world):
    return client.post_form("/login", {"email": "alice@acme.example", "password": world.password})


def session_cookie(answer, name):
    return next(value for value in answer.headers.getlist("Set-Cookie") if value.startswith(f"{name}="))


def change_session(world, **columns):
    with world.resources.database.session(writing=True) as session:
        for known in world.all(UserSession):
            row = session.get_one(UserSession, known.id)
            for name, value in columns.items():
                setattr(row, name, value)
            session.add(row)
        session.commit()


def test_the_cookie_without_tls_is_lax_and_out_of_reach_of_scripts(app, world):
    cookie = session_cookie(sign_in(app.test_client(), world), "cardkey")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert "Domain" not in cookie
    assert len(cookie) < 4096


def test_the_cookie_under_tls_is_secure_and_bound_to_the_host(settings_for, resources, world):
    from app import build
    from tests.support.browserless import Client

    portal = build(settings_for(public_url="https://cards.example.com"), resources)
    portal.test_client_class = Client
    cookie = session_cookie(sign_in(portal.test_client(), world), "__Host-cardkey")
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie


def test_signing_in_changes_the_session(app, world):
    client = app.test_client()
    client.get("/login")
    with client.session_transaction() as before:
        planted = dict(before, planted="by somebody else")
        before.update(planted)
    sign_in(client, world)
    with client.session_transaction() as after:
        assert "planted" not in after
        assert after["_user_id"] != planted.get("_user_id")


def test_a_cookie_kept_from_before_sign_out_is_worthless(app, world):
    client = app.test_client()
    sign_in(client, world)
    kept = client.get_cookie("cardkey", domain="127.0.0.1").value
    assert client.get("/settings").status_code == 200
    client.post_form("/logout")
    client.set_cookie("cardkey", kept, domain="127.0.0.1")
    assert client.get("/settings").status_code == 303


@pytest.mark.parametrize(
    "columns",
    [
        {"revoked_at": utc_now()},
        {"seen_at": utc_now() - timedelta(hours=12, seconds=5)},
        {"created_at": utc_now() - timedelta(days=14, seconds=5)},
    ],
    ids=["revoked", "idle", "too old"],
)
def test_a_session_ends(app, world, columns):
    alice = world.client(world.alice)
    assert alice.get("/settings").status_code == 200
    change_session(world, **columns)
    assert alice.get("/settings").status_code == 303
    assert alice.get("/settings", headers={"HX-Request": "true"}).status_code == 401


def test_using_a_session_keeps_it_from_idling_out(app, world):
    alice = world.client(world.alice)
    long_ago = utc_now() - timedelta(hours=11)
    change_session(world, seen_at=long_ago)
    assert alice.get("/settings").status_code == 200
    assert world.all(UserSession)[0].seen_at > utc_now() - timedelta(minutes=1)


def test_a_post_too_notes_that_the_session_is_used(app, world):
    alice = world.client(world.alice)
    change_session(world, seen_at=utc_now() - timedelta(hours=11))
    assert alice.post_form("/settings", {"time_zone": "UTC"}).status_code == 303
    assert world.all(UserSession)[0].seen_at > utc_now() - timedelta(minutes=1)


def test_a_new_password_ends_every_other_session(app, world):
    here, elsewhere = world.client(world.alice), world.client(world.alice)
    new = "a ladder of cherry wood"
    answer = here.post_form("/settings/password", {"present": world.password, "password": new})
    assert answer.status_code == 303
    assert here.get("/settings").status_code == 200
    assert elsewhere.get("/settings").status_code == 303
    old = app.test_client()
    assert sign_in(old, world).status_code == 422
    assert old.post_form("/login", {"email": "alice@acme.example", "password": new}).status_code == 303


def test_ending_other_sessions_keeps_this_one(app, world):
    here, elsewhere = world.client(world.alice), world.client(world.alice)
    assert here.post_form("/settings/sessions/end").status_code == 303
    assert elsewhere.get("/settings").status_code == 303
    assert here.get("/settings").status_code == 200


def test_nobody_ends_somebody_elses_session(app, world):
    alice, oscar = world.client(world.alice), world.client(world.oscar)
    theirs = world.all(UserSession, user_id=world.alice.id)[0]
    assert oscar.post_form(f"/settings/sessions/{theirs.id}/end").status_code == 404
    assert alice.get("/settings").status_code == 200


def test_removal_acts_with_the_next_request(app, world, resources):
    oscar = world.client(world.oscar)
    connection = world.connection()
    assert oscar.get(f"/connections/{connection.id}").status_code == 200
    with resources.database.session(writing=True) as session:
        members.remove(session, Actor.person(world.alice), world.acme.id, world.oscar.id)
    for path in (f"/connections/{connection.id}", "/connections", "/operations", "/cards"):
        assert oscar.get(path).status_code == 404, path
    assert oscar.post_form(f"/connections/{connection.id}/refresh").status_code == 404
    home = oscar.get("/")
    assert home.status_code == 200
    assert "You belong to no workspace" in home.text


def test_a_lower_role_acts_with_the_next_request(app, world, resources):
    world._add(Membership(workspace_id=world.acme.id, user_id=world.gus.id, role=Role.ADMIN))
    gus = world.client(world.gus)
    gus.post_form("/workspace", {"workspace_id": str(world.acme.id)})
    assert gus.get("/members").status_code == 200
    with resources.database.session(writing=True) as session:
        members.change_role(session, Actor.person(world.alice), world.acme.id, world.gus.id, Role.AGENT)
    for path in ("/members", "/audit", "/settings/workspace"):
        assert gus.get(path).status_code == 403, path
    assert gus.post_form("/members/invite", {"email": "x@y.example", "role": "admin"}).status_code == 403

"""Single-use links: once, for a while, for their purpose."""

from datetime import timedelta

import pytest
import time_machine

from models import LinkPurpose, SingleUseLink
from models.types import utc_now
from services.people import links
from tests.support.together import at_once


def make(resources, purpose=LinkPurpose.SETUP, **more):
    with resources.database.session(writing=True) as session:
        token = links.make(session, resources.settings, purpose, **more)
        session.commit()
    return token


def use(resources, token, purpose=LinkPurpose.SETUP):
    with resources.database.session(writing=True) as session:
        links.spend(session, links.find(session, purpose, token))
        session.commit()


def test_a_link_works_once(resources):
    token = make(resources)
    use(resources, token)
    with pytest.raises(links.LinkSpent):
        use(resources, token)


def test_of_many_who_use_a_link_at_once_one_succeeds(resources):
    token = make(resources)
    results = at_once(8, lambda _n: use(resources, token))
    assert results.count(None) == 1
    assert sum(isinstance(result, links.LinkSpent) for result in results) == 7


def test_a_link_works_only_for_its_purpose(resources):
    token = make(resources, LinkPurpose.INVITATION)
    with pytest.raises(links.LinkSpent):
        use(resources, token, LinkPurpose.PASSWORD)
    use(resources, token, LinkPurpose.INVITATION)


def test_a_link_ends_by_itself(resources):
    token = make(resources)
    ttl = timedelta(seconds=resources.settings.link_ttl)
    with time_machine.travel(utc_now() + ttl + timedelta(seconds=1), tick=False), pytest.raises(links.LinkSpent):
        use(resources, token)
    with time_machine.travel(utc_now() + ttl - timedelta(minutes=1), tick=False):
        use(resources, token)


def test_the_token_of_a_link_is_nowhere_in_the_database(resources, world):
    token = make(resources)
    (row,) = world.all(SingleUseLink)
    assert token not in repr(row.model_dump())
    assert len(token) >= 40


def test_a_link_that_never_was_reads_like_one_that_was_used(resources):
    with pytest.raises(links.LinkSpent) as absent:
        use(resources, "never made")
    token = make(resources)
    use(resources, token)
    with pytest.raises(links.LinkSpent) as spent:
        use(resources, token)
    assert str(absent.value) == str(spent.value)


def test_a_new_set_up_link_ends_the_one_before(session, settings):
    first = links.setup_token(session, settings)
    second = links.setup_token(session, settings)
    with pytest.raises(links.LinkSpent):
        links.find(session, LinkPurpose.SETUP, first)
    assert links.find(session, LinkPurpose.SETUP, second).used_at is None


def test_there_is_no_set_up_link_once_somebody_exists(session, settings, world):
    assert links.setup_token(session, settings) is None

"""The endpoint's record is the truth that the engine is held against, so it is held against something as well."""

import http.client
import json
import ssl
import time
from urllib.parse import urlencode

import pytest

from bench.endpoint import read_token, refresh_token
from bench.remote import Endpoint, make_certificate


@pytest.fixture
def endpoint(tmp_path):
    made = Endpoint(tmp_path)
    made.ask("grow", count=3)
    yield made
    made.close()


def ask(line, token):
    line.request("POST", "/token", urlencode({"grant_type": "refresh_token", "refresh_token": token}))
    reply = line.getresponse()
    return reply.status, json.loads(reply.read())


def test_a_refresh_token_is_good_for_one_use_and_every_use_is_recorded(endpoint):
    line = http.client.HTTPConnection(endpoint.host)
    status, reply = ask(line, refresh_token(1, 0))
    assert (status, read_token(reply["refresh_token"])) == (200, (1, 1))
    assert ask(line, refresh_token(1, 0)) == (400, {"error": "invalid_grant"})
    assert ask(line, refresh_token(7, 0))[0] == 400
    assert ask(line, reply["refresh_token"])[0] == 200
    uses = endpoint.uses()
    assert list(uses.counts) == [0, 2, 0]
    assert uses.arrived[1] == pytest.approx(time.time(), abs=5)
    stand = endpoint.stand()
    assert (stand["requests"], stand["refused"], stand["in_flight"]) == (4, 2, 0)
    line.close()


def test_replies_wait_as_long_as_they_are_told_to(endpoint):
    endpoint.ask("behave", latency=0.1)
    line = http.client.HTTPConnection(endpoint.host)
    began = time.monotonic()
    line.request("GET", "/api/customers/1")
    assert json.loads(line.getresponse().read())["customer"]["name"]
    assert 0.1 <= time.monotonic() - began < 2
    line.close()


def test_it_speaks_tls_with_a_certificate_of_an_authority_of_its_own(tmp_path):
    trusted, served = make_certificate(tmp_path)
    endpoint = Endpoint(tmp_path, served)
    line = http.client.HTTPSConnection(endpoint.secure_host, context=ssl.create_default_context(cafile=str(trusted)))
    line.request("GET", "/api/x")
    assert line.getresponse().status == 200
    line.close()
    endpoint.close()

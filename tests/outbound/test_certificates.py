"""Certificates are verified, and what is wrong with one is said by name. F15."""

import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from outbound import CertificateProblem, Unreachable
from tests.outbound.conftest import answer

DAY = timedelta(days=1)
CHECKOUT = Path(__file__).parents[2]


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.certificate = self._sign(self.name, self.key, [], ca=True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject, key, names, *, ca=False, begins=-DAY, ends=DAY):
        now = datetime.now(UTC)
        usage = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
        builder = x509.CertificateBuilder().issuer_name(self.name).subject_name(subject).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now + begins).not_valid_after(now + ends)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        builder = builder.add_extension(usage, critical=True)
        for extension in (
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        ):
            builder = builder.add_extension(extension, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def context(self, *names, **when):
        """A server's TLS context with a certificate for `names`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        certificate = self._sign(subject, key, list(names), **when)
        file = self.folder / f"{certificate.serial_number}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


LOOPBACK = x509.IPAddress(ip_address("127.0.0.1"))
ELSEWHERE = x509.DNSName("elsewhere.example")
CALL = """
import sys
from outbound import Client, Limits, OutboundFailure, Policy
client = Client(Policy.parse(sys.argv[1]))
try:
    print(client.send_now("GET", f"https://{sys.argv[1]}/", limits=Limits(5, 5, 1000)).text)
except OutboundFailure as failure:
    print(type(failure).__name__, failure.maybe_sent, failure)
client.close()
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def serve_tls(serve):
    """A server behind TLS."""

    def start(context):
        return serve(answer(b"trusted"), wrap=lambda connection: context.wrap_socket(connection, server_side=True))

    return start


def call_trusting(authority, server):
    """What a process that trusts `authority` makes of `server`: trust is read once, when a process starts."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, server.address],
        env={**os.environ, "SSL_CERT_FILE": str(authority.file)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def test_a_good_certificate_is_trusted(authority, serve_tls):
    assert call_trusting(authority, serve_tls(authority.context(LOOPBACK))) == "trusted"


@pytest.mark.parametrize(
    ("names", "when", "reason"),
    [
        ([LOOPBACK], {"begins": -3 * DAY, "ends": -DAY}, "certificate has expired"),
        ([LOOPBACK], {"begins": DAY, "ends": 2 * DAY}, "certificate is not yet valid"),
        ([ELSEWHERE], {}, "certificate is not valid for '127.0.0.1'"),
    ],
)
def test_a_certificate_of_a_trusted_authority_can_still_be_wrong(authority, serve_tls, names, when, reason):
    server = serve_tls(authority.context(*names, **when))
    said = call_trusting(authority, server)
    assert said.startswith("CertificateProblem False")
    assert reason in said
    assert server.requests == []


def test_an_unknown_authority_is_not_trusted(authority, serve_tls, client_for, limits):
    server = serve_tls(authority.context(LOOPBACK))
    with pytest.raises(CertificateProblem) as caught:
        client_for(server.address).send_now("GET", f"https://{server.address}/", limits=limits)
    assert "unable to get local issuer certificate" in str(caught.value)
    assert not caught.value.maybe_sent
    assert server.requests == []


def test_a_server_without_tls_is_named_as_such(serve, client_for, limits):
    def greet(connection):
        connection.sendall(b"220 mail.example ready\r\n")
        return connection

    server = serve(answer(), wrap=greet)
    with pytest.raises(Unreachable) as caught:
        client_for(server.address).send_now("GET", f"https://{server.address}/", limits=limits)
    assert "secure connection" in str(caught.value)
    assert not caught.value.maybe_sent

"""Addresses at which something is wrong below HTTP: nobody listens, nobody answers, certificates that are no good."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.faults.remote import Remote
from bench.installation import free_port

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, path: Path) -> Path:
        """Both in one file, as `ssl` loads them."""
        secret = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM) + secret)
        return path


class Edges:
    """The addresses, so many of each kind, and the authority the product is to trust."""

    def __init__(self, folder: Path, provider: Remote, count: int) -> None:
        """Listen where somebody has to."""
        authority = certificate("Fault harness CA", None)
        self.trusted = authority.write(folder / "ca.pem")
        stranger = certificate("Nobody", None)
        pairs = {
            "good": certificate("localhost", authority),
            "expired": certificate("localhost", authority, days=-1),
            "another name": certificate("elsewhere.example", authority),
            "unknown authority": certificate("localhost", stranger),
        }
        self.tls = {
            name: [
                int(provider.ask("listen", certificate=str(pair.write(folder / f"{name}.pem")))) for _ in range(count)
            ]
            for name, pair in pairs.items()
        }
        self.refused = [free_port() for _ in range(count)]
        self._lines: list[socket.socket] = []
        self.deaf = [self._deaf() for _ in range(count)]

    @property
    def allowed(self) -> list[str]:
        """What the operator has to allow for it."""
        named = [port for ports in (*self.tls.values(), self.refused) for port in ports]
        return [f"localhost:{port}" for port in named] + [f"127.0.0.1:{port}" for port in self.deaf]

    def close(self) -> None:
        """Stop listening."""
        for line in self._lines:
            line.close()

    def _deaf(self) -> int:
        """A port whose queue of connections is full: whoever knocks from now on hears nothing at all."""
        ear = socket.socket()
        ear.bind(("127.0.0.1", 0))
        ear.listen(0)
        self._lines.append(ear)
        for _ in range(4):
            line = socket.socket()
            line.setblocking(False)
            line.connect_ex(ear.getsockname())
            self._lines.append(line)
        return int(ear.getsockname()[1])


def certificate(name: str, issuer: Pair | None, days: int = 1) -> Pair:
    """A certificate for `name`, good until so many days from now; without an issuer it is an authority itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(name.replace(" ", "-").lower())]
    names.append(x509.IPAddress(ipaddress.ip_address("192.0.2.1")))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    else:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Pair(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)

"""The harness' hand on servers of its own: their processes, the lines that drive them, and a certificate."""

from __future__ import annotations

import datetime
import json
import socket
import subprocess
import sys
import threading
from array import array
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.installation import ROOT

END_SECONDS = 20.0


@dataclass(frozen=True)
class Uses:
    """What the endpoint recorded of every grant."""

    counts: array[int]
    arrived: array[float]
    """Seconds of the clock at which the last request came; 0 when none did."""


class Server:
    """A server of the harness in a process of its own, and the line that tells it what to do."""

    def __init__(self, module: str, path: Path, *arguments: str) -> None:
        """Start it with its line at `path`, and wait until it listens: what it says then is `said`."""
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(path), *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.said = self._process.stdout.readline()
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(path))
        self._file = self._line.makefile("rwb")

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def ask(self, do: str, **wishes: Any) -> Any:
        """Any verb of its `Control`, by name."""
        with self._lock:
            self._file.write(json.dumps({"do": do, **wishes}).encode() + b"\n")
            self._file.flush()
            return json.loads(self._file.readline())

    def close(self) -> None:
        """End it."""
        self._file.close()
        self._line.close()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(END_SECONDS)
        self._process.stdout.close()


class Endpoint(Server):
    """The endpoint of `bench.endpoint`."""

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        """With a certificate it listens on TLS as well."""
        self._folder = folder
        super().__init__("bench.endpoint", folder / "endpoint.sock", *([str(certificate)] if certificate else []))
        ports = json.loads(self.said)
        self.host = f"127.0.0.1:{ports[0]}"
        self.secure_host = f"127.0.0.1:{ports[1]}" if certificate else ""

    def stand(self) -> dict[str, int]:
        """All counts."""
        found: dict[str, int] = self.ask("stand")
        return found

    def uses(self) -> Uses:
        """Every grant's record."""
        path = self._folder / "uses"
        self.ask("save", path=str(path))
        counts, arrived = array("I"), array("d")
        count = path.stat().st_size // (counts.itemsize + arrived.itemsize)
        with path.open("rb") as file:
            counts.fromfile(file, count)
            arrived.fromfile(file, count)
        return Uses(counts, arrived)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """An authority's certificate, and a certificate for 127.0.0.1 with its key, as PEM files."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name, name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("Bench authority", "Bench endpoint")
    )
    authority = (
        _builder(authority_name, authority_name, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    leaf = _builder(name, authority_name, key).add_extension(address, critical=False)
    signed = leaf.sign(authority_key, hashes.SHA256())
    trusted, served = folder / "authority.pem", folder / "endpoint.pem"
    trusted.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    served.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return trusted, served


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
    )

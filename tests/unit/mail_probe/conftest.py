# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import Probe, plan
from ansible_collections.hybridlab.platform.tests.unit.mail_probe.mail_peers import PASSWORD, USER, Imap, Mailbox, Peer, Smtp

EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def openssl(folder: Path, *argv: str) -> None:
    subprocess.run(["openssl", *argv], check=True, capture_output=True, cwd=folder, timeout=60)


def leaf(folder: Path, name: str, extensions: str, *times: str) -> None:
    """A certificate <name>.pem with its key, by the authority of the folder."""
    openssl(folder, "req", *EC, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/O=Example/CN=mail.example.com")
    (folder / f"{name}.ext").write_text(extensions, encoding="utf-8")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing, *(times or ("-days", "90")))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; good, wrong, expired by it; self, other-ca by themselves."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other-ca"):
        openssl(folder, "req", "-x509", *EC, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "90", "-subj", f"/O=Example/CN=Authority {name}")
    leaf(folder, "good", "subjectAltName=DNS:mail.example.com,DNS:*.example.net,IP:127.0.0.1\n")
    leaf(folder, "wrong", "subjectAltName=DNS:mail.example.org,DNS:www.example.org\n")
    leaf(folder, "expired", "subjectAltName=IP:127.0.0.1\n", "-days", "-1")
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    openssl(folder, "req", "-x509", *EC, "-keyout", "self.key", "-out", "self.pem", "-days", "90", "-subj", "/CN=mail.example.com", *names)
    return folder


class Server:
    """The peers of one mailbox, and probes of them."""

    def __init__(self, certificates: Path) -> None:
        self.folder = certificates
        self.mailbox = Mailbox()
        self.peers: list[Peer] = []

    def start(self, handler: Any, implicit: bool = False, certificate: str = "good") -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{certificate}.pem", self.folder / f"{certificate}.key")
        self.peers.append(Peer(handler, self.mailbox, context, implicit))
        return self.peers[-1].port

    def options(self, certificate: str = "good", implicit: bool = False, **changes: Any) -> dict[str, Any]:
        tls = "implicit" if implicit else "starttls"
        servers = {
            kind: {"host": "127.0.0.1", "port": self.start(handler, implicit, certificate), "tls": tls} for kind, handler in (("smtp", Smtp), ("imap", Imap))
        }
        given = {"recipient": USER, "login": USER, "password": PASSWORD, "ca": str(self.folder / "ca.pem"), "deadline": 5.0, "timeout": 5.0, **servers}
        return {**given, **changes}

    def probe(self, certificate: str = "good", implicit: bool = False, **changes: Any) -> Probe:
        return plan(self.options(certificate, implicit, **changes))


@pytest.fixture
def server(certificates: Path) -> Iterator[Server]:
    made = Server(certificates)
    yield made
    for peer in made.peers:
        peer.end()

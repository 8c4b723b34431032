# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mails of many kinds, offered to Rspamd's milter on the host that it runs on; what became of each is printed as JSON.

python3 -m tests.integration.mail.scan_cases SOCKET ADDRESS DKIM_DIRECTORY     ADDRESS: where Rspamd finds its name server, which is this program
"""

from __future__ import annotations

import base64
import io
import json
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, Optional

from tests.integration.mail.dns_server import Zone, serve
from tests.integration.mail.milter_client import Envelope, Verdict, offer

# Encoded, so that no scanner takes this file for the test files.
EICAR = base64.b64decode("WDVPIVAlQEFQWzRcUFpYNTQoUF4pN0NDKTd9JEVJQ0FSLVNUQU5EQVJELUFOVElWSVJVUy1URVNULUZJTEUhJEgrSCo=").decode()
GTUBE = base64.b64decode("WEpTKkM0SkRCUUFETjEuTlNCTjMqMklETkVOKkdUVUJFLVNUQU5EQVJELUFOVEktVUJFLVRFU1QtRU1BSUwqQy4zNFg=").decode()
ATTACHED = (
    "--x\r\nContent-Type: text/plain\r\n\r\nhi\r\n--x\r\n%s\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    f"{base64.b64encode(EICAR.encode()).decode()}\r\n--x--\r\n"
)
FORGED = (
    "X-Spam: Yes\r\nX-Spam: Yes\r\nX-Spam-Flag: YES\r\nX-Spamd-Result: default: False [-99]\r\n"
    "Authentication-Results: mail.example.org; dkim=pass header.d=bank.example\r\nAuthentication-Results: mail.example.org; spf=pass\r\n"
)
STRANGER = "192.0.2.1"
# More than the scanner unpacks (MaxFiles of clamd.conf).
FILES = 2200


def zone(keys: Path) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {
        "a.example": [("A", STRANGER), ("MX", (10, "a.example")), ("TXT", f"v=spf1 ip4:{STRANGER} -all")],
        "b.example": [("A", STRANGER), ("MX", (10, "b.example"))],
    }
    for name, policy in (("strict.example", "reject"), ("careful.example", "quarantine")):
        rows[name] = [("A", "192.0.2.77"), ("MX", (10, name)), ("TXT", "v=spf1 ip4:192.0.2.77 -all")]
        rows[f"_dmarc.{name}"] = [("TXT", f"v=DMARC1; p={policy}")]
    for key in keys.glob("*/*.pub"):
        rows[f"{key.stem}._domainkey.{key.parent.name}"] = [("TXT", f"v=DKIM1; k=rsa; p={key.read_text().strip()}")]
    return rows


def mail(sender: str, body: str = "Shall we meet for lunch?\r\n", kind: str = "text/plain; charset=utf-8", before: str = "") -> bytes:
    now = time.time()
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(now))
    return (
        f"{before}Date: {date}\r\nFrom: Ann <{sender}>\r\nTo: Bob <bob@a.example>\r\nSubject: Lunch\r\nMessage-ID: <{now}@{sender.partition('@')[2]}>\r\n"
        f"MIME-Version: 1.0\r\nContent-Type: {kind}\r\n\r\n{body}"
    ).encode()


def crowded() -> str:
    """A part with an archive of too many files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        for number in range(FILES):
            made.writestr(f"{number}.txt", f"page {number}")
    kind = 'Content-Type: application/zip; name="pages.zip"\r\nContent-Transfer-Encoding: base64'
    return f"--x\r\n{kind}\r\n\r\n{base64.encodebytes(archive.getvalue()).decode()}\r\n--x--\r\n"


class Cases:
    """Offers mails and remembers what became of them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.found: dict[str, Any] = {}

    def ask(self, name: str, content: bytes, sender: str = "ann@a.example", client: str = STRANGER, login: Optional[str] = None) -> Verdict:
        envelope = Envelope(sender, ("bob@a.example",), client, helo="a.example", login=login)
        start = time.monotonic()
        verdict = offer(self.path, content, envelope)
        headers: dict[str, list[str]] = {}
        for header, value in verdict.headers:
            headers.setdefault(header.lower(), []).append(value)
        self.found[name] = {"reply": verdict.reply, "headers": headers, "seconds": time.monotonic() - start}
        return verdict


def run(cases: Cases) -> None:
    cases.ask("plain", mail("ann@a.example"))
    cases.ask("forged headers", mail("ann@a.example", before=FORGED))
    for name, domain in (("reject", "strict.example"), ("quarantine", "careful.example")):
        cases.ask(f"spoofed, {name}", mail(f"boss@{domain}"))
    cases.ask("spoofed from a private network", mail("boss@strict.example"), client="10.9.9.9")
    cases.ask("honest, reject", mail("boss@strict.example"), sender="boss@strict.example", client="192.0.2.77")
    cases.ask("gtube", mail("ann@a.example", GTUBE + "\r\n"))
    for name, content in (
        ("virus as text", mail("ann@a.example", f"See this:\r\n{EICAR}\r\n")),
        ("virus attached", mail("ann@a.example", ATTACHED % 'Content-Type: application/octet-stream; name="a"', "multipart/mixed; boundary=x")),
        ("virus attached as text", mail("ann@a.example", ATTACHED % 'Content-Type: text/plain; name="a.txt"', "multipart/mixed; boundary=x")),
        (
            "virus behind an odd first header",
            mail("ann@a.example", base64.b64encode(EICAR.encode()).decode(), before="Odd: 1\r\nContent-Transfer-Encoding: base64\r\n"),
        ),
    ):
        cases.ask(name, content)
    for domain in ("a.example", "b.example"):
        login = f"ann@{domain}"
        signed = cases.ask(f"login of {domain}", mail(login), sender=login, login=login)
        cases.ask(f"signed by {domain}, come in", signed.message(), sender=login)
    cases.ask("login, header of another domain", mail("boss@b.example"), login="ann@a.example")
    cases.ask("login, no sender, header of another domain", mail("boss@b.example"), sender="", login="ann@a.example")
    cases.ask("login, header of another at ours", mail("boss@a.example"), login="ann@a.example")
    cases.ask("login, header with a detail", mail("ann+lists@a.example"), login="ann@a.example")
    cases.ask("no login, our domain", mail("boss@b.example"), sender="boss@b.example", client="10.9.9.9")
    passed_on = "Received: from far.example (far.example [192.0.2.9]) by mx.a.example with ESMTP id 1; Sat, 21 Nov 2026 09:00:00 +0000\r\n"
    cases.ask("a script's answer", mail("ann@a.example"), sender="", client="127.0.0.1")
    cases.ask("a script's redirect", mail("ann@a.example", before=passed_on), sender="bob@a.example", client="127.0.0.1")
    cases.ask("too much in it", mail("ann@a.example", crowded(), "multipart/mixed; boundary=x"))


if __name__ == "__main__":
    everything = Cases(sys.argv[1])
    if sys.argv[2] != "none":
        serve(Zone(zone(Path(sys.argv[3]))), sys.argv[2])
        run(everything)
    else:
        for turn in range(3):
            everything.ask(f"plain {turn}", mail("ann@a.example"))
    print(json.dumps(everything.found))

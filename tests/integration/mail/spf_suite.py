# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SPF test suite of RFC 7208, asked of a running Rspamd.

The suite is not part of this checkout. Debian's package python3-spf has it (/usr/share/doc/python3-spf/rfc7208-tests.yml.gz). Rspamd is the image
mail_rspamd with two things: its name server is ADDRESS, where this program answers, and /etc/rspamd/override.d/spf.conf says ``spf_cache_size = 0;``,
since the suite's scenarios say different things of one domain.

    python3 -m tests.integration.mail.spf_suite SUITE.yml[.gz] CONTROLLER_SOCKET ADDRESS     exit code 1 when a verdict differs that is not in spf_known.yml
"""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.integration.mail.dns_server import Zone, serve

VERDICTS = {
    "R_SPF_ALLOW": "pass",
    "R_SPF_FAIL": "fail",
    "R_SPF_SOFTFAIL": "softfail",
    "R_SPF_NEUTRAL": "neutral",
    "R_SPF_NA": "none",
    "R_SPF_DNSFAIL": "temperror",
    "R_SPF_PERMFAIL": "permerror",
}
MAIL = b"From: <a@client.example>\r\nSubject: spf\r\n\r\nspf\r\n"
# Where Rspamd says something else than the RFC: test -> what it says.
KNOWN: dict[str, str] = yaml.safe_load(Path(__file__).with_name("spf_known.yml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Case:
    """One question of the suite. results: the verdicts that are right."""

    name: str
    client: str
    helo: str
    sender: str
    results: tuple[str, ...]


class Switch(Zone):
    """A zone that becomes another one while the server runs."""

    def __init__(self) -> None:
        super().__init__({})

    def become(self, rows: dict[str, list[Any]]) -> None:
        self.rows = Zone(rows).rows


class Controller(http.client.HTTPConnection):
    """Rspamd's controller on its Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def rows_of(name: str, records: list[Any]) -> list[Any]:
    """A name's records as dns_server wants them. SPF stands for TXT too, unless there is a TXT of its own (or NONE)."""
    found: list[Any] = []
    for record in records:
        if record == "TIMEOUT":
            found.append(("TIMEOUT", None))
            continue
        ((kind, value),) = record.items()
        if value == "TIMEOUT":
            found.append(("TIMEOUT", None))
        elif value != "NONE":
            found.append((kind, value))
    own = any(isinstance(record, dict) and "TXT" in record for record in records)
    return found + ([] if own else [("TXT", value) for kind, value in found if kind == "SPF"])


def scenarios(path: Path) -> Iterator[tuple[str, dict[str, list[Any]], list[Case]]]:
    """(description, zone, cases) of each document of the suite."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for document in yaml.safe_load_all(data):
        zone = {name: rows_of(name, records) for name, records in document["zonedata"].items()}
        cases = []
        for name, test in document["tests"].items():
            result = test["result"]
            results = tuple(result) if isinstance(result, list) else (result,)
            cases.append(Case(name, str(test["host"]), str(test["helo"]), str(test["mailfrom"]), results))
        yield document["description"], zone, cases


def ask(controller: str, case: Case) -> str:
    """Rspamd's verdict."""
    link = Controller(controller)
    settings = json.dumps({"symbols_enabled": ["SPF_CHECK", *VERDICTS]})
    headers = {"IP": case.client, "Helo": case.helo, "From": case.sender, "Settings": settings}
    try:
        link.request("POST", "/checkv2", MAIL, headers)
        answer = json.loads(link.getresponse().read())
    finally:
        link.close()
    found = [verdict for symbol, verdict in VERDICTS.items() if symbol in answer.get("symbols", {})]
    return found[0] if len(found) == 1 else f"no single verdict: {answer}"


def main(suite: str, controller: str, address: str) -> int:
    zone = Switch()
    serve(zone, address)
    right, known, wrong = 0, 0, 0
    for description, rows, cases in scenarios(Path(suite)):
        zone.become(rows)
        for case in cases:
            said = ask(controller, case)
            if said in case.results:
                right += 1
            elif KNOWN.get(case.name) == said:
                known += 1
            else:
                wrong += 1
                print(f"{description}: {case.name}: {said}, not {' or '.join(case.results)}")
    print(f"right: {right}, known differences: {known} of {len(KNOWN)}, wrong: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mail host in a directory: real SQLite files, and a docker of our own that hashes as doveadm's output looks and keeps what it was asked."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_accounts import report
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_store import Store
from ansible_collections.hybridlab.platform.plugins.modules import mail_accounts
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module

ROOT = Path(__file__).resolve().parents[3]
HASH = "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$OwvmSKXYo/DBWkj/rbEXdQ$I9UMdrdHqoRg3otT1CnMkHXG01JRbNWMsWei8Y5uoTw"
DOCKER = """#!/bin/sh
echo "$*" >>{log}
case $1 in
    ps) case "$*" in *_dovecot* | *_postfix*) [ -e {root}/dovecot-runs ] && echo d0ve ;; esac; exit 0 ;;
    service) [ -e {root}/no-service ] && exit 1; echo hybridlab/mail:1; exit 0 ;;
    run | exec)
        [ -e {root}/broken ] && exit 1
        case "$*" in
            *"doveadm -O pw"*)
                while IFS= read -r line; do printf '{{ARGON2ID}}$argon2id$v=19$%s\\n' "$(printf %s "$line" | sha256sum | cut -c1-40)"; done ;;
            *) cat >{root}/stdin; [ -e {root}/answer ] && cat {root}/answer ;;
        esac ;;
esac
exit 0
"""


def model(**changes: Any) -> dict[str, Any]:
    """A platform_mail of one domain and two mailboxes."""
    domain = {
        "name": "example.com",
        "mailboxes": [{"local": "anna", "name": "Anna", "quota_mb": 500}, {"local": "bert", "forward_to": ["bert@example.net"]}],
        "aliases": [{"local": "info", "to": ["anna@example.com", "bert@example.com"]}],
        "groups": [{"local": "staff", "members": ["anna@example.com", "info@example.com"], "senders": "members"}],
    }
    return {"hostname": "mail.example.com", "admins": ["anna@example.com"], "domains": [{**domain, **changes}]}


class MailHost:
    """Calls the module and the command on one directory."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.capsys, self.monkeypatch = root, capsys, monkeypatch
        self.data = root / "data" / "mail"
        self.log = root / "docker.log"
        (root / "bin").mkdir()
        (root / "bin" / "docker").write_text(DOCKER.format(log=self.log, root=root), encoding="utf-8")
        (root / "bin" / "docker").chmod(0o755)
        monkeypatch.setenv("PATH", f"{root / 'bin'}:/usr/bin:/bin")
        self.settings = root / "mail.json"
        settings = {"directory": str(self.data), "stack": "mail", "hostname": "mail.example.com", "state": str(root / "state")}
        self.settings.write_text(json.dumps(settings), encoding="utf-8")

    @property
    def store(self) -> Store:
        return Store(str(self.data), busy_seconds=0.3)

    def module(self, config: Optional[dict[str, Any]], passwords: Optional[dict[str, str]] = None, check: bool = False, **params: Any) -> dict[str, Any]:
        args: dict[str, Any] = {"directory": str(self.data), "passwords": json.dumps(passwords or {}), "record": str(self.root / "declared.json")}
        args.update(params, **({} if config is None else {"config": config}))
        return call_module(mail_accounts, {**args, "_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(self.root)}, self.capsys)

    def ctl(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """mailctl in a process of its own, as on a host."""
        code = f"import sys; from mailctl.__main__ import main; sys.exit(main(sys.argv[1:], {str(self.settings)!r}))"
        path = f"{ROOT / 'collections'}:{ROOT / 'roles' / 'mail' / 'files'}"
        environment = {"PATH": f"{self.root / 'bin'}:/usr/bin:/bin", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([sys.executable, "-c", code, *argv], input=stdin, capture_output=True, encoding="utf-8", timeout=60, check=False, env=environment)

    def done(self, *argv: str, stdin: str = "") -> str:
        answer = self.ctl(*argv, stdin=stdin)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def refused(self, *argv: str, stdin: str = "") -> str:
        answer = self.ctl(*argv, stdin=stdin)
        assert answer.returncode == 1, answer.stdout
        return answer.stderr

    def ask(self, query: str, *values: str, base: str = "accounts/directory") -> list[tuple[Any, ...]]:
        """What a daemon reads, from a database that it cannot write to."""
        connection = sqlite3.connect(f"file:{self.data / base}.sqlite?mode=ro", uri=True)
        try:
            return sorted(connection.execute(query, values))
        finally:
            connection.close()

    def password(self, address: str) -> Optional[tuple[Any, ...]]:
        found = self.ask("SELECT hash, active FROM passwords WHERE address = ?", address, base="passwords/passwords")
        return found[0] if found else None

    def store_report(self) -> dict[str, Any]:
        found = self.store.read()
        return report(found.rows, found.passwords)

    def docker_lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []


def seen(answer: dict[str, Any]) -> dict[str, Any]:
    """What check mode and the real run have to have in common."""
    assert not answer.get("failed"), answer["msg"]
    return {key: answer[key] for key in ("before", "after", "commands", "diff", "changed", "disruptive", "held", "without_password")}


def addresses(found: Sequence[dict[str, Any]]) -> list[str]:
    return [one["address"] for one in found]

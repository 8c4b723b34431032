# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there and how it is: accounts, queue, containers, certificate, signatures, quotas. Nothing is changed."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_accounts import Found, report
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_queue import facts, read_queue
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_server import Server

from .settings import Settings

QUOTA_ROWS = 10
LOG_LINES = 200
SIEVE_BYTES = 1024 * 1024
# RFC 5228, 4.2; RFC 3894 (:copy)
REDIRECT = re.compile(r"""\bredirect\s+(?::\w+\s+)*"([^"\s]+)\"""")
# The head of a file of signatures begins ClamAV-VDB:<when it was built>:<version>:
SIGNATURES = 'for file in /var/lib/clamav/*.c[lv]d; do [ -e "$file" ] && head -c 60 "$file" | tr "\\n" " " && echo ":$file"; done; true'


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as what stands in them."""
    lines = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def show_list(found: Found, given: Namespace) -> str:
    told = report(found.rows, found.passwords)
    asked = [kind for kind in ("domains", "mailboxes", "aliases", "groups") if getattr(given, kind)] or ["mailboxes"]
    held = {address for (address,) in found.rows["holds"]}
    if given.json:
        return json.dumps({kind: told[kind] for kind in asked}, indent=1, sort_keys=True)
    return "\n\n".join(_list(kind, told[kind], held) for kind in asked)


def _list(kind: str, items: Sequence[dict[str, Any]], held: set[str]) -> str:
    if kind == "domains":
        return table(("domain", "relay", "catch-all"), [(one["name"], one["relay"] or "-", one["catch_all"] or "-") for one in items])
    if kind == "aliases":
        return table(("alias", "leads to", "kind"), [(one["address"], " ".join(one["targets"]), one["kind"]) for one in items])
    if kind == "groups":
        return table(("group", "who may write", "members"), [(one["address"], one["senders"], " ".join(one["members"])) for one in items])
    rows = [(one["address"], one["name"] or "-", one["quota_mb"] or "-", _state(one, held), " ".join(one["forward_to"]) or "-") for one in items]
    return table(("mailbox", "name", "quota MiB", "login", "forwarded to"), rows)


def _state(mailbox: dict[str, Any], held: set[str]) -> str:
    if not mailbox["enabled"]:
        return "shut by hand" if mailbox["address"] in held else "shut"
    return "yes" if mailbox["password"] == "set" else "no password"


def show_one(found: Found, given: Namespace) -> str:
    address = given.address.lower()
    mailbox = next((one for one in report(found.rows, found.passwords)["mailboxes"] if one["address"] == address), None)
    if mailbox is None:
        raise ResourceError(f"{address}: found no such mailbox. See: mailctl list")
    hold = found.rows["holds"].get((address,))
    told = {
        **mailbox,
        "password_changed": found.passwords[address].changed_at if address in found.passwords else None,
        "aliases": sorted(key[0] for key in found.rows["aliases"] if key[1] == address),
        "may_send_as": sorted(key[0] for key in found.rows["senders"] if key[1] == address),
        "shut_by_hand": {"since": hold[1], "reason": hold[2]} if hold else None,
    }
    return json.dumps(told, indent=1) if given.json else table(("", ""), [(key.replace("_", " "), _shown(value)) for key, value in told.items()]).strip()


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return "-" if value in (None, "") else value


def sieve_script(directory: str, address: str) -> Path:
    """The mailbox's active Sieve script (images/mail_dovecot/dovecot.conf)."""
    local, _at, domain = address.rpartition("@")
    return Path(directory) / "home" / domain / local / ".dovecot.sieve"


def redirects(script: Path) -> list[str]:
    """Where a script sends mail on to, as far as it names the addresses itself."""
    try:
        # Its owner may put anything there: a pipe would hang.
        handle = os.open(script, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with os.fdopen(handle, "rb") as stream:
        text = stream.read(SIEVE_BYTES) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
    return list(dict.fromkeys(REDIRECT.findall(text.decode("utf-8", "replace"))))


def show_queue(server: Server, given: Namespace) -> str:
    messages = read_queue(server.execute("postfix", ["postqueue", "-j"]))
    told = facts(messages, time.time())
    if given.json:
        return json.dumps(told, indent=1)
    if not messages:
        return "The queue is empty."
    rows = []
    for message in messages[: given.limit]:
        age = _age(time.time() - message.arrived)
        rows += [(message.id, message.queue, age, message.size, message.sender or "<>", address, reason or "-") for address, reason in message.recipients]
    more = f"\n... and {len(messages) - given.limit} more" if len(messages) > given.limit else ""
    head = f"{told['count']} messages, {told['bytes']} bytes, the oldest waits for {_age(told['oldest_seconds'])}"
    return f"{head}\n{table(('id', 'queue', 'age', 'bytes', 'from', 'to', 'why'), rows)}{more}"


def _age(seconds: float) -> str:
    whole = int(seconds)
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * length:
            return f"{whole // length} {name}"
    return f"{whole} s"


def status(settings: Settings, server: Server, given: Namespace) -> str:
    told = {
        "containers": _containers(settings.stack),
        "queue": _or_words(lambda: facts(read_queue(server.execute("postfix", ["postqueue", "-j"])), time.time())),
        "certificate": _or_words(lambda: _certificate(settings)),
        "signatures": _or_words(lambda: _signatures(server)) if settings.antivirus else None,
        "quota": _or_words(lambda: _quota(server)),
    }
    if given.json:
        return json.dumps(told, indent=1)
    queue, certificate = told["queue"], told["certificate"]
    lines = [
        table(("container", "state"), [(one["name"], one["state"]) for one in told["containers"]])
        if told["containers"]
        else "No container of the mail system runs."
    ]
    lines += ["", f"queue         {queue if isinstance(queue, str) else _queue_words(queue)}"]
    lines += [f"certificate   {certificate if isinstance(certificate, str) else '{days} days left, until {until}'.format(**certificate)}"]
    lines += [f"signatures    {_signature_words(told['signatures'])}"]
    lines += ["", told["quota"] if isinstance(told["quota"], str) else table(("mailbox", "MiB", "of", "%"), [tuple(row.values()) for row in told["quota"]])]
    return "\n".join(lines)


def _or_words(ask: Any) -> Any:
    """What it finds; where that fails, why. A view shows all that can be seen."""
    try:
        return ask()
    except ResourceError as error:
        return str(error)


def _containers(stack: str) -> list[dict[str, str]]:
    form = '{{.Label "com.docker.swarm.service.name"}}\t{{.Status}}'
    argv = ["docker", "ps", "--filter", f"label=com.docker.stack.namespace={stack}", "--format", form]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=60, check=False)
    if done.returncode != 0:
        raise ResourceError(f"docker ps: {done.stderr.strip()}")
    return [dict(zip(("name", "state"), line.split("\t", 1))) for line in sorted(done.stdout.splitlines())]


def _certificate(settings: Settings) -> dict[str, Any]:
    path = Path(settings.directory) / "tls" / "current" / "fullchain.pem"
    done = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-in", str(path)], capture_output=True, encoding="utf-8", timeout=60, check=False)
    if done.returncode != 0:
        raise ResourceError(f"{path}: {done.stderr.strip()}. Run playbooks/mail.yml")
    until = datetime.strptime(done.stdout.strip().partition("=")[2], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=timezone.utc)
    return {"days": (until - datetime.now(timezone.utc)).days, "until": until.strftime("%Y-%m-%d")}


def _signatures(server: Server) -> list[dict[str, Any]]:
    found = []
    for line in server.execute("clamav", ["sh", "-c", SIGNATURES]).splitlines():
        words = line.split(":")
        if words[0] == "ClamAV-VDB" and len(words) > 3:
            built = datetime.strptime(words[1], "%d %b %Y %H-%M %z")
            found.append({"file": words[-1].rpartition("/")[2], "version": words[2], "days": (datetime.now(timezone.utc) - built).days})
    return found


def _signature_words(found: Any) -> str:
    if isinstance(found, str):
        return found
    if found is None:
        return "mail is not scanned for viruses"
    if not found:
        return "none of ClamAV's own: only what platform_mail adds is found"
    return ", ".join(f"{one['file']} {one['days']} days old" for one in found)


def _queue_words(queue: dict[str, Any]) -> str:
    if not queue["count"]:
        return "empty"
    first = f"; most: {queue['reasons'][0]['reason']}" if queue["reasons"] else ""
    return f"{queue['count']} messages, the oldest waits for {_age(queue['oldest_seconds'])}{first}"


def _quota(server: Server) -> list[dict[str, Any]]:
    """The fullest mailboxes. Sizes in MiB; limit and percent are "-" where there is no limit."""
    found = []
    for line in server.execute("dovecot", ["doveadm", "-f", "tab", "quota", "get", "-A"], seconds=120).splitlines()[1:]:
        user, _name, kind, used, limit = line.split("\t")[:5]
        if kind == "STORAGE":
            most = int(limit) if limit.isdigit() else 0
            found.append((int(used) * 100 // most if most else -1, int(used) // 1024, user, most // 1024))
    rows = sorted(found, key=lambda row: (-row[0], -row[1], row[2]))[:QUOTA_ROWS]
    return [{"mailbox": user, "used_mb": used, "limit_mb": most or "-", "percent": percent if most else "-"} for percent, used, user, most in rows]


def dkim(settings: Settings, given: Namespace) -> str:
    """The public keys, as the records that DNS needs."""
    folder = Path(settings.directory) / "dkim"
    names = sorted(path for path in folder.glob("*/*.pub") if given.domain in (None, path.parent.name))
    if not names:
        raise ResourceError(f"{folder}: found no key{f' of {given.domain}' if given.domain else ''}. Run playbooks/mail.yml")
    lines = []
    for path in names:
        key = "".join(line for line in path.read_text(encoding="ascii").splitlines() if not line.startswith("-"))
        text = f"v=DKIM1; k=rsa; p={key}"
        parts = " ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255))
        lines.append(f"{path.stem}._domainkey.{path.parent.name}. IN TXT ( {parts} )")
    return "\n".join(lines)


def log_command(server: Server, given: Namespace) -> list[str]:
    """By container: the log of a busy service can hang."""
    return ["docker", "logs", "--tail", str(given.lines), *(["--follow"] if given.follow else []), server.running(given.service)]

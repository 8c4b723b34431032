# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of the mail host, and from where each may be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_ports import PLACES
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, as_number, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_values import LAST_PORT, SSH_DEFAULT
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import LISTENERS, Listener
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import HOST, INTERNET, TAILNET

LISTENER_KEYS = ("port", "from")
# The segment that administers the platform, where it has one of this name.
MANAGEMENT = "management"
# What comes by LMTP is scanned no more: it is there only where the model names it.
UNPUBLISHED = ("lmtp",)

# Mail programs of people: the home network comes in by the uplink, as the Internet does. A segment is named where its guests need mail.
_PEOPLE = (INTERNET, TAILNET, HOST)
_SOURCES: Mapping[str, tuple[str, ...]] = {
    # Whoever in a segment or the tailnet sends mail logs in, and does so at submission.
    "smtp": (INTERNET, HOST),
    "lmtp": (TAILNET,),
    "webmail": (TAILNET, HOST, MANAGEMENT),
}


def read_listeners(faults: Faults, table: Table, context: Context, webmail: bool) -> tuple[Listener, ...]:
    """``listeners`` of platform_mail, with the defaults of those that it does not name. webmail: whether there is one to be published."""
    raw = table.value.get("listeners", {})
    given = Table.read(faults, table.at("listeners"), raw, tuple(LISTENERS))
    if given is None:
        return ()
    found: list[Listener] = []
    for name, port in LISTENERS.items():
        item = given.value.get(name, None if name in UNPUBLISHED else {})
        if name == "webmail" and not webmail:
            if item:
                reason = "is published, and platform_mail.webmail is false: nothing would answer there"
                faults.add("mail-listener-webmail", given.at(name), item, reason, "Remove it, or set webmail to true")
            continue
        if item is None:
            continue
        listener = _read_listener(faults, given.at(name), name, port, item, context)
        if listener is not None:
            _check_port(faults, given.at(name), listener, found, context)
            found.append(listener)
    return tuple(found)


def _read_listener(faults: Faults, path: str, name: str, default: int, raw: Any, context: Context) -> Optional[Listener]:
    item = Table.read(faults, path, raw, LISTENER_KEYS)
    if item is None:
        return None
    port = as_number(faults, item.at("port"), item.value["port"], least=None) if "port" in item.value else default
    if port is not None and not 1 <= port <= LAST_PORT:
        faults.add("port", item.at("port"), port, f"is no port, these are 1 to {LAST_PORT}", f"Choose a port from 1 to {LAST_PORT}")
        port = None
    sources = _read_sources(faults, item, name, context) if "from" in item.value else _default_sources(name, context)
    return None if port is None else Listener(name, port, sources)


def _default_sources(name: str, context: Context) -> tuple[str, ...]:
    return tuple(source for source in _SOURCES.get(name, _PEOPLE) if source != MANAGEMENT or MANAGEMENT in context.segments)


def _read_sources(faults: Faults, item: Table, name: str, context: Context) -> tuple[str, ...]:
    path = item.at("from")
    words = item.words("from")
    if item.value["from"] == []:
        faults.add("port-from-empty", path, [], "names nobody, and nobody could reach the port", f"Write {name}: null to not publish it")
    places = [*PLACES, *context.segments]
    # Where no segment is known they have faults of their own.
    for index, word in enumerate(words):
        place = f"{path}[{index}]"
        if word not in places and context.segments:
            faults.add("port-from", place, word, "is no place that a connection could come from", meant(word, places, "places"))
        elif word in words[:index]:
            faults.add("port-from-twice", place, word, "is named twice", "Remove one of them")
        elif name == "webmail" and word == INTERNET:
            reason = "opens the webmail to everybody: its login is a page for guessing passwords, and a fault in its PHP is a way to all mail"
            faults.add("mail-webmail-from", place, word, reason, f"Remove it. People outside use a mail program, or reach it by the {TAILNET}")
        elif name == "lmtp" and word not in (TAILNET, HOST):
            reason = "would let others put mail into every mailbox: LMTP asks for no login, and what comes by it is scanned no more"
            faults.add("mail-lmtp-from", place, word, reason, f"Name {TAILNET} alone, or write lmtp: null where no gateway delivers here")
    return tuple(words)


def _check_port(faults: Faults, path: str, listener: Listener, others: list[Listener], context: Context) -> None:
    port, place = listener.port, f"{path}.port"
    cure = "Publish another port, or null to publish none"
    twin = next((other.name for other in others if other.port == port), None)
    if twin is not None:
        faults.add("mail-port-twice", place, port, f"is the port of listeners.{twin} too", cure)
    elif port == SSH_DEFAULT:
        faults.add("port-22", place, port, "is where everybody looks for SSH, and nothing answers there here", cure)
    elif port in context.host_ssh_ports:
        faults.add("port-host-ssh", place, port, "is the port of the host's own sshd (platform_host.ssh_ports); publishing it would lock you out", cure)
    elif port in context.forwards:
        faults.add("port-forward", place, port, "is led to a guest's SSH", cure)
    elif port in context.ssh_ports:
        faults.add("port-kept", place, port, "is kept by a segment for its guests' SSH (ssh_ports)", cure)
    elif port in context.published:
        faults.add("mail-port-workload", place, port, f"is published by {context.published[port]}", cure)

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix of the mail system: its image, and its workload with what the model says. Settings that no model changes stand in images/mail_postfix."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail, MailDomain, Relay

# Listener of the model -> port in the container.
PORTS = {"smtp": 25, "submission": 587, "submissions": 465}
MIB = 1024 * 1024
# Who is written to at the host's own name: by people (RFC 2142), and by answers to notices of Postfix.
HOST_ADDRESSES = ("abuse", "mailer-daemon", "postmaster", "root")
# Where the passwords of relays stand in the container.
SECRETS = "/run/secrets"
MODEL = "/etc/postfix/model"
# The port where TLS comes first; images/mail_postfix/maps/transports.cf knows it too.
TLS_FROM_THE_START = 465


def images(mail: Mail, root: str) -> list[dict[str, Any]]:
    """Entries of platform_container_images. root: the directory of build contexts."""
    return [{"name": "mail-postfix", "context": f"{root}/mail_postfix", "base": mail.base}]


def workloads(mail: Mail) -> list[dict[str, Any]]:
    """Entries of platform_workloads."""
    relays = used_relays(mail)
    return [
        {
            "name": "postfix",
            "image": "mail-postfix",
            "stack": mail.stack,
            "memory_mb": 768,
            # A master that is root, and processes that are not: it changes users, and signals and replaces what belongs to them.
            "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"],
            "tmpfs": [{"target": "/run/postfix", "size_mb": 16}, {"target": "/tmp", "size_mb": 16}],
            "volumes": [
                {"name": "queue", "target": "/var/spool/postfix"},
                {"name": "sockets_dovecot", "target": "/run/mail/dovecot"},
                {"name": "sockets_postfix", "target": "/run/mail/postfix"},
                {"name": "sockets_rspamd", "target": "/run/mail/rspamd"},
                {"source": f"{mail.directory}/accounts", "target": "/srv/accounts", "read_only": True},
                {"source": f"{mail.directory}/tls", "target": "/srv/tls", "read_only": True},
            ],
            "secrets": sorted({relay.password for relay in relays if relay.password is not None}),
            "configs": [
                {"name": "postfix.main.cf", "target": f"{MODEL}/main.cf", "content": main_cf(mail)},
                {"name": "postfix.relays.json", "target": f"{MODEL}/relays.json", "content": json.dumps(logins(mail), indent=1) + "\n"},
                {"name": "postfix.tls_policy", "target": f"{MODEL}/tls_policy", "content": tls_policy(mail)},
                {"name": "postfix.postmaster", "target": f"{MODEL}/postmaster", "content": f"postmaster@{mail.domains[0].name}\n"},
                *({"name": _ca_name(mail, relay), "target": f"{MODEL}/{_ca_name(mail, relay)}", "file": relay.ca} for relay in relays if relay.ca is not None),
            ],
            "ports": [
                {"published": listener.port, "target": PORTS[listener.name], "from": list(listener.sources)}
                for listener in mail.listeners
                if listener.name in PORTS
            ],
            "health": {"command": ["/usr/local/bin/mail-health"], "interval_seconds": 30, "timeout_seconds": 15, "retries": 3, "start_seconds": 20},
            "stop_seconds": 30,
            "update": {"monitor_seconds": 5, "deadline_seconds": 180},
            # Where fail2ban reads it.
            "log": "journal",
        }
    ]


def used_relays(mail: Mail) -> list[Relay]:
    """Relays that a domain names, in the model's order."""
    named = {domain.relay for domain in mail.domains}
    return [relay for relay in mail.relays if relay.name in named]


def next_hop(relay: Relay) -> str:
    """As the directory has it, and Postfix looks it up. In brackets: the host itself, not its MX."""
    return f"[{relay.host}]:{relay.port}"


def main_cf(mail: Mail) -> str:
    """What the model adds to the image's main.cf."""
    settings = {
        "myhostname": mail.hostname,
        "mydomain": mail.hostname.partition(".")[2] or mail.hostname,
        "myorigin": mail.hostname,
        "recipient_delimiter": mail.subaddress or "",
        "message_size_limit": str(mail.message_mb * MIB),
        "relayhost": default_relay(mail),
        # A relay at this port speaks TLS from the start, and would wait for it for ever.
        "default_transport": "smtps" if default_relay(mail).endswith(f":{TLS_FROM_THE_START}") else "smtp",
        "smtp_sasl_auth_enable": _yes(any(relay.username is not None for relay in used_relays(mail))),
        "smtp_sender_dependent_authentication": _yes(bool(_shared(mail))),
        **_host_addresses(mail),
    }
    return "".join(f"{key} = {value}".rstrip() + "\n" for key, value in settings.items())


def default_relay(mail: Mail) -> str:
    """Where mail goes whose sender is of no domain here: notices to senders, mail that is passed on.

    Where one domain sends straight to the recipients' servers, this can too. Where none does, it goes the way of the first.
    """
    first = _relay_of(mail, mail.domains[0])
    if first is None or any(domain.relay is None for domain in mail.domains):
        return ""
    return next_hop(first)


def logins(mail: Mail) -> list[dict[str, str]]:
    """Who to be for which relay, for the image's mail-start: {key: next hop or @domain, username, secret: file with the password}."""
    found: dict[str, Relay] = {}
    shared = _shared(mail)
    for domain in mail.domains:
        relay = _relay_of(mail, domain)
        if relay is not None and next_hop(relay) in shared:
            found[f"@{domain.name}"] = relay
    for relay in used_relays(mail):
        found.setdefault(next_hop(relay), relay)
    return [
        {"key": key, "username": relay.username, "secret": f"{SECRETS}/{relay.password}"}
        for key, relay in found.items()
        if relay.username is not None and relay.password is not None
    ]


def tls_policy(mail: Mail) -> str:
    """Lines of smtp_tls_policy_maps: a relay is spoken to in TLS or not at all."""
    lines: dict[str, str] = {}
    for relay in used_relays(mail):
        policy = "encrypt"
        if relay.tls == "verify":
            policy = f"secure match={relay.host}" + (f" tafile={MODEL}/{_ca_name(mail, relay)}" if relay.ca is not None else "")
        lines.setdefault(next_hop(relay), policy)
    return "".join(f"{key} {policy}\n" for key, policy in lines.items()) or "# no relays\n"


def _relay_of(mail: Mail, domain: MailDomain) -> Optional[Relay]:
    return next((relay for relay in mail.relays if relay.name == domain.relay), None)


def _shared(mail: Mail) -> set[str]:
    """Next hops at which different domains have different accounts."""
    accounts: dict[str, set[tuple[Optional[str], Optional[str]]]] = {}
    for relay in used_relays(mail):
        accounts.setdefault(next_hop(relay), set()).add((relay.username, relay.password))
    return {hop for hop, found in accounts.items() if len(found) > 1}


def _ca_name(mail: Mail, relay: Relay) -> str:
    return f"postfix.relay_ca_{mail.relays.index(relay)}"


def _host_addresses(mail: Mail) -> Mapping[str, str]:
    """Addresses at the host's own name, where it is no mail domain as well: for the admins."""
    if any(domain.name == mail.hostname for domain in mail.domains):
        return {"virtual_alias_domains": "", "host_addresses": ""}
    targets = ", ".join(mail.admins)
    pairs = " ".join(f"{{{local}@{mail.hostname} = {targets}}}" for local in HOST_ADDRESSES)
    return {"virtual_alias_domains": mail.hostname, "host_addresses": f"inline:{{ {pairs} }}"}


def _yes(value: bool) -> str:
    return "yes" if value else "no"

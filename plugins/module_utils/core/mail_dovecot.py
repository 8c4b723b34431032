# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dovecot of the mail system: its image, and its workload with what the model says. Settings that no model changes stand in images/mail_dovecot."""

from __future__ import annotations

from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail

# Listener of the model -> port in the container.
PORTS = {"imap": 143, "imaps": 993, "managesieve": 4190, "lmtp": 2525}


def images(mail: Mail, root: str) -> list[dict[str, Any]]:
    """Entries of platform_container_images. root: the directory of build contexts."""
    return [{"name": "mail-dovecot", "context": f"{root}/mail_dovecot", "base": mail.base}]


def workloads(mail: Mail) -> list[dict[str, Any]]:
    """Entries of platform_workloads."""
    return [
        {
            "name": "dovecot",
            "image": "mail-dovecot",
            "stack": mail.stack,
            "memory_mb": 1024,
            # A master that is root, and processes that are not: logins in an empty root, mail as the user who owns all of it.
            "cap_add": ["CHOWN", "DAC_OVERRIDE", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"],
            "tmpfs": [{"target": "/run/dovecot", "size_mb": 16}, {"target": "/tmp", "size_mb": 16}],
            "volumes": [
                # Mail that is larger than 128 KiB while it comes in.
                {"name": "dovecot_incoming", "target": "/var/tmp/mail"},
                {"name": "sockets_dovecot", "target": "/run/mail/dovecot"},
                {"name": "sockets_postfix", "target": "/run/mail/postfix"},
                {"name": "sockets_rspamd", "target": "/run/mail/rspamd"},
                {"source": f"{mail.directory}/mail", "target": "/srv/mail/mail"},
                {"source": f"{mail.directory}/home", "target": "/srv/mail/home"},
                {"source": f"{mail.directory}/accounts", "target": "/srv/accounts", "read_only": True},
                {"source": f"{mail.directory}/passwords", "target": "/srv/passwords", "read_only": True},
                {"source": f"{mail.directory}/tls", "target": "/srv/tls", "read_only": True},
            ],
            "configs": [{"name": "dovecot.model.conf", "target": "/etc/dovecot/model/model.conf", "content": model_conf(mail)}],
            "ports": [
                {"published": listener.port, "target": PORTS[listener.name], "from": list(listener.sources)}
                for listener in mail.listeners
                if listener.name in PORTS
            ],
            "health": {"command": ["/usr/local/bin/mail-health"], "interval_seconds": 30, "timeout_seconds": 15, "retries": 3, "start_seconds": 20},
            "stop_seconds": 20,
            "update": {"monitor_seconds": 5, "deadline_seconds": 180},
            # Where fail2ban reads it.
            "log": "journal",
        }
    ]


def model_conf(mail: Mail) -> str:
    """What the model adds to the image's dovecot.conf."""
    lines = [
        f"hostname = {mail.hostname}",
        f"postmaster_address = postmaster@{mail.domains[0].name}",
        f"recipient_delimiter = {mail.subaddress or ''}".rstrip(),
    ]
    # Over TCP whoever reaches the port can deliver: it is open only where the model says to whom.
    if mail.listener("lmtp") is not None:
        lines += ["service lmtp {", "  inet_listener lmtp {", f"    port = {PORTS['lmtp']}", "  }", "}"]
    return "\n".join(lines) + "\n"

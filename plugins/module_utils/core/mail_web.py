# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is reached by HTTPS: the webmail (nginx, PHP with Roundcube, MariaDB, the service that changes passwords), and what programs ask a domain.

Settings that no model changes stand in images/mail_nginx, mail_roundcube, mail_mariadb and mail_accounts.
"""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_autoconfig import (
    AUTOCONFIG_PATHS,
    MTA_STS_PATH,
    autoconfig,
    autodiscover,
    mta_sts_policy,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail, MailDomain

Entry = dict[str, Any]

# Names in platform_secrets that the webmail needs: the password of its database, and the key of its sessions.
DATABASE_SECRET, KEY_SECRET = "mail_roundcube_db", "mail_roundcube_key"
SECRETS = (DATABASE_SECRET, KEY_SECRET)

MARIADB, ACCOUNTS, ROUNDCUBE, NGINX = "5008:5008", "5007:5021", "5009:5009", "5009:5022"
# Listener of the model -> port in the container: its user may open no lower ones.
PORTS = {"https": 4443, "webmail": 8443}
# What a mail's form adds to the mail, in MiB.
FORM_MB = 8


def images(mail: Mail, root: str) -> list[Entry]:
    """Entries of platform_container_images. root: the directory of build contexts. nginx stands on Roundcube's image: it serves the same version's files."""
    if not _serves(mail):
        return []
    roundcube = {"name": "mail-roundcube", "context": f"{root}/mail_roundcube", "base": mail.base}
    nginx = {"name": "mail-nginx", "context": f"{root}/mail_nginx", "base": "mail-roundcube"}
    if not mail.webmail:
        return [roundcube, nginx]
    database = {"name": "mail-mariadb", "context": f"{root}/mail_mariadb", "base": mail.base}
    accounts = {"name": "mail-accounts", "context": f"{root}/mail_accounts", "base": mail.base}
    return [database, accounts, roundcube, nginx]


def workloads(mail: Mail) -> list[Entry]:
    """Entries of platform_workloads. Without the webmail only what programs ask for; without that as well, none."""
    if not _serves(mail):
        return []
    parts = [_mariadb(), _accounts(mail), _roundcube(mail)] if mail.webmail else []
    return [{"stack": mail.stack, **part} for part in [*parts, _nginx(mail)]]


def secrets(mail: Mail) -> list[str]:
    """Names that platform_secrets has to give."""
    return list(SECRETS) if mail.webmail else []


def backup(mail: Mail) -> list[Entry]:
    """Entries of platform_backup.services: the webmail's database as a dump. Sessions, caches and files of mails being written are not kept."""
    if not mail.webmail:
        return []
    return [
        {
            "name": "webmail",
            "workload": "mariadb",
            "dump": {"command": ["/usr/local/bin/database-dump"], "volumes": [f"{mail.stack}_mariadb"]},
            "restore": {"command": ["/usr/local/bin/database-restore"], "ready": ["/usr/local/bin/database-health"]},
        }
    ]


def model_json(mail: Mail) -> str:
    """What Roundcube's configuration asks for."""
    return json.dumps({"hostname": mail.hostname, "message_mb": mail.message_mb}, indent=1) + "\n"


def servers_conf(mail: Mail) -> str:
    """The servers of nginx."""
    parts = []
    if mail.webmail:
        parts.append(f"server {{\n  server_name _;\n  client_max_body_size {mail.message_mb + FORM_MB}m;\n  include /etc/nginx/platform/webmail.conf;\n}}\n")
    if mail.listener("https") is not None:
        parts.append(_public_server("_", ["location / { return 404; }"]))
        for domain in mail.domains:
            parts += _domain_servers(mail, domain)
    return "".join(parts)


def _serves(mail: Mail) -> bool:
    return mail.webmail or mail.listener("https") is not None


def _domain_servers(mail: Mail, domain: MailDomain) -> list[str]:
    policy = _location(f"= {MTA_STS_PATH}", "text/plain", mta_sts_policy(mail, domain))
    settings = [_location(f"= {path}", "text/xml", autoconfig(mail, domain)) for path in AUTOCONFIG_PATHS]
    # Outlook writes it in capitals too, and asks by POST.
    outlook = _location(r"~* ^/autodiscover/autodiscover\.xml$", "text/xml", autodiscover(mail))
    return [
        _public_server(f"mta-sts.{domain.name}", [policy]),
        _public_server(f"autoconfig.{domain.name}", settings),
        _public_server(f"autodiscover.{domain.name}", [outlook]),
    ]


def _public_server(name: str, locations: list[str]) -> str:
    lines = [f"server_name {name};", "include /etc/nginx/platform/public.conf;", *locations]
    return "server {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _location(match: str, kind: str, text: str) -> str:
    return f"location {match} {{ default_type {kind}; charset utf-8; return 200 {_quoted(text)}; }}"


def _quoted(text: str) -> str:
    """A word of nginx's language, which has escapes for all but its own variables: the texts have no dollar sign (names of hosts, digits, XML)."""
    for found, written in (("\\", "\\\\"), ('"', '\\"'), ("\r", "\\r"), ("\n", "\\n")):
        text = text.replace(found, written)
    return f'"{text}"'


def _health(*command: str, start: int) -> Entry:
    return {"command": list(command), "interval_seconds": 30, "timeout_seconds": 15, "retries": 3, "start_seconds": start}


def _mariadb() -> Entry:
    return {
        "name": "mariadb",
        "image": "mail-mariadb",
        "user": MARIADB,
        "memory_mb": 384,
        "tmpfs": [{"target": "/tmp", "size_mb": 32}],
        "volumes": [{"name": "mariadb", "target": "/var/lib/mysql"}, {"name": "sockets_mariadb", "target": "/run/mail/mariadb"}],
        "secrets": [{"name": DATABASE_SECRET, "target": f"/run/secrets/{DATABASE_SECRET}", "uid": "5008", "gid": "5008"}],
        # The first start makes the files of the database.
        "health": _health("/usr/local/bin/database-health", start=120),
        # What is in memory goes to the disk first.
        "stop_seconds": 60,
    }


def _accounts(mail: Mail) -> Entry:
    return {
        "name": "accounts",
        "image": "mail-accounts",
        "user": ACCOUNTS,
        "memory_mb": 256,
        "tmpfs": [{"target": "/tmp", "size_mb": 8}],
        "volumes": [
            {"name": "sockets_accounts", "target": "/run/mail/accounts"},
            {"source": f"{mail.directory}/passwords", "target": "/srv/passwords"},
        ],
        "log": "journal",
        "health": _health("/usr/local/bin/accounts-health", start=20),
        "stop_seconds": 30,
    }


def _roundcube(mail: Mail) -> Entry:
    return {
        "name": "roundcube",
        "image": "mail-roundcube",
        "user": ROUNDCUBE,
        "memory_mb": 1024,
        "tmpfs": [{"target": "/tmp", "size_mb": 64}],
        "volumes": [
            # Attachments of mails that are being written.
            {"name": "roundcube_temp", "target": "/var/lib/roundcube/temp"},
            {"name": "sockets_mariadb", "target": "/run/mail/mariadb"},
            {"name": "sockets_php", "target": "/run/mail/php"},
            {"name": "sockets_accounts", "target": "/run/mail/accounts"},
            {"source": f"{mail.directory}/tls", "target": "/srv/tls", "read_only": True},
        ],
        "secrets": [{"name": name, "target": f"/run/secrets/{name}", "uid": "5009", "gid": "5009"} for name in SECRETS],
        "configs": [{"name": "roundcube.model.json", "target": "/etc/roundcube/model/model.json", "content": model_json(mail)}],
        # Failed logins with the client's address, for those who ban.
        "log": "journal",
        # It waits for MariaDB.
        "health": _health("/usr/local/bin/webmail-health", start=180),
        "stop_seconds": 30,
    }


def _nginx(mail: Mail) -> Entry:
    asked = ["webmail"] if mail.webmail else []
    if mail.listener("https") is not None:
        asked.append(f"public:mta-sts.{mail.domains[0].name}:{MTA_STS_PATH}")
    volumes: list[Entry] = [
        # What is being sent to it, or read slowly.
        {"name": "nginx_temp", "target": "/var/cache/nginx"},
        {"source": f"{mail.directory}/tls", "target": "/srv/tls", "read_only": True},
    ]
    if mail.webmail:
        volumes.append({"name": "sockets_php", "target": "/run/mail/php"})
    return {
        "name": "nginx",
        "image": "mail-nginx",
        "user": NGINX,
        "memory_mb": 192,
        "tmpfs": [{"target": "/tmp", "size_mb": 8}],
        "volumes": volumes,
        "configs": [{"name": "nginx.servers.conf", "target": "/etc/nginx/model/servers.conf", "content": servers_conf(mail)}],
        "ports": [
            {"published": listener.port, "target": PORTS[listener.name], "from": list(listener.sources)}
            for listener in mail.listeners
            if listener.name in PORTS and (listener.name != "webmail" or mail.webmail)
        ],
        "log": "journal",
        "health": _health("/usr/local/bin/web-health", *asked, start=20),
        "stop_seconds": 30,
    }

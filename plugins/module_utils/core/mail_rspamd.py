# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail that is scanned: Rspamd and its Redis, as images and workloads. The virus scanner stands in mail_clamav.py.

What does not depend on the model stands in images/mail_rspamd. Here is what does, as files that Rspamd lays over it.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_clamav
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail

Entry = dict[str, Any]

RSPAMD, REDIS = "5004:5004", "5005:5005"
OVERRIDE = "/etc/rspamd/override.d"
# Room for headers and for what Postfix says of a mail, in MiB.
MESSAGE_ROOM_MB = 8


def actions(mail: Mail) -> str:
    """What Rspamd does from which score on. Greylisting begins between nothing and Junk."""
    spam = mail.spam
    greylist = f"{spam.junk * 2 / 3:g}" if spam.greylist else "null"
    return f"reject = {spam.reject:g};\nadd_header = {spam.junk:g};\ngreylist = {greylist};\n"


def ratelimit(mail: Mail) -> str:
    """As many recipients at once, and an hour, for each login. A mail above that is put off, not refused."""
    rate = mail.spam.rate_per_hour
    if not rate:
        return "enabled = false;\n"
    return (
        f'rates {{\n  user {{\n    bucket {{\n      burst = {rate};\n      rate = "{rate} / 1h";\n    }}\n  }}\n}}\n'
        # Neither a reputation nor a recipient changes it.
        'max_rate_mult = 1;\nmax_bucket_mult = 1;\nwhitelisted_rcpts = ["no recipient"];\n'
    )


def options(mail: Mail) -> str:
    size = (mail.message_mb + MESSAGE_ROOM_MB) * 1024 * 1024
    # A host of a private network is a stranger like others, unless it logs in. (A list can only be replaced here: the image's would be added to Rspamd's own.)
    return f'max_message = {size};\nlocal_addrs = ["127.0.0.0/8", "::1/128"];\n'


def platform(mail: Mail) -> str:
    """What images/mail_rspamd/lua asks for."""
    on = "true" if mail.antivirus.enabled else "false"
    detail = f'  subaddress = "{mail.subaddress}";\n' if mail.subaddress else ""
    return f'platform {{\n  antivirus = {on};\n  antivirus_seconds = {mail_clamav.SCAN_SECONDS};\n  gtube = "{mail.spam.gtube}";\n{detail}}}\n'


def _configs(mail: Mail) -> list[Entry]:
    return [
        {"name": "rspamd_actions", "target": f"{OVERRIDE}/actions.conf", "content": actions(mail)},
        {"name": "rspamd_ratelimit", "target": f"{OVERRIDE}/ratelimit.conf", "content": ratelimit(mail)},
        {"name": "rspamd_greylist", "target": f"{OVERRIDE}/greylist.conf", "content": f"enabled = {'true' if mail.spam.greylist else 'false'};\n"},
        {"name": "rspamd_options", "target": f"{OVERRIDE}/options.inc", "content": options(mail)},
        {"name": "rspamd_platform", "target": "/etc/rspamd/rspamd.conf.local", "content": platform(mail)},
    ]


def _rspamd(mail: Mail) -> Entry:
    without = "file" if mail.spam.gtube == "file" else "gtube"
    volumes: list[Entry] = [
        {"name": "rspamd", "target": "/var/lib/rspamd"},
        {"name": "sockets_rspamd", "target": "/run/mail/rspamd"},
        {"name": "sockets_redis", "target": "/run/mail/redis"},
        {"source": f"{mail.directory}/dkim", "target": "/srv/dkim", "read_only": True},
    ]
    if mail.antivirus.enabled:
        volumes.append({"name": "sockets_clamav", "target": "/run/mail/clamav"})
    return {
        "name": "rspamd",
        "stack": mail.stack,
        "image": "mail-rspamd",
        "user": RSPAMD,
        # What it calls itself in Authentication-Results.
        "hostname": mail.hostname,
        "memory_mb": 1024,
        "tmpfs": [{"target": "/tmp", "size_mb": 256}, {"target": "/run/rspamd", "size_mb": 8}],
        "volumes": volumes,
        "configs": _configs(mail),
        "health": {
            "command": ["/usr/local/bin/rspamd-health", "virus" if mail.antivirus.enabled else without],
            "interval_seconds": 30,
            "timeout_seconds": 20,
            "retries": 3,
            "start_seconds": 60,
        },
        "stop_seconds": 30,
    }


def _redis(mail: Mail) -> Entry:
    return {
        "name": "redis",
        "stack": mail.stack,
        "image": "mail-redis",
        "user": REDIS,
        # The data (maxmemory in redis.conf), and a copy of what changes while its file is written anew.
        "memory_mb": 576,
        "tmpfs": [{"target": "/tmp", "size_mb": 8}],
        "volumes": [{"name": "redis", "target": "/var/lib/redis"}, {"name": "sockets_redis", "target": "/run/mail/redis"}],
        "health": {
            "command": ["/usr/local/bin/redis-health"],
            "interval_seconds": 30,
            "timeout_seconds": 10,
            "retries": 3,
            "start_seconds": 30,
        },
        "stop_seconds": 30,
    }


def images(mail: Mail, root: str) -> list[Entry]:
    """``platform_container_images`` of this part. root: the directory of images/."""
    redis = {"name": "mail-redis", "context": f"{root}/mail_redis", "base": mail.base}
    rspamd = {"name": "mail-rspamd", "context": f"{root}/mail_rspamd", "base": mail.base, "args": {"GTUBE": mail.spam.gtube}}
    return [redis, rspamd, *mail_clamav.images(mail, root)]


def workloads(mail: Mail) -> list[Entry]:
    """``platform_workloads`` of this part."""
    return [_redis(mail), *mail_clamav.workloads(mail), _rspamd(mail)]

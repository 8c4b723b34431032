# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The virus scanner: clamd, and freshclam where signatures are fetched. Both run from one image; without an antivirus there is neither."""

from __future__ import annotations

from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail

Entry = dict[str, Any]

CLAMAV = "5006:5006"
# How long Rspamd waits for a verdict: longer than clamd may scan, below the task's own limit (60 s) and Postfix's.
SCAN_SECONDS = 45
SCAN_MAX_MS = 30000
# The official signatures take about 1.3 GiB. With room for them twice, mail is scanned while they are read again; below that it waits.
CONCURRENT_MB = 3000
# How much an archive may unfold to, as a multiple of a mail's size.
UNFOLD = 4
UPDATE_MB = 512


def clamd(mail: Mail) -> str:
    """clamd.conf. A stream is longer than any mail that Postfix takes, since clamd answers an error for what is too long."""
    concurrent = "yes" if mail.antivirus.memory_mb >= CONCURRENT_MB else "no"
    return f"""\
Foreground yes
LocalSocket /run/mail/clamav/clamd
LocalSocketMode 666
FixStaleSocket yes
DatabaseDirectory /var/lib/clamav
TemporaryDirectory /tmp
LogTime no
LogClean no
MaxThreads 4
MaxQueue 100
ReadTimeout {SCAN_SECONDS}
SelfCheck 600
ConcurrentDatabaseReload {concurrent}
StreamMaxLength {mail.message_mb + 16}M
MaxFileSize {mail.message_mb + 16}M
MaxScanSize {(mail.message_mb + 16) * UNFOLD}M
MaxScanTime {SCAN_MAX_MS}
MaxFiles 2000
MaxRecursion 12
ExitOnOOM yes
AlertExceedsMax yes
"""


def freshclam() -> str:
    return """\
DatabaseDirectory /var/lib/clamav
DatabaseMirror database.clamav.net
DNSDatabaseInfo current.cvd.clamav.net
Foreground yes
LogTime no
MaxAttempts 3
ConnectTimeout 30
ReceiveTimeout 300
TestDatabases yes
NotifyClamd /etc/clamav/clamd.conf
"""


def _scanner(mail: Mail) -> Entry:
    return {
        "name": "clamav",
        "stack": mail.stack,
        "image": "mail-clamav",
        "user": CLAMAV,
        "memory_mb": mail.antivirus.memory_mb,
        # What archives unfold to: it counts as memory.
        "tmpfs": [{"target": "/tmp", "size_mb": (mail.message_mb + 16) * UNFOLD}],
        "volumes": [{"name": "clamav", "target": "/var/lib/clamav"}, {"name": "sockets_clamav", "target": "/run/mail/clamav"}],
        "configs": [{"name": "clamd", "target": "/etc/clamav/clamd.conf", "content": clamd(mail)}],
        # It answers when all signatures are read, which takes minutes on a slow machine.
        "health": {
            "command": ["/usr/local/bin/clamav-health"],
            "interval_seconds": 30,
            "timeout_seconds": 20,
            "retries": 5,
            "start_seconds": 300,
        },
        "stop_seconds": 20,
        "update": {"deadline_seconds": 600},
    }


def _update(mail: Mail) -> Entry:
    return {
        "name": "freshclam",
        "stack": mail.stack,
        "image": "mail-clamav",
        "user": CLAMAV,
        "command": ["/usr/local/bin/clamav-update"],
        # It reads what it fetched, as a test.
        "memory_mb": max(UPDATE_MB, mail.antivirus.memory_mb // 2),
        "tmpfs": [{"target": "/tmp", "size_mb": 16}],
        "volumes": [{"name": "clamav", "target": "/var/lib/clamav"}, {"name": "sockets_clamav", "target": "/run/mail/clamav"}],
        "configs": [
            {"name": "clamd", "target": "/etc/clamav/clamd.conf", "content": clamd(mail)},
            {"name": "freshclam", "target": "/etc/clamav/freshclam.conf", "content": freshclam()},
        ],
        "health": {
            "command": ["/usr/local/bin/clamav-update-health"],
            "interval_seconds": 60,
            "timeout_seconds": 10,
            "retries": 3,
            "start_seconds": 30,
        },
        "stop_seconds": 20,
    }


def images(mail: Mail, root: str) -> list[Entry]:
    """``platform_container_images`` of this part. root: the directory of images/."""
    return [{"name": "mail-clamav", "context": f"{root}/mail_clamav", "base": mail.base}] if mail.antivirus.enabled else []


def workloads(mail: Mail) -> list[Entry]:
    """``platform_workloads`` of this part."""
    if not mail.antivirus.enabled:
        return []
    return [_scanner(mail), *([_update(mail)] if mail.antivirus.update else [])]

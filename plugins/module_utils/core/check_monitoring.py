# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_monitoring``, read and checked."""

from __future__ import annotations

import re
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import HIDDEN, Faults, Table, labels, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_monitoring import (
    FALLING,
    THRESHOLDS,
    WEBHOOK_KINDS,
    Journal,
    Mail,
    Monitoring,
    Threshold,
    Webhook,
)

KEYS = (
    "thresholds",
    "webhooks",
    "mail",
    "daily",
    "weekly",
    "watch_minutes",
    "journal",
    "node_exporter",
    "node_exporter_segment",
    "certificates",
)
WATCH_MINUTES_MAX = 60

_DAILY = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d")
_WEEKLY = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:[01]\d|2[0-3]):[0-5]\d")
# Strict on purpose: the address becomes an argument of the mail agent.
_MAIL = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,63}(?:@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)?")


def read_monitoring(faults: Faults, raw: Any, context: Context) -> Optional[Monitoring]:
    """``platform_monitoring``."""
    table = Table.read(faults, "platform_monitoring", raw, KEYS)
    if table is None:
        return None
    default = Monitoring()
    return Monitoring(
        thresholds=_read_thresholds(faults, table),
        webhooks=_read_webhooks(faults, table, context),
        mail=_read_mail(faults, table),
        daily=_read_time(faults, table, "daily", _DAILY, "07:00") or default.daily,
        weekly=_read_time(faults, table, "weekly", _WEEKLY, "Mon 07:30") or default.weekly,
        watch_minutes=_read_minutes(faults, table) or default.watch_minutes,
        journal=_read_journal(faults, table),
        node_exporter=table.flag("node_exporter", False),
        node_exporter_segment=_read_segment(faults, table, context),
        certificates=_read_certificates(faults, table),
    )


def _read_thresholds(faults: Faults, table: Table) -> dict[str, Threshold]:
    if "thresholds" not in table.value:
        return {}
    rows = Table.read(faults, table.at("thresholds"), table.value["thresholds"], tuple(THRESHOLDS))
    if rows is None:
        return {}
    read = {name: _read_threshold(faults, rows, name) for name in rows.value if name in THRESHOLDS}
    return {name: threshold for name, threshold in read.items() if threshold is not None}


def _read_threshold(faults: Faults, rows: Table, name: str) -> Optional[Threshold]:
    row = Table.read(faults, rows.at(name), rows.value[name], ("warning", "critical"))
    if row is None:
        return None
    warning, critical = (_number(faults, row, key, default) for key, default in zip(("warning", "critical"), THRESHOLDS[name]))
    if warning is None or critical is None:
        return None
    if name.endswith("_percent") and max(warning, critical) > 100:
        faults.add("percent", row.path, f"{warning:g}/{critical:g}", "is more than all there is", "Write percentages from 1 to 100")
        return None
    if (warning < critical) if name in FALLING else (warning > critical):
        order = "the smaller" if name in FALLING else "the larger"
        reason = f"would be critical before it warns: warning is {warning:g}, critical is {critical:g}"
        faults.add("threshold-order", row.path, f"{warning:g}/{critical:g}", reason, f"Give both, critical {order} one")
        return None
    return Threshold(warning, critical)


def _number(faults: Faults, row: Table, key: str, default: float) -> Optional[float]:
    """A whole number or a fraction, above 0."""
    value = row.value.get(key, default)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf"):
        return value
    faults.add("threshold", row.at(key), value, "is no number above 0", f"Write a number without quotes, such as {default:g}")
    return None


def _read_webhooks(faults: Faults, table: Table, context: Context) -> tuple[Webhook, ...]:
    rows = table.rows("webhooks")
    found: list[Webhook] = []
    for path, row in zip(labels(table.at("webhooks"), rows), rows):
        webhook = _read_webhook(faults, path, row, context)
        if webhook is not None and webhook.name in [other.name for other in found]:
            faults.add("webhook-twice", f"{path}.name", webhook.name, "is the name of another webhook", "Give each webhook a name of its own")
        elif webhook is not None:
            found.append(webhook)
    return tuple(found)


def _read_webhook(faults: Faults, path: str, raw: Any, context: Context) -> Optional[Webhook]:
    table = Table.read(faults, path, raw, ("name", "kind", "url"), ("name", "kind", "url"))
    if table is None:
        return None
    name = values.name(faults, table.at("name"), table.text("name"), "webhook")
    if name == "mail":
        faults.add(
            "webhook-mail", table.at("name"), name, "is how mail itself is called here", "Choose another name, and set platform_monitoring.mail for mail"
        )
        name = None
    kind = table.choice("kind", WEBHOOK_KINDS)
    url = table.text("url")
    if url is not None and "/" in url:
        reason = "is an address, and whoever knows it may write as you: it does not stand in the model"
        cure = "Put it into platform_secrets under a name, such as discord_url: {value: ...} from a vault, and write that name here"
        faults.add("webhook-url", table.at("url"), HIDDEN, reason, cure)
    elif url is not None and url not in context.secrets:
        faults.add("webhook-secret", table.at("url"), url, "is no name in platform_secrets", meant(url, context.secrets, "secrets"))
    elif name is not None and kind is not None and url is not None:
        return Webhook(name, kind, url)
    return None


def _read_mail(faults: Faults, table: Table) -> Optional[Mail]:
    if "mail" not in table.value:
        return None
    row = Table.read(faults, table.at("mail"), table.value["mail"], ("to", "from"), ("to",))
    if row is None:
        return None
    to, sender = _address(faults, row, "to"), _address(faults, row, "from")
    return None if to is None else Mail(to, sender)


def _address(faults: Faults, row: Table, key: str) -> Optional[str]:
    text = row.text(key)
    if text is None or _MAIL.fullmatch(text):
        return text
    faults.add("mail-address", row.at(key), text, "is no mail address", "Write one address, such as 'admin@example.org', or a local user, such as 'root'")
    return None


def _read_time(faults: Faults, table: Table, key: str, form: re.Pattern[str], example: str) -> Optional[str]:
    text = table.text(key)
    if text is None or form.fullmatch(text):
        return text
    faults.add("time", table.at(key), text, "is no time in this form", f"Write it like '{example}', in quotes")
    return None


def _read_minutes(faults: Faults, table: Table) -> Optional[int]:
    minutes = table.number("watch_minutes", least=1)
    if minutes is not None and minutes > WATCH_MINUTES_MAX:
        cure = f"Write 1 to {WATCH_MINUTES_MAX} minutes"
        faults.add("watch-minutes", table.at("watch_minutes"), minutes, "is too long: a fault would be told late", cure)
    return minutes


def _read_journal(faults: Faults, table: Table) -> Journal:
    if "journal" not in table.value:
        return Journal()
    row = Table.read(faults, table.at("journal"), table.value["journal"], ("days", "max_mb"))
    if row is None:
        return Journal()
    return Journal(row.number("days", least=1) or Journal.days, row.number("max_mb", least=16) or Journal.max_mb)


def _read_segment(faults: Faults, table: Table, context: Context) -> Optional[str]:
    segment = table.text("node_exporter_segment")
    if segment is not None and segment not in context.segments:
        faults.add("segment", table.at("node_exporter_segment"), segment, "is no segment", meant(segment, context.segments, "segments"))
    elif segment is not None and not table.value.get("node_exporter"):
        reason = "says where node_exporter answers, and there is none"
        faults.add("node-exporter", table.at("node_exporter_segment"), segment, reason, "Set node_exporter: true, or remove this key")
    return segment


def _read_certificates(faults: Faults, table: Table) -> tuple[str, ...]:
    words = table.words("certificates")
    read = [values.directory(faults, f"{table.at('certificates')}[{index}]", word, "certificate-path") for index, word in enumerate(words)]
    return tuple(path for path in read if path is not None)

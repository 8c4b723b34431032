# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The noun platform_monitoring: what good values become. What is refused stands in bad_models_monitoring.yml."""

from __future__ import annotations

from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_monitoring import read_monitoring
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_monitoring import Journal, Mail, Monitoring, Threshold, Webhook


def read(raw: Any) -> tuple[Optional[Monitoring], list[tuple[str, str]]]:
    faults = Faults()
    found = read_monitoring(faults, raw, Context(segments=("management",), secrets=("discord_url",)))
    return found, [(fault.rule, fault.path) for fault in faults.items]


def test_an_empty_mapping_watches_with_defaults() -> None:
    assert read({}) == (Monitoring(), [])


def test_everything_that_can_be_said() -> None:
    raw = {
        "thresholds": {"memory_percent": {"warning": 60}, "load_per_core": {"warning": 1.5, "critical": 3}},
        "webhooks": [{"name": "team", "kind": "discord", "url": "discord_url"}],
        "mail": {"to": "admin@example.org", "from": "kvm1@example.org"},
        "daily": "06:15",
        "weekly": "Sun 23:59",
        "watch_minutes": 10,
        "journal": {"days": 14},
        "node_exporter": True,
        "node_exporter_segment": "management",
        "certificates": ["/etc/ssl/web.pem"],
    }
    assert read(raw) == (
        Monitoring(
            thresholds={"memory_percent": Threshold(60, 90), "load_per_core": Threshold(1.5, 3)},
            webhooks=(Webhook("team", "discord", "discord_url"),),
            mail=Mail("admin@example.org", "kvm1@example.org"),
            daily="06:15",
            weekly="Sun 23:59",
            watch_minutes=10,
            journal=Journal(14, 2048),
            node_exporter=True,
            node_exporter_segment="management",
            certificates=("/etc/ssl/web.pem",),
        ),
        [],
    )


def test_values_of_the_wrong_shape_are_found() -> None:
    raw = {"thresholds": [], "webhooks": ["x"], "mail": "root", "journal": 3, "watch_minutes": "5", "certificates": "/x", "weekly": "Mon 24:00"}
    _found, faults = read(raw)
    assert {path.split(".")[1].split("[")[0] for _rule, path in faults} == set(raw)
    assert read([])[0] is None


def test_the_address_of_a_webhook_is_not_shown_again() -> None:
    faults = Faults()
    raw = {"webhooks": [{"name": "team", "kind": "discord", "url": "https://chat.example.org/s3cret"}]}
    read_monitoring(faults, raw, Context())
    assert [fault.rule for fault in faults.items] == ["webhook-url"]
    assert "s3cret" not in str(faults.items)

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three formats, the exit codes, what is told from run to run, and the dashboard over the metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring import health, metrics, notify, watch
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.courier import Courier
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.model import Check, metric
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.settings import Settings, Webhook
from ansible_collections.hybridlab.platform.tests.unit.monitoring import exposition_check
from ansible_collections.hybridlab.platform.tests.unit.monitoring.fake_host import FakeHost
from ansible_collections.hybridlab.platform.tests.unit.monitoring.receiver import Receiver, receiving

DASHBOARD = Path(__file__).resolve().parents[3] / "docs/grafana/hybridlab-host.json"
# What the dashboard takes of node_exporter 1.5 and later.
NODE_EXPORTER = {
    "node_cpu_seconds_total",
    "node_disk_io_time_seconds_total",
    "node_disk_read_bytes_total",
    "node_disk_written_bytes_total",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
    "node_load5",
    "node_memory_MemAvailable_bytes",
    "node_memory_MemTotal_bytes",
    "node_network_receive_bytes_total",
    "node_network_transmit_bytes_total",
    "node_textfile_mtime_seconds",
    "node_textfile_scrape_error",
    "node_time_seconds",
}

WELL = {
    "/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 900 kB\n",
    "/proc/loadavg": "0.1 0.2 0.3 1/9 9\n",
}
OUTPUTS = {
    "df ": "Type 1B-blocks Avail Use% Inodes IUse% Mounted on\next4 1000 900 10% 100 1% /\n",
    "systemctl list-units": "",
    "journalctl": "",
    "timedatectl": "NTPSynchronized=yes\n",
}


def settings_file(tmp_path: Path, receiver: Optional[Receiver] = None) -> str:
    path = tmp_path / "monitoring.json"
    rows = [{"name": "team", "kind": "generic", "url": receiver.url}] if receiver else []
    path.write_text(json.dumps({"host": "kvm1", "state": str(tmp_path / "state"), "webhooks": rows}), encoding="utf-8")
    return str(path)


def run(tmp_path: Path, host: FakeHost, capsys: pytest.CaptureFixture[str], *words: str, receiver: Optional[Receiver] = None) -> tuple[int, str]:
    code = health.main([*words, "--settings", settings_file(tmp_path, receiver)], host)
    return code, capsys.readouterr().out


def test_a_host_that_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(tmp_path, FakeHost(OUTPUTS, WELL), capsys, "daily")
    assert (code, " ok\n" in text, "CRITICAL" in text) == (0, True, False)


def test_the_worst_comes_first_and_its_cure_below(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {**OUTPUTS, "df ": OUTPUTS["df "].replace("10%", "95%"), "timedatectl": "NTPSynchronized=no\n"}
    code, text = run(tmp_path, FakeHost(outputs, WELL), capsys, "daily")
    rows = text.splitlines()
    assert code == 2
    assert rows[0].startswith("kvm1: daily checks of 2026-11-21T16:34:07Z: 1 critical, 1 warning, ")
    assert rows[2].startswith("CRITICAL / is 95 % full")
    assert rows[3].strip().startswith("-> ")
    assert rows[4].startswith("WARNING")


def test_json_and_metrics_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(tmp_path, FakeHost(OUTPUTS, {**WELL, "/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 200 kB\n"}), capsys, "all", "--format", "json")
    answer = json.loads(text)
    assert answer["exit_code"] == code == 1
    memory = next(row for row in answer["checks"] if row["name"] == "memory")
    assert (memory["severity"], memory["value"], memory["threshold"]) == ("warning", 80.0, "70/90")
    textfile = tmp_path / "metrics/hybridlab_all.prom"
    host = FakeHost(OUTPUTS, {**WELL, "/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 200 kB\n"})
    _code, text = run(tmp_path, host, capsys, "all", "--format", "prometheus", "--textfile", str(textfile))
    assert textfile.read_text(encoding="utf-8") == text
    assert (textfile.stat().st_mode & 0o777, [path.name for path in textfile.parent.iterdir()]) == (0o644, ["hybridlab_all.prom"])
    found = exposition_check.read(text)
    assert found["hybridlab_memory_used_ratio"] == {'run="all"': 0.8}
    assert found["hybridlab_check_status"]['check="memory",run="all",subject=""'] == 1


def test_labels_are_escaped_and_unknown_names_refused() -> None:
    text = metrics.exposition([metric("hybridlab_check_status", 1, check="x", subject='a"b\\c\nd')], "daily")
    assert exposition_check.read(text) == {"hybridlab_check_status": {'check="x",run="daily",subject="a\\"b\\\\c\\nd"': 1.0}}
    with pytest.raises(ValueError, match="hybridlab_new"):
        metrics.exposition([metric("hybridlab_new", 1)], "daily")


def test_a_textfile_that_nobody_would_read_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        health.main(["daily", "--textfile", "/tmp/x.txt"])
    assert ended.value.code == 2


def test_without_settings_nothing_was_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(["daily", "--settings", str(tmp_path / "none")]) == 3
    assert "run playbooks/monitoring.yml" in capsys.readouterr().err


def test_faults_of_the_day_are_sent_and_a_good_day_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with receiving() as receiver:
        run(tmp_path, FakeHost(OUTPUTS, WELL), capsys, "daily", "--notify", receiver=receiver)
        assert receiver.bodies == []
        run(tmp_path, FakeHost({**OUTPUTS, "timedatectl": "NTPSynchronized=no\n"}, WELL), capsys, "daily", "--notify", receiver=receiver)
        assert [(body["severity"], "clock" in body["body"], "memory" in body["body"]) for body in receiver.bodies] == [("warning", True, False)]


def disk(severity: str) -> Check:
    return Check("disk", severity, f"/ is {severity}", "/", cure="look")


def steps(*severities: str) -> list[list[tuple[str, str]]]:
    """What is told at each of several runs with one check."""
    state: Any = {}
    told = []
    for severity in severities:
        state, changes = watch.compare(json.loads(json.dumps(state)), [disk(severity)])
        told.append([(change.event, change.severity) for change in changes])
    return told


def test_a_fault_is_told_once_and_its_end_once() -> None:
    bad, well = [("disk", "warning")], [("disk", "ok")]
    assert steps("ok", "warning", "warning", "ok", "ok", "ok") == [[], bad, [], [], well, []]


def test_a_value_that_swings_around_its_threshold_is_told_once() -> None:
    assert steps("warning", "ok", "warning", "ok", "warning", "ok", "ok") == [[("disk", "warning")], [], [], [], [], [], [("disk", "ok")]]


def test_what_gets_worse_is_told_and_what_gets_better_but_not_well_is_not() -> None:
    assert steps("warning", "critical", "warning", "critical") == [[("disk", "warning")], [("disk", "critical")], [], [("disk", "critical")]]


def test_what_is_gone_has_ended() -> None:
    state, _changes = watch.compare({}, [Check("container", "critical", "db is unhealthy", "db")])
    state, changes = watch.compare(state, [])
    assert changes == []
    state, changes = watch.compare(state, [])
    assert [(change.event, change.severity, change.subject) for change in changes] == [("container", "ok", "Well again: No longer so: db is unhealthy")]
    assert state == {}


@pytest.mark.parametrize("unit", ["x.service", "hybridlab-backup.service"])
def test_the_alert_of_a_unit_and_the_watch_do_not_both_tell(tmp_path: Path, unit: str) -> None:
    with receiving() as receiver:
        courier = Courier(Settings(state=str(tmp_path), webhooks=(Webhook("team", "generic", receiver.url),)))
        notify.unit_failed(courier, FakeHost({"systemctl show": "Result=exit-code\nExecMainStatus=1\n", "journalctl": "last words\n"}), unit)
        path = str(tmp_path / "watch.json")
        failed = [Check("failed_units", "critical", f"{unit} has failed", unit)]
        for checks in (failed, failed, [], []):
            watch.watch(courier, checks, path)
            courier.flush()
        assert len(receiver.bodies) == 2
        assert [body["severity"] for body in receiver.bodies] == ["critical", "info"]
        assert (receiver.bodies[0]["subject"], receiver.bodies[0]["body"]) == (f"{unit} has failed (exit-code, status 1)", "last words")
        assert (Path(path).stat().st_mode & 0o777, json.loads(Path(path).read_text(encoding="utf-8"))) == (0o600, {})


def test_the_dashboard_asks_only_for_metrics_that_exist() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"\b((?:node|hybridlab)_[A-Za-z0-9_]+)", query)}
    assert asked <= NODE_EXPORTER | set(metrics.METRICS)
    assert {name for name in NODE_EXPORTER if name not in asked} == set(), "named here, and not asked for"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in dashboard["panels"])
    # Two runs measure the same thing: a query that does not say which one it means counts it twice.
    for query in queries:
        for name, labels in re.findall(r"(hybridlab_[a-z0-9_]+)(\{[^}]*\})?", query):
            assert "run=" in labels, f"{name} without run in: {query}"

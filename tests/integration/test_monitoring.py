# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role monitoring on a real host: real systemd, journal, Docker, mail and node_exporter; a web server in the host plays the webhook.

The tests of this module build on each other and share one host.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.compare import plan
from tests.integration.lab import Lab, fresh
from tests.unit.monitoring import exposition_check
from tools import playbook

SECRET = "tok3n-nobody-may-see"
HOOK = "/root/hook"
MAIN = "playbooks/monitoring.yml"
LIBRARIES = "usr/lib/x86_64-linux-gnu"

# Keeps each body; answers what the file `answer` says.
RECEIVER = """
import http.server, pathlib
home = pathlib.Path("/root/hook")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = int((home / "answer").read_text())
        if status < 300:
            with (home / "received").open("ab") as stream:
                stream.write(body + b"\\n")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
(home / "port").write_text(str(server.server_address[1]))
server.serve_forever()
"""

# Everything else is left out: what is not built is not looked for.
MODEL: dict[str, Any] = {
    "platform_workloads": None,
    "platform_container_images": None,
    "platform_security": None,
    "platform_backup": None,
    "platform_docker": {"bridge": "docker_bridge", "gwbridge": "docker_gwbridge", "address_pools": [{"range": "docker_pool", "size": 24}]},
    "platform_monitoring": {
        "webhooks": [{"name": "team", "kind": "generic", "url": "hook_url"}],
        "mail": {"to": "root"},
        "watch_minutes": 60,
        "journal": {"days": 30, "max_mb": 64},
        "node_exporter": True,
        # Those of a machine that others use too must not decide.
        "thresholds": {name: {"warning": 99, "critical": 100} for name in ("disk_percent", "inodes_percent", "memory_percent")}
        | {"load_per_core": {"warning": 500, "critical": 1000}},
    },
}


class Watched:
    """The host, its webhook, and the arguments of every run."""

    def __init__(self, lab: Lab, arguments: tuple[str, ...]) -> None:
        self.lab, self.arguments = lab, arguments
        self.seen = 0

    def answer(self, status: int) -> None:
        self.lab.sh(f"echo {status} >{HOOK}/answer")

    def told(self, event: str = "") -> list[dict[str, Any]]:
        """What has arrived since the last call."""
        rows = [json.loads(line) for line in self.lab.sh(f"cat {HOOK}/received 2>/dev/null || :").splitlines()]
        found, self.seen = rows[self.seen :], len(rows)
        return [row for row in found if event in ("", row["event"])]

    def watch(self) -> list[dict[str, Any]]:
        self.lab.sh("systemctl start hybridlab-health-watch.service")
        return self.told()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with fresh("monitoring") as lab:
        lab.sh(f"mkdir {HOOK}; echo 204 >{HOOK}/answer; cat >{HOOK}/receiver.py <<'EOF'\n{RECEIVER}EOF\nsystemd-run --quiet python3 {HOOK}/receiver.py")
        lab.sh(f"for _ in $(seq 100); do [ ! -s {HOOK}/port ] || exit 0; sleep 0.1; done; exit 1")
        url = f"http://127.0.0.1:{lab.sh(f'cat {HOOK}/port')}/{SECRET}"
        path: Path = tmp_path_factory.mktemp("model") / "model.json"
        path.write_text(json.dumps({**MODEL, "platform_secrets": {"hook_url": {"value": url}}}), encoding="utf-8")
        yield Watched(lab, ("-e", f"@{path}"))


def test_the_first_run_does_what_was_planned(watched: Watched) -> None:
    foreseen = plan(watched.lab.played(MAIN, "--check", "--diff", *watched.arguments))
    first = watched.lab.played(MAIN, "--diff", *watched.arguments)
    done = plan(first)
    written = next(name for name in done if name.endswith("what logs may take"))
    assert foreseen[written] == done[written]
    # Packages and their units are not there yet: what is done to them is foreseen, how they are found then is not.
    assert {name: task["commands"] for name, task in foreseen.items()} == {name: task["commands"] for name, task in done.items()}
    assert SECRET not in first.output


def test_a_second_run_changes_nothing_and_sends_a_test_message_when_asked(watched: Watched) -> None:
    watched.told()
    second = watched.lab.played(MAIN, "--diff", "-e", "monitoring_test_message=true", *watched.arguments)
    assert [name.rpartition(" : ")[2] for name in plan(second)] == ["Send a test message to every channel"]
    watched.lab.sh("systemctl stop hybridlab-health-watch.timer; journalctl --sync")
    assert [(row["event"], row["host"], row["platform"]) for row in watched.told("test")] == [("test", "sandbox", "sandbox")]
    mail = watched.lab.sh("for _ in $(seq 50); do grep -sq 'This is a test' /var/mail/root && break; sleep 0.1; done; cat /var/mail/root")
    assert "Subject: [info] sandbox: This is a test" in mail
    assert watched.lab.sh("stat -c '%a %U' /etc/hybridlab/monitoring.json").split() == ["600", "root"]
    assert SECRET not in watched.lab.sh("journalctl --no-pager")


def test_daily_and_weekly_checks_in_three_formats(watched: Watched) -> None:
    for suite in ("daily", "weekly"):
        text = watched.lab.sh(f"hybridlab-health {suite} || [ $? -le 2 ]")
        assert f"sandbox: {suite} checks of" in text.splitlines()[0]
        answer = json.loads(watched.lab.sh(f"hybridlab-health {suite} --format json || [ $? -le 2 ]"))
        names = {row["name"] for row in answer["checks"]}
        assert names >= ({"memory", "disk", "inodes", "journal_errors", "time"} if suite == "daily" else {"updates", "journal_size", "reboot"})
        assert all(row["cure"] for row in answer["checks"] if row["severity"] != "ok")
        found = exposition_check.read(watched.lab.sh(f"hybridlab-health {suite} --format prometheus || [ $? -le 2 ]"))
        assert len(found["hybridlab_check_status"]) == len(answer["checks"])


def test_the_exporter_reads_our_metrics_and_answers_on_loopback_only(watched: Watched) -> None:
    watched.lab.sh("systemctl start hybridlab-health-daily hybridlab-health-weekly hybridlab-health-watch")
    fetch = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9100/metrics', timeout=10).read().decode())"
    text = watched.lab.sh(f'python3 -c "{fetch}"')
    assert "node_textfile_scrape_error 0" in text
    for run in ("daily", "weekly", "watch"):
        assert f'hybridlab_health_last_run_timestamp_seconds{{run="{run}"}}' in text
    assert watched.lab.sh("ss -Hltn 'sport = :9100' | awk '{print $4}'").split() == ["127.0.0.1:9100"]


def test_a_unit_that_fails_is_told_with_its_last_words(watched: Watched) -> None:
    watched.watch()
    watched.lab.sh(
        "printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"echo last words; exit 3\"\\n' >/etc/systemd/system/broken.service;"
        "systemctl daemon-reload; systemctl start broken.service && exit 1;"
        "for _ in $(seq 100); do grep -q broken.service /root/hook/received && exit 0; sleep 0.1; done; exit 1"
    )
    [row] = watched.told()
    assert (row["event"], row["severity"], row["subject"]) == ("unit-failed", "critical", "broken.service has failed (exit-code, status 3)")
    assert "last words" in row["body"]
    # The watch finds the same, and does not tell it again.
    assert watched.watch() == []
    watched.lab.sh("systemctl reset-failed broken.service")
    watched.watch()
    assert [(row["severity"], "broken.service" in row["subject"]) for row in watched.watch()] == [("info", True)]


def test_a_disk_that_crosses_its_threshold_is_told_once_and_so_is_its_end(watched: Watched) -> None:
    change = (
        "import json; p = '/etc/hybridlab/monitoring.json'; s = json.load(open(p)); s['thresholds']['disk_percent']['warning'] = {}; json.dump(s, open(p, 'w'))"
    )
    watched.lab.sh(f'python3 -c "{change.format(1)}"')
    told = [watched.watch() for _again in range(2)]
    assert {(row["event"], row["severity"]) for row in told[0]} == {("disk", "warning")}
    assert told[1] == []
    assert any(row["subject"].startswith("/ is ") and "What to do:" in row["body"] for row in told[0])
    watched.lab.sh(f'python3 -c "{change.format(99)}"')
    assert watched.watch() == []
    assert [(row["event"], row["severity"]) for row in watched.watch()] == [("disk", "info")] * len(told[0])
    assert watched.watch() == []


def test_what_the_webhook_does_not_take_is_kept_and_sent_later(watched: Watched) -> None:
    watched.answer(500)
    watched.lab.sh("echo 'no space left' | hybridlab-notify --event backup --severity critical --subject 'The backup has failed' 2>/root/hook/words")
    assert watched.told() == []
    words = watched.lab.sh(f"cat {HOOK}/words; find /var/lib/hybridlab/notify -type f -exec cat {{}} +; ls /var/lib/hybridlab/notify/spool")
    assert "team: the server answered 500" in words
    assert words.count("-team.json") == 1
    assert SECRET not in words
    watched.answer(204)
    assert [(row["event"], row["subject"], row["body"]) for row in watched.watch()] == [("backup", "The backup has failed", "no space left")]
    assert watched.lab.sh("ls /var/lib/hybridlab/notify/spool") == ""


def test_mail_that_nobody_takes_is_told(watched: Watched) -> None:
    # Loopback without a mail server: the message waits.
    watched.lab.sh("echo SMARTHOST 127.0.0.1 >>/etc/dma/dma.conf; echo lost | sendmail somebody@example.org")
    watched.lab.sh("for _ in $(seq 50); do ls /var/spool/dma/Q* >/dev/null 2>&1 && break; sleep 0.1; done; touch -d '-2 hours' /var/spool/dma/Q*")
    found = [row for row in watched.watch() if row["event"] == "mail"]
    assert [(row["severity"], row["subject"].partition(",")[0]) for row in found] == [("warning", "1 messages wait in the mail queue of this host")]
    watched.lab.sh("sed -i '/^SMARTHOST/d' /etc/dma/dma.conf; rm -f /var/spool/dma/[MQ]*")


def test_a_mail_agent_of_the_hosts_own_stays_and_has_its_queue_watched(watched: Watched) -> None:
    watched.lab.sh(
        "export DEBIAN_FRONTEND=noninteractive; echo 'postfix postfix/main_mailer_type select Local only' | debconf-set-selections;"
        "apt-get install -y -qq --no-install-recommends postfix >/dev/null 2>&1; postconf inet_interfaces=loopback-only; systemctl restart postfix;"
        "systemctl start hybridlab-health-watch.timer"
    )
    outcome = watched.lab.played(MAIN, *watched.arguments)
    watched.lab.sh("systemctl stop hybridlab-health-watch.timer")
    assert outcome.changed == 0, outcome.output[-3000:]
    assert watched.lab.sh("readlink -e /usr/sbin/sendmail").strip() == "/usr/sbin/sendmail"
    assert "127.0.0.1:25" in watched.lab.sh("ss -Hltn 'sport = :25'")
    # What is done to it where it is the role's own.
    script = (playbook.CHECKOUT / "roles/monitoring/files/postfix-local.sh").read_text(encoding="utf-8")
    run = f"sh -s -- {{}} <<'EOF'\n{script}\nEOF\n"
    assert [watched.lab.sh(run.format(verb)).split() for verb in ("check", "close", "close")] == [["closed"], ["closed"], []]
    watched.lab.sh("systemctl restart postfix; postfix check")
    assert watched.lab.sh("ss -Hltn 'sport = :25'") == ""
    watched.lab.sh("echo held | sendmail root; for _ in $(seq 100); do grep -sq held /var/mail/root && exit 0; sleep 0.1; done; exit 1")
    watched.lab.sh("postconf default_transport=smtp defer_transports=smtp; systemctl restart postfix; echo lost | sendmail somebody@example.org")
    watched.lab.sh("for _ in $(seq 100); do postqueue -j | grep -q '\"deferred\"' && exit 0; sleep 0.1; done; exit 1")
    text = watched.lab.sh("hybridlab-health daily --format json || [ $? -le 2 ]")
    assert [row["message"] for row in json.loads(text)["checks"] if row["name"] == "mail_queue"] == ["1 messages wait in the mail queue of this host"]


def test_an_unhealthy_container_is_told(watched: Watched) -> None:
    watched.lab.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io >/dev/null; systemctl start docker")
    watched.lab.sh(
        f"tar -C / -c bin lib lib64 usr/lib64 usr/bin/dash usr/bin/sh usr/bin/sleep {LIBRARIES}/libc.so.6 {LIBRARIES}/ld-linux-x86-64.so.2"
        " | docker import - tiny >/dev/null"
    )
    watched.lab.sh("docker run -d --name sick --health-cmd 'exit 1' --health-interval 1s --health-retries 1 tiny sleep 600 >/dev/null")
    until = time.monotonic() + 20
    while "unhealthy" not in watched.lab.sh("docker ps --format '{{.Status}}'") and time.monotonic() < until:
        time.sleep(0.5)
    found = [row for row in watched.watch() if row["event"] == "container"]
    assert [(row["severity"], row["subject"].startswith("Container sick is unhealthy")) for row in found] == [("critical", True)]
    text = watched.lab.sh("hybridlab-health daily || [ $? -le 2 ]")
    assert "CRITICAL Container sick is unhealthy" in text
    assert "Docker keeps Images" in text
    assert "Container sick takes" in text
    watched.lab.sh("docker rm -f sick >/dev/null")


def test_limits_of_logs_are_in_force(watched: Watched) -> None:
    assert "SystemMaxUse=64M" in watched.lab.sh("systemd-analyze cat-config systemd/journald.conf")
    watched.lab.sh("mkdir -p /var/log/docker; yes x | head -c 2000 >/var/log/docker/app.log; logrotate --force /etc/logrotate.d/docker")
    assert watched.lab.sh("ls /var/log/docker").split() == ["app.log", "app.log.1"]
    assert "MailTo = root" in watched.lab.sh("cat /etc/logwatch/conf/logwatch.conf; test -x /etc/cron.daily/00logwatch")
    # Of logs it says nothing where they are empty, of disks always.
    summary = watched.lab.sh("logwatch --output stdout --range today --service zz-disk_space")
    assert "Logwatch" in summary

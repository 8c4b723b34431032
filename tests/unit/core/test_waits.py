# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases, console logs and cloud-init's results are judged rightly, and a failed wait says how far the guest came."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.cloud_init import DONE, FAILED
from ansible_collections.hybridlab.platform.plugins.module_utils.core.waits import (
    MOST_LINES,
    CloudInit,
    Progress,
    explain,
    explain_cloud_init,
    is_new_lease,
    judge_console,
    judge_result,
    last_lines,
    lease_seconds,
    printable,
)

MAC = "52:54:00:aa:00:01"
BOOT = """\
\x1b[0;32m  OK  \x1b[0m] Started cloud-init-local.service\r
[   12.1] cloud-init[401]: Cloud-init v. 22.4.2 running 'modules:final' at Sat, 21 Nov 2026 12:00:00 +0000. Up 31.10 seconds.\r
"""
BROKEN = """\
[   13.0] cloud-init[402]: E: Unable to locate package nosuchpackage\r
[   14.0] cloud-init[402]: 2026-11-21 12:00:10,001 - cc_package_update_upgrade_install.py[ERROR]: failed to install\r
[   14.1] cloud-init[402]: 2026-11-21 12:00:10,002 - util.py[WARNING]: Running module package-update-upgrade-install (<module>) failed\r
"""


def test_terminal_output_reads_as_a_person_saw_it() -> None:
    text = "\x1bc\x1b[?7l\x1b[2J\x1b]0;title\x07one\r\n\n  \x1b[1;31mtwo\x1b[0m\x1b(B \x00\nold text\rnew\nthe password: geheim and token=abc\n"
    assert printable(text) == ["one", "  two", "new", "the password: *** and token=***"]
    assert last_lines("a\nb\nc\n", 2) == ("b", "c")
    assert last_lines("") == ()


@pytest.mark.parametrize(
    ("console", "state"),
    [
        ("", "unknown"),
        (BOOT, "unknown"),
        (f"{BOOT}{DONE}\r\n", "done"),
        (f"{BOOT}{BROKEN}", "unknown"),
        # Ours is the last word: what a module complained about on the way is no error when result.json has none.
        (f"{BOOT}{BROKEN}{DONE}\r\n", "done"),
        (f"{BOOT}Cloud-init v. 22.4.2 finished at Sat. Datasource DataSourceNoCloud.  Up 40.1 seconds\r\n", "done"),
        (f"{BOOT}{BROKEN}Cloud-init v. 22.4.2 finished at Sat. Datasource DataSourceNoCloud.  Up 40.1 seconds\r\n", "failed"),
        # A guest that rebooted: the later boot counts.
        (f"{FAILED} {{}}\n{BOOT}{DONE}\n", "done"),
        (f"{DONE}\n{BOOT}{FAILED} {{}}\n", "failed"),
    ],
)
def test_console_s_verdict_on_cloud_init(console: str, state: str) -> None:
    assert judge_console(console).state == state


def test_a_failed_cloud_init_names_its_errors_and_the_lines_that_tell_why() -> None:
    result = json.dumps({"v1": {"datasource": "DataSourceNoCloud", "errors": ["('scripts-user', RuntimeError('Runparts: 1 failures'))"]}})
    verdict = judge_console(f"{BOOT}{BROKEN}{FAILED} {result}\r\n")
    assert verdict.lines[0] == "('scripts-user', RuntimeError('Runparts: 1 failures'))"
    assert any("Unable to locate package nosuchpackage" in line for line in verdict.lines)
    assert not any("running 'modules:final'" in line for line in verdict.lines)
    message = explain_cloud_init(Progress("web", "cloud_init", 300, "qemu:///system", "/log"), verdict)
    assert message.startswith("guest web: cloud-init ended with errors: ('scripts-user'")
    assert "nosuchpackage" in message and "virsh -c qemu:///system console web" in message and "/log" in message


def test_lines_are_few_and_each_is_said_once() -> None:
    noise = "".join(f"x.py[WARNING]: number {number // 2}\n" for number in range(80))
    verdict = judge_console(noise)
    assert len(verdict.lines) == MOST_LINES == len(set(verdict.lines))
    assert verdict.lines[-1].endswith("number 39")


def test_errors_stay_in_front_of_a_long_log() -> None:
    verdict = judge_result('{"v1": {"errors": ["the cause"]}}', "\n".join(f"line {number}" for number in range(40)))
    assert verdict.lines[0] == "the cause" and verdict.lines[-1] == "line 39" and len(verdict.lines) == MOST_LINES


def test_cloud_init_s_result() -> None:
    assert judge_result('{"v1": {"datasource": "x", "errors": []}}') == CloudInit("done")
    assert judge_result('{"v1": {"errors": ["a\\nb"]}}', "log line\n") == CloudInit("failed", ("a", "b", "log line"))
    assert judge_result("{").lines == ("its result cannot be read: {",)
    assert judge_result("").lines == ("its result cannot be read: empty",)


def network(inside: str) -> str:
    return f"<network><ip address='10.0.1.1' prefix='24'><dhcp>{inside}</dhcp></ip></network>"


@pytest.mark.parametrize(
    ("xml", "seconds"),
    [
        ("<network/>", 3600),
        (network("<range start='10.0.1.2' end='10.0.1.9'/>"), 3600),
        (network("<range start='10.0.1.2' end='10.0.1.9'><lease expiry='5'/></range>"), 300),
        (network("<range start='10.0.1.2' end='10.0.1.9'><lease expiry='2' unit='hours'/></range><range start='a' end='b'/>"), 7200),
        (network("<range start='10.0.1.2' end='10.0.1.9'><lease expiry='0'/></range>"), math.inf),
        (network(f"<range start='a' end='b'/><host mac='{MAC.upper()}' ip='10.0.1.3'><lease expiry='120' unit='seconds'/></host>"), 120),
        (network(f"<range start='a' end='b'><lease expiry='5'/></range><host mac='{MAC}' ip='10.0.1.3'/>"), 300),
    ],
)
def test_how_long_a_lease_lasts(xml: str, seconds: float) -> None:
    assert lease_seconds(xml, MAC) == seconds


@pytest.mark.parametrize(
    ("expiry", "seconds", "new"),
    [
        (1000 + 3600, 3600, True),
        (1009 + 3600, 3600, True),
        # Given in the very second of the start: dnsmasq counts whole seconds.
        (1000 + 3600, 3600, True),
        (999 + 3600, 3600, False),
        # Infinite ones carry no time.
        (0, 3600, False),
        (99999, math.inf, False),
    ],
)
def test_only_a_lease_since_the_start_is_proof(expiry: int, seconds: float, new: bool) -> None:
    assert is_new_lease(expiry, seconds, since=1000.7) is new


def test_a_failure_says_how_far_the_guest_came() -> None:
    base = Progress("web", "ssh", 60, "qemu:///system", "/var/log/web-console.log", console=("Booting from Hard Disk...",))
    nowhere = explain(replace(base, expected="10.0.1.20", missing=("no new DHCP lease for x in network public", "nobody answers")))
    assert nowhere == (
        "guest web: it runs, but has no address (expected: 10.0.1.20) after 60 s: no new DHCP lease for x in network public; nobody answers. "
        "Its console's last lines: Booting from Hard Disk.... "
        "Look: `virsh -c qemu:///system console web` (end with Ctrl-]); its log is /var/log/web-console.log."
    )
    refused = explain(replace(base, address="10.0.1.20", proof="lease", trouble="no SSH at 10.0.1.20 port 2211 (connection refused)"))
    assert "wait_for: ssh was not reached within 60 s: no SSH at 10.0.1.20 port 2211 (connection refused) (it has lease 10.0.1.20)." in refused
    crashed = explain(replace(base, goal="agent", ended="it stopped (crashed) 3 s after its start"))
    assert crashed.startswith("guest web: it stopped (crashed) 3 s after its start before wait_for: agent was reached.")

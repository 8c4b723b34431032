# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scanning part of the mail platform: its workloads are sound entries of platform_workloads, and the daemons' settings follow the model."""

from __future__ import annotations

import re
import runpy
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_clamav, mail_rspamd
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Antivirus, Mail, MailDomain, Spam
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_workloads import parse_container_images, parse_workloads

IMAGES = Path(__file__).parents[3] / "images"
MAIL = Mail(hostname="mail.example.com", domains=(MailDomain("example.com"),), admins=("admin@example.com",))
WITHOUT = replace(MAIL, antivirus=Antivirus(enabled=False))
MIB = 1024 * 1024


def names(mail: Mail) -> list[str]:
    return [entry["name"] for entry in mail_rspamd.workloads(mail)]


def settings(text: str) -> dict[str, str]:
    """clamd.conf as a mapping."""
    return dict(line.split(" ", 1) for line in text.splitlines())


def megabytes(value: str) -> int:
    assert value.endswith("M")
    return int(value[:-1])


def source(entry: dict[str, Any]) -> set[str]:
    return {volume.get("name") or volume["source"] for volume in entry["volumes"]}


@pytest.mark.parametrize("mail", [MAIL, WITHOUT, replace(MAIL, antivirus=Antivirus(update=False)), replace(MAIL, spam=Spam(gtube="file", greylist=True))])
def test_entries_are_taken_and_run_without_rights(mail: Mail) -> None:
    images = [{"name": "base", "rootfs": "/base.tar"}, *mail_rspamd.images(mail, "/images")]
    assert [image.name for image in parse_container_images(images)] == [image["name"] for image in images]

    found = parse_workloads(mail_rspamd.workloads(mail), "lab", images=[image["name"] for image in images])

    for workload in found:
        assert (workload.read_only, workload.cap_drop, workload.cap_add, workload.ports) == (True, ("ALL",), (), ()), workload.name
        assert workload.user is not None and not workload.user.startswith("0"), workload.name
        assert workload.memory_mb and workload.health is not None and workload.stack == mail.stack, workload.name


def test_who_runs() -> None:
    assert names(MAIL) == ["redis", "clamav", "freshclam", "rspamd"]
    assert names(replace(MAIL, antivirus=Antivirus(update=False))) == ["redis", "clamav", "rspamd"]
    assert names(WITHOUT) == ["redis", "rspamd"]
    assert [image["name"] for image in mail_rspamd.images(WITHOUT, "/images")] == ["mail-redis", "mail-rspamd"]
    assert all((IMAGES / Path(image["context"]).name / "Dockerfile").is_file() for image in mail_rspamd.images(MAIL, "/images"))


def test_a_volume_is_mounted_only_where_it_is_needed() -> None:
    volumes = {entry["name"]: source(entry) for entry in mail_rspamd.workloads(MAIL)}
    assert volumes["redis"] == {"redis", "sockets_redis"}
    assert volumes["clamav"] == volumes["freshclam"] == {"clamav", "sockets_clamav"}
    assert volumes["rspamd"] == {"rspamd", "sockets_rspamd", "sockets_redis", "sockets_clamav", "/data/mail/dkim"}
    assert "sockets_clamav" not in source(mail_rspamd.workloads(WITHOUT)[-1])
    dkim = [volume for volume in mail_rspamd.workloads(MAIL)[-1]["volumes"] if volume.get("source")]
    assert dkim == [{"source": "/data/mail/dkim", "target": "/srv/dkim", "read_only": True}]


def test_actions_and_greylisting() -> None:
    assert mail_rspamd.actions(MAIL) == "reject = 15;\nadd_header = 6;\ngreylist = null;\n"
    spam = replace(MAIL, spam=Spam(reject=12.5, junk=4.5, greylist=True))
    assert mail_rspamd.actions(spam) == "reject = 12.5;\nadd_header = 4.5;\ngreylist = 3;\n"
    configs = {config["name"]: config["content"] for config in mail_rspamd.workloads(spam)[-1]["configs"]}
    assert configs["rspamd_greylist"] == "enabled = true;\n"


def test_rate_of_a_login() -> None:
    assert 'rate = "200 / 1h";' in mail_rspamd.ratelimit(MAIL)
    assert "burst = 200;" in mail_rspamd.ratelimit(MAIL)
    assert mail_rspamd.ratelimit(replace(MAIL, spam=Spam(rate_per_hour=0))) == "enabled = false;\n"


def test_no_private_network_is_trusted() -> None:
    assert 'local_addrs = ["127.0.0.0/8", "::1/128"];' in mail_rspamd.options(MAIL)


@pytest.mark.parametrize(
    ("antivirus", "gtube", "check"),
    [(True, "reject", "virus"), (True, "file", "virus"), (False, "reject", "gtube"), (False, "file", "file")],
)
def test_the_health_check_asks_for_what_is_on(antivirus: bool, gtube: str, check: str) -> None:
    mail = replace(MAIL, antivirus=Antivirus(enabled=antivirus), spam=Spam(gtube=gtube))
    rspamd = mail_rspamd.workloads(mail)[-1]
    assert rspamd["health"]["command"] == ["/usr/local/bin/rspamd-health", check]
    platform = next(config["content"] for config in rspamd["configs"] if config["name"] == "rspamd_platform")
    assert f"antivirus = {str(antivirus).lower()};" in platform
    assert f'gtube = "{gtube}";' in platform
    assert next(image["args"] for image in mail_rspamd.images(mail, "/images") if image["name"] == "mail-rspamd") == {"GTUBE": gtube}


@pytest.mark.parametrize("size", [1, 25, 100])
def test_what_postfix_takes_clamd_scans(size: int) -> None:
    mail = replace(MAIL, message_mb=size)
    clamd = settings(mail_clamav.clamd(mail))
    rspamd = re.search(r"max_message = (\d+);", mail_rspamd.options(mail))
    assert rspamd is not None
    assert size * MIB < int(rspamd.group(1)) < megabytes(clamd["StreamMaxLength"]) * MIB
    assert megabytes(clamd["MaxFileSize"]) >= megabytes(clamd["StreamMaxLength"])
    assert megabytes(clamd["MaxScanSize"]) > megabytes(clamd["MaxFileSize"])
    (tmpfs,) = mail_rspamd.workloads(mail)[1]["tmpfs"]
    assert tmpfs["size_mb"] >= megabytes(clamd["MaxScanSize"])


def test_time_limits_grow_outwards() -> None:
    """clamd gives up before Rspamd stops to wait for it, Rspamd before its task ends."""
    text = (IMAGES / "mail_rspamd/local.d/options.inc").read_text(encoding="utf-8")
    task = re.search(r"task_timeout = (\d+)s;", text)
    proxy = re.search(r"timeout = (\d+)s;", (IMAGES / "mail_rspamd/local.d/worker-proxy.inc").read_text(encoding="utf-8"))
    assert task is not None and proxy is not None
    assert mail_clamav.SCAN_MAX_MS / 1000 < mail_clamav.SCAN_SECONDS < int(task.group(1)) < int(proxy.group(1))
    assert "soft_reject_on_timeout = true;" in text


def test_what_clamd_does_not_read_to_its_end_is_said() -> None:
    assert settings(mail_clamav.clamd(MAIL))["AlertExceedsMax"] == "yes"
    script = (IMAGES / "mail_rspamd/lua/platform/antivirus.lua").read_text(encoding="utf-8")
    assert 'LIMITS = "Heuristics.Limits.Exceeded"' in script
    assert script.index("find(LIMITS") < script.index('"Virus found: "')


def test_addresses_are_compared_without_the_detail_that_the_model_has() -> None:
    assert '  subaddress = "+";\n' in mail_rspamd.platform(MAIL)
    assert "subaddress" not in mail_rspamd.platform(replace(MAIL, subaddress=None))


def test_every_script_is_asked_for() -> None:
    """Rspamd is silent about rules that nobody loads."""
    directory = IMAGES / "mail_rspamd/lua"
    text = "".join(path.read_text(encoding="utf-8") for path in directory.rglob("*.lua"))
    assert set(re.findall(r'require "platform/(\w+)"', text)) == {path.stem for path in (directory / "platform").iterdir()}


def test_a_lost_question_to_a_name_server_is_asked_again() -> None:
    text = (IMAGES / "mail_rspamd/local.d/options.inc").read_text(encoding="utf-8")
    seconds, times = (re.search(rf"  {key} = ([0-9.]+)", text) for key in ("timeout", "retransmits"))
    assert seconds is not None and times is not None
    assert float(seconds[1]) >= 1 and int(times[1]) > 1


def test_signatures_are_read_beside_the_old_ones_only_where_both_fit() -> None:
    assert settings(mail_clamav.clamd(MAIL))["ConcurrentDatabaseReload"] == "yes"
    assert settings(mail_clamav.clamd(replace(MAIL, antivirus=Antivirus(memory_mb=2048))))["ConcurrentDatabaseReload"] == "no"


def test_clamd_writes_no_log_file_and_takes_its_socket_back() -> None:
    clamd = settings(mail_clamav.clamd(MAIL))
    assert "LogFile" not in clamd
    assert (clamd["FixStaleSocket"], clamd["Foreground"], clamd["LocalSocket"]) == ("yes", "yes", "/run/mail/clamav/clamd")
    assert "TCPSocket" not in clamd


def test_the_built_in_signature_is_the_test_file() -> None:
    name, kind, place, body = (IMAGES / "mail_clamav/platform.ndb").read_text(encoding="ascii").strip().split(":")
    assert (name, kind, place) == ("Platform.Test.EICAR", "0", "*")
    text = bytes.fromhex(body)
    assert len(text) == 68
    assert text.startswith(b"X5O!") and text.endswith(b"$H+H*")


def _header(made: int) -> bytes:
    return f"ClamAV-VDB:21 Nov 2026 09-00 +0000:27500:2000000:90:{'0' * 32}:sig:builder:{made}".encode().ljust(512)


def test_age_of_signatures(tmp_path: Path) -> None:
    module = runpy.run_path(str(IMAGES / "mail_clamav/clamav_signatures.py"))
    state = module["state"]
    day = 86400
    (tmp_path / "platform.ndb").write_text("x")
    assert state(tmp_path, 100 * day).startswith("signatures: built-in only")
    (tmp_path / "main.cvd").write_bytes(_header(1 * day))
    assert state(tmp_path, 100 * day).startswith("signatures: built-in only")
    (tmp_path / "daily.cvd").write_bytes(_header(50 * day))
    (tmp_path / "daily.cld").write_bytes(_header(99 * day))
    assert state(tmp_path, 100 * day) == "signatures: official ones, 1.0 days old (daily, main)"
    assert "older than 7 days" in state(tmp_path, 110 * day)
    (tmp_path / "daily.cld").write_bytes(struct.pack(">I", 7))
    assert "50.0 days" in state(tmp_path, 100 * day)


def test_downloads_back_off(tmp_path: Path) -> None:
    text = (IMAGES / "mail_clamav/clamav-update").read_text(encoding="utf-8")
    copy = tmp_path / "update.py"
    copy.write_text(text.replace("/usr/local/lib/clamav", str(IMAGES / "mail_clamav")), encoding="utf-8")
    module = runpy.run_path(str(copy), run_name="update")
    waits = [module["next_wait"](failed) for failed in range(1, 40)]
    assert 60 <= waits[0] <= 66
    assert all(later * 1.1 >= earlier for earlier, later in zip(waits, waits[1:]))
    assert waits[-1] <= module["LONGEST_WAIT_SECONDS"] * 1.1
    assert module["FRESH_SECONDS"] <= module["next_wait"](0)

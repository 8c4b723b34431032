# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages against a real web server on loopback: retried, kept, limited, and no word of the webhook's address anywhere."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring import channels, courier, limits, message, notify
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.courier import Courier
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.message import Message
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.settings import Settings, SettingsError, Webhook, load, parse
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.spool import AGE_SECONDS, Spool
from ansible_collections.hybridlab.platform.tests.unit.monitoring.receiver import HANG, SECRET, Receiver, receiving

PACKAGE = Path(courier.__file__).parent.parent


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def made(tmp_path: Path, receiver: Receiver, kind: str = "generic") -> Courier:
    settings = Settings(host="kvm1", state=str(tmp_path), webhooks=(Webhook("team", kind, receiver.url),))
    return Courier(settings, sleep=lambda _seconds: None)


def waiting(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "notify/spool").iterdir())


def everything(tmp_path: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "notify").rglob("*") if path.is_file())


def test_a_message_is_delivered_and_nothing_stays(tmp_path: Path, receiver: Receiver) -> None:
    found = made(tmp_path, receiver)
    assert found.send(found.message("ban", "warning", "sshd banned 192.0.2.1", "why"))
    assert [(body["event"], body["subject"], body["host"]) for body in receiver.bodies] == [("ban", "sshd banned 192.0.2.1", "kvm1")]
    assert waiting(tmp_path) == []


def test_an_error_of_the_server_is_tried_again(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer(500, 503, 204)
    found = made(tmp_path, receiver)
    assert found.send(found.message("ban", "warning", "x"))
    assert len(receiver.paths) == 3


def test_the_server_says_how_long_to_wait(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer((429, {"Retry-After": "7"}), 503, 204)
    slept: list[float] = []
    found = made(tmp_path, receiver)
    found.sleep = slept.append
    found.send(found.message("ban", "warning", "x"))
    assert slept == [7.0, 2.0]


def test_a_wait_that_is_too_long_leaves_the_message_for_later(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer((429, {"Retry-After": "3600"}))
    found = made(tmp_path, receiver)
    assert not found.send(found.message("ban", "warning", "x"))
    assert (len(receiver.paths), len(waiting(tmp_path))) == (1, 1)


@pytest.mark.parametrize("answer", [500, 404, 401, 400, 302])
def test_what_is_not_taken_is_kept_and_sent_later_in_order(tmp_path: Path, receiver: Receiver, answer: int, capsys: pytest.CaptureFixture[str]) -> None:
    receiver.answer((answer, {"Location": receiver.url}))
    found = made(tmp_path, receiver)
    for subject in ("first", "second"):
        assert not found.send(found.message("backup", "critical", subject))
    assert "Kept, and sent later: first" in capsys.readouterr().err
    assert [(path.stat().st_mode & 0o777) for path in waiting(tmp_path)] == [0o600, 0o600]
    receiver.answer(204)
    assert found.flush()
    assert receiver.subjects() == ["first", "second"]
    assert waiting(tmp_path) == []


def test_a_server_that_is_down_is_asked_once_by_a_flush(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer(500)
    found = made(tmp_path, receiver)
    for number in range(5):
        found.accept(found.message("ban", "warning", f"m{number}"))
    assert not found.flush()
    assert len(receiver.paths) == 1


def test_a_server_that_hangs_is_left(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer(HANG)
    outcome = channels.post(Webhook("team", "generic", receiver.url), Message("ban", "info", "x", "", 0.0, "h", "p"), seconds=0.3)
    assert (outcome.delivered, outcome.again, outcome.why) == (False, True, "team: no answer in time")


def test_a_message_that_is_being_sent_is_not_sent_by_another_process(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer(HANG)
    found = made(tmp_path, receiver)
    paths = found.accept(found.message("ban", "warning", "x"))
    thread = threading.Thread(target=lambda: found.deliver(paths or [], waits=()))
    thread.start()
    time.sleep(0.2)
    calls: list[str] = []
    other = made(tmp_path, receiver)
    other.attempt = lambda _settings, channel, _message: calls.append(channel) or channels.Outcome(True)  # type: ignore[func-returns-value]
    other.flush()
    receiver.released.set()
    thread.join()
    assert calls == []


def test_the_address_is_nowhere(tmp_path: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    found = made(tmp_path, receiver)
    for answer in (500, 404, 400):
        receiver.answer(answer)
        found.send(found.message("ban", "warning", f"answer {answer}"))
    closed = Webhook("team", "generic", f"http://127.0.0.1:1/{SECRET}")
    foreign = Webhook("team", "generic", f"https://no-such-host.invalid/{SECRET}")
    plain = Webhook("team", "generic", receiver.url.replace("http:", "https:"))
    some = Message("ban", "info", "x", "", 0.0, "h", "p")
    words = [channels.post(webhook, some, seconds=2).why for webhook in (closed, foreign, plain)]
    assert all(words)
    told = capsys.readouterr()
    assert SECRET not in told.err + told.out + "".join(words) + everything(tmp_path) + repr(closed) + repr(found.settings)
    assert found.test() is False
    assert SECRET not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"http://example.org/{SECRET}", "clear text"),
        (f"ftp://example.org/{SECRET}", "only https"),
        (SECRET, "no web address"),
        (f"https://[::1/{SECRET}", "no web address"),
        (f"https://example.org:no/{SECRET}", "no web address"),
        (f"https://example.org/a b{SECRET}", "no web address"),
    ],
)
def test_an_address_that_must_not_be_used_is_refused_without_showing_it(tmp_path: Path, url: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "monitoring.json"
    path.write_text(json.dumps({"webhooks": [{"name": "team", "kind": "discord", "url": url}]}), encoding="utf-8")
    assert notify.main(["--check", str(path)]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "webhooks[team].url" in told
    assert SECRET not in told


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "no JSON object"),
        ({"webhook": []}, "webhook: there is no such key"),
        ({"units": "docker"}, "units: must be a list"),
        ({"mail_to": 3}, "mail_to: must be a text"),
        ({"thresholds": {"memory": {}}}, "thresholds.memory: there is no such threshold"),
        ({"thresholds": {"memory_percent": {"warn": 3}}}, "thresholds.memory_percent"),
        ({"webhooks": [{"name": "a"}]}, "webhooks[0]"),
        ({"webhooks": [{"name": "a", "kind": "irc", "url": "https://x"}]}, "webhooks[a].kind"),
    ],
)
def test_wrong_settings_are_named(raw: Any, words: str) -> None:
    with pytest.raises(SettingsError) as fault:
        parse(raw)
    assert words in str(fault.value)


def test_missing_and_broken_settings_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="run playbooks/monitoring"):
        load(str(tmp_path / "none.json"))
    (tmp_path / "half.json").write_text('{"platform', encoding="utf-8")
    with pytest.raises(SettingsError, match="can't be read"):
        load(str(tmp_path / "half.json"))


def test_the_same_message_is_sent_once_and_the_next_one_says_how_many_were_not(tmp_path: Path, receiver: Receiver) -> None:
    found = made(tmp_path, receiver)
    for _again in range(5):
        found.send(found.message("unit-failed", "critical", "x.service has failed", key="x.service"))
    found.send(found.message("unit-failed", "critical", "y.service has failed", key="y.service"))
    assert receiver.subjects() == ["x.service has failed", "y.service has failed"]
    assert receiver.bodies[1]["suppressed"] == "4 more messages were held back, the last about: x.service"


def test_what_has_ended_may_begin_again_at_once(tmp_path: Path, receiver: Receiver) -> None:
    found = made(tmp_path, receiver)
    for _again in range(2):
        found.send(found.message("unit-failed", "critical", "x", key="x"))
        found.over("unit-failed", "x")
    assert len(receiver.bodies) == 2


def test_an_attack_gives_a_limited_number_of_messages_and_one_summary() -> None:
    state: dict[str, Any] = {}
    sent = [told for second in range(1000) if (told := limits.admit(state, "ban", f"192.0.2.{second}", 1000.0 + second)) is not None]
    assert len(sent) == limits.COUNT
    assert limits.admit(state, "backup", "failed", 2000.0) == ""
    assert limits.overdue(state, 2000.0) == []
    [(event, words)] = limits.overdue(state, 1000 + limits.COUNT + limits.WINDOW_SECONDS)
    assert (event, words.startswith("988 more messages were held back")) == ("ban", True)
    assert limits.overdue(state, 99_999.0) == []


def test_a_clock_that_is_set_back_holds_nothing_for_ever() -> None:
    state: dict[str, Any] = {}
    for number in range(limits.COUNT + 1):
        limits.admit(state, "ban", str(number), 5_000_000.0)
    assert limits.admit(state, "ban", "0", 1000.0) is not None


def test_what_waits_for_a_week_is_dropped(tmp_path: Path, receiver: Receiver) -> None:
    found = made(tmp_path, receiver)
    found.accept(found.message("ban", "warning", "x"))
    assert found.spool.prune(time.time() + AGE_SECONDS - 60) == 0
    assert found.spool.prune(time.time() + AGE_SECONDS + 60) == 1


def test_a_broken_file_in_the_spool_stops_nothing(tmp_path: Path, receiver: Receiver) -> None:
    found = made(tmp_path, receiver)
    (tmp_path / "notify/spool/00000000000001-x-team.json").write_text("{", encoding="utf-8")
    found.accept(found.message("ban", "warning", "x"))
    assert found.flush() is True
    assert receiver.subjects() == ["x"]
    assert oct((tmp_path / "notify").stat().st_mode)[-3:] == "700"


HOSTILE = "@everyone ``` <@&123> <@!42> @here \x1b[31m\x00 " + "\U0001f4a3" * 9000


def test_discord_gets_what_it_takes_and_mentions_nobody(tmp_path: Path, receiver: Receiver) -> None:
    found = made(tmp_path, receiver, "discord")
    found.send(found.message("ban", "critical", HOSTILE, HOSTILE))
    [body] = receiver.bodies
    [embed] = body["embeds"]

    def units(text: str) -> int:
        return len(text.encode("utf-16-le")) // 2

    assert units(embed["title"]) <= 256
    assert units(embed["description"]) <= 4096
    assert units(embed["title"] + embed["description"] + embed["footer"]["text"]) <= 6000
    assert body["allowed_mentions"] == {"parse": []}
    text = embed["title"] + embed["description"]
    assert "@everyone" not in text
    assert "@here" not in text
    assert "<@&123>" not in text
    assert "\x1b" not in text
    assert embed["description"].count("```") == 2


def test_a_generic_webhook_mentions_nobody_either() -> None:
    text = json.dumps(message.generic(Message("ban", "info", "@everyone", HOSTILE[:60], 0.0, "h", "p")), ensure_ascii=False)
    assert "@everyone" not in text
    assert "@here" not in text


def test_long_bodies_keep_their_beginning_and_end() -> None:
    text = message.cleaned("begin " + "x" * 50_000 + " end", 1000)
    assert len(text) <= 1000
    assert text.startswith("begin")
    assert text.endswith("end")


def test_mail_goes_by_the_local_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = tmp_path / "sendmail"
    agent.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/argv\ncat >{tmp_path}/letter\n', encoding="utf-8")
    agent.chmod(0o755)
    monkeypatch.setattr(channels, "PATH", f"{tmp_path}:/usr/bin:/bin")
    found = Courier(Settings(host="kvm1", state=str(tmp_path), mail_to="admin@example.org", mail_from="kvm1@example.org"))
    assert found.send(found.message("backup", "critical", "Line\r\nBcc: evil@example.org", "body"))
    assert (tmp_path / "argv").read_text(encoding="utf-8").split() == ["-i", "--", "admin@example.org"]
    header = (tmp_path / "letter").read_text(encoding="utf-8").split("\n\n")[0]
    assert "\nBcc:" not in header
    assert "Subject: [critical] kvm1: Line Bcc: evil@example.org" in header
    monkeypatch.setattr(channels, "PATH", "/nonexistent")
    assert "no sendmail" in channels.send_mail(found.settings, found.message("a", "info", "b")).why


def settings_file(tmp_path: Path, receiver: Optional[Receiver] = None) -> str:
    path = tmp_path / "monitoring.json"
    rows = [{"name": "team", "kind": "generic", "url": receiver.url}] if receiver else []
    path.write_text(json.dumps({"state": str(tmp_path), "webhooks": rows}), encoding="utf-8")
    return str(path)


def command(tmp_path: Path, receiver: Receiver, *words: str, stdin: Any = subprocess.DEVNULL, text: Optional[str] = None) -> subprocess.CompletedProcess[str]:
    code = "import sys; from hybridlab_monitoring.notify import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, "--settings", settings_file(tmp_path, receiver), *words]
    source: dict[str, Any] = {"stdin": stdin} if text is None else {"input": text}
    return subprocess.run(argv, env={**os.environ, "PYTHONPATH": str(PACKAGE)}, capture_output=True, text=True, timeout=20, check=False, **source)


def test_the_command_reads_its_body_and_ends_although_nobody_closes_it(tmp_path: Path, receiver: Receiver) -> None:
    done = command(tmp_path, receiver, "--event", "ban", "--subject", "one", text="192.0.2.1\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.bodies[0]["body"] == "192.0.2.1"
    reading, writing = os.pipe()
    try:
        began = time.monotonic()
        done = command(tmp_path, receiver, "--event", "ban", "--subject", "two", stdin=reading)
        assert (done.returncode, time.monotonic() - began < 10) == (0, True)
    finally:
        os.close(reading)
        os.close(writing)
    assert receiver.subjects() == ["one", "two"]


def test_the_test_message_says_whether_it_arrived(tmp_path: Path, receiver: Receiver) -> None:
    assert command(tmp_path, receiver, "--test").returncode == 0
    receiver.answer(404)
    done = command(tmp_path, receiver, "--test")
    assert done.returncode == 1
    assert "team: the server answered 404" in done.stderr
    assert SECRET not in done.stderr
    assert not list(Spool(f"{tmp_path}/notify").waiting())


@pytest.mark.parametrize("words", [[], ["--event", "ban"], ["--event", "Not OK", "--subject", "x"], ["--test", "--flush"]])
def test_wrong_use_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        notify.main(words)
    assert ended.value.code == 2


def test_without_a_channel_the_journal_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert notify.main(["--settings", settings_file(tmp_path), "--event", "ban", "--subject", "x"]) == 0
    assert "nobody is told: x" in capsys.readouterr().err

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module mail_accounts on real SQLite files, read as the daemons read them."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import sqlite3
import tarfile
import time
from multiprocessing.synchronize import Event as EventType
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_accounts, mail_store
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail, Mailbox, MailDomain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_store import Store
from ansible_collections.hybridlab.platform.tests.unit.mail_accounts.mail_host import HASH, MailHost, addresses, model, seen

ANNA, BERT = "anna@example.com", "bert@example.com"
ROUTE = "SELECT target FROM routes WHERE address = ?"


def mail_of(host: MailHost, address: str, text: str = "From: x\n\nhello\n") -> Path:
    local, domain = address.split("@")
    for tree in ("mail", "home"):
        (host.data / tree / domain / local).mkdir(parents=True)
    message = host.data / "mail" / domain / local / "cur" / "1.M1.host:2,S"
    message.parent.mkdir()
    message.write_text(text, encoding="utf-8")
    return message


class TestWhatDaemonsRead:
    def test_first_run(self, host: MailHost) -> None:
        planned = host.module(model(), {ANNA: "correct horse"}, check=True)
        assert not host.data.exists()
        made = host.module(model(), {ANNA: "correct horse"})
        assert seen(planned) == seen(made)
        assert made["changed"] and made["without_password"] == [BERT]
        assert made["commands"][0] == "mailctl domain set example.com" and f"mailctl password {ANNA}" in made["commands"]
        again = host.module(model(), {ANNA: "correct horse"})
        assert not again["changed"] and again["commands"] == [] and again["before"] == made["after"]

    def test_no_password_anywhere_but_on_standard_input(self, host: MailHost) -> None:
        answer = host.module(model(), {ANNA: "correct horse"})
        assert "correct horse" not in str(answer) and "argon2id" not in str(answer)
        assert "correct horse" not in "".join(host.docker_lines())
        assert any(line.startswith("run --rm --interactive --network=none") for line in host.docker_lines())

    def test_routes(self, host: MailHost) -> None:
        host.module(model(catch_all=ANNA))
        assert host.ask(ROUTE, ANNA) == [(ANNA,)]
        assert host.ask(ROUTE, BERT) == [(BERT,), ("bert@example.net",)]
        assert host.ask(ROUTE, "info@example.com") == [(ANNA,), (BERT,)]
        assert host.ask(ROUTE, "postmaster@example.com") == [(ANNA,)]
        assert host.ask(ROUTE, "@example.com") == [(ANNA,)]
        assert host.ask("SELECT address FROM recipients") == [(ANNA,), (BERT,)]

    def test_forward_without_copy(self, host: MailHost) -> None:
        config = model(mailboxes=[{"local": "anna"}, {"local": "bert", "forward_to": ["bert@example.net"], "keep_copy": False}])
        host.module(config)
        assert host.ask(ROUTE, BERT) == [("bert@example.net",)]

    def test_who_may_send(self, host: MailHost) -> None:
        host.module(model())
        assert host.ask("SELECT login FROM senders WHERE address = ?", "info@example.com") == [(ANNA,), (BERT,)]
        assert host.ask("SELECT login FROM senders WHERE address = ?", "postmaster@example.com") == [(ANNA,)]
        assert host.ask("SELECT login FROM senders WHERE address = ?", "staff@example.com") == []
        assert host.ask("SELECT login FROM members WHERE address = ?", "staff@example.com") == [(ANNA,), (BERT,)]

    def test_quota_and_state(self, host: MailHost) -> None:
        host.module(model(mailboxes=[{"local": "anna", "quota_mb": 500}, {"local": "bert", "enabled": False}]), {ANNA: HASH, BERT: HASH})
        assert host.ask("SELECT quota_bytes FROM mailboxes WHERE address = ?", ANNA) == [(500 * 1024 * 1024,)]
        assert host.password(ANNA) == (HASH, 1) and host.password(BERT) == (HASH, 0)
        assert host.ask(ROUTE, BERT) == [(BERT,)], "a mailbox that is shut goes on receiving"

    def test_owners_and_modes(self, host: MailHost) -> None:
        host.module(model())
        wanted = {
            "accounts": (0o2770, 0, 5020),
            "accounts/directory.sqlite": (0o640, 0, 5020),
            "passwords": (0o2770, 0, 5021),
            "passwords/passwords.sqlite": (0o640, 5007, 5021),
        }
        for name, (mode, owner, group) in wanted.items():
            found = (host.data / name).stat()
            assert found.st_mode & 0o7777 == mode, name
            assert os.geteuid() != 0 or (found.st_uid, found.st_gid) == (owner, group), name
        (host.data / "accounts/directory.sqlite").chmod(0o666)
        assert host.module(model(), check=True)["changed"]
        assert host.module(model())["changed"]
        assert not host.module(model())["changed"]
        assert (host.data / "accounts/directory.sqlite").stat().st_mode & 0o7777 == 0o640


class TestPasswords:
    def test_what_the_owner_has_set_stays(self, host: MailHost) -> None:
        host.module(model(), {ANNA: "correct horse"})
        first = host.password(ANNA)
        assert not host.module(model(), {ANNA: "another horse"})["changed"]
        assert host.password(ANNA) == first

    def test_always(self, host: MailHost) -> None:
        def run(password: str) -> bool:
            return bool(host.module(model(), {ANNA: password}, update_passwords="always")["changed"])

        assert [run("correct horse"), run("correct horse"), run("another horse"), run("another horse")] == [True, False, True, False]
        host.done("password", ANNA, "--stdin", stdin="the owner's own\n")
        assert run("another horse") and not run("another horse")
        record = host.root / "declared.json"
        assert record.stat().st_mode & 0o777 == 0o600 and "horse" not in record.read_text(encoding="utf-8")

    def test_without_dovecot_its_image_hashes_and_without_a_service_nothing(self, host: MailHost) -> None:
        host.module(model(), {ANNA: "correct horse"})
        (line,) = (line for line in host.docker_lines() if line.startswith("run "))
        assert "--entrypoint= hybridlab/mail:1 /bin/sh" in line and "--network=none" in line
        host.module(model(), {BERT: "correct horse"}, image="other:2")
        assert [line for line in host.docker_lines() if "--entrypoint= other:2 /bin/sh" in line]
        (host.root / "no-service").touch()
        answer = host.module(model(), {ANNA: "another horse"}, update_passwords="always")
        assert answer["failed"] and "there is no service of it" in answer["msg"]

    def test_a_given_hash_needs_no_docker(self, host: MailHost) -> None:
        (host.root / "bin" / "docker").unlink()
        host.monkeypatch.setenv("PATH", str(host.root / "bin"))
        host.module(model(), {ANNA: HASH})
        assert host.password(ANNA) == (HASH, 1)
        answer = host.module(model(), {BERT: "correct horse"})
        assert answer["failed"] and "no docker" in answer["msg"] and host.password(BERT) is None

    @pytest.mark.parametrize(
        ("value", "words"), [("", "no text"), ("two\nlines", "control character"), ("{PLAIN}horse", "no hash that may be stored"), ("x" * 2000, "1024")]
    )
    def test_refused(self, host: MailHost, value: str, words: str) -> None:
        answer = host.module(model(), {ANNA: value})
        assert answer["failed"] and words in answer["msg"] and ANNA in answer["msg"]
        assert len(value) < 3 or value not in answer["msg"]
        assert not host.data.exists()


# What a model without Bert, alias and group would take away.
LOST = [BERT, "info@example.com", "staff@example.com"]


class TestChanges:
    @pytest.mark.parametrize(
        ("less", "lost"),
        [
            ({"aliases": [], "groups": [{"local": "staff", "members": [ANNA], "senders": "members"}]}, ["info@example.com"]),
            ({"groups": []}, ["staff@example.com"]),
            ({"name": "example.org"}, [ANNA, BERT, "@example.com"]),
        ],
    )
    def test_an_address_or_a_domain_is_not_lost_unasked(self, host: MailHost, less: dict[str, Any], lost: list[str]) -> None:
        host.module(model())
        text = json.dumps(model(**less))
        wanted = json.loads(text.replace("@example.com", "@example.org") if "name" in less else text)
        before = host.store.read()
        refused = host.module(wanted, state="overridden")
        assert set(lost) <= set(refused["disruptive"]) and host.store.read() == before
        assert host.module(wanted, state="overridden", allow_disruption=True)["changed"]

    def test_merged_keeps_and_overridden_removes(self, host: MailHost) -> None:
        host.module(model(), {ANNA: HASH, BERT: HASH})
        less = model(mailboxes=[{"local": "anna"}], aliases=[], groups=[])
        merged = host.module(less)
        assert addresses(merged["after"]["mailboxes"]) == [ANNA, BERT]
        (told,) = merged["warnings"]
        assert "bert@example.com, info@example.com, staff@example.com" in told and "not in the model" in told
        refused = host.module(less, state="overridden")
        assert refused["failed"] and BERT in refused["msg"] and "allow_disruption" in refused["msg"] and refused["disruptive"] == LOST
        checked = host.module(less, state="overridden", check=True)
        assert checked["disruptive"] == LOST and any("allow_disruption" in words for words in checked["warnings"])
        assert addresses(host.store_report()["mailboxes"]) == [ANNA, BERT]
        done = host.module(less, state="overridden", allow_disruption=True)
        assert seen(checked) == seen(done)
        assert host.ask("SELECT address FROM mailboxes") == [(ANNA,)] and host.password(BERT) is None
        assert host.ask("SELECT address FROM groups") == []
        assert not host.module(less, state="overridden")["changed"]

    def test_deleted(self, host: MailHost) -> None:
        host.module(model(), {ANNA: HASH})
        assert host.module(None, state="deleted")["failed"]
        done = host.module(None, state="deleted", allow_disruption=True)
        assert done["after"] == {"domains": [], "mailboxes": [], "aliases": [], "groups": []} and host.password(ANNA) is None
        assert not host.module(None, state="deleted")["changed"]
        assert host.module(None, state="gathered")["gathered"]["mailboxes"] == []

    def test_a_mailbox_that_becomes_an_alias(self, host: MailHost) -> None:
        host.module(model(), {BERT: HASH})
        other = model(mailboxes=[{"local": "anna"}], aliases=[{"local": "bert", "to": [ANNA]}], groups=[])
        assert host.module(other)["failed"]
        lines = host.module(other, allow_disruption=True)["commands"]
        assert lines.index(f"mailctl remove {BERT} --archive --anyway") < lines.index(f"mailctl alias set {BERT} {ANNA}")
        assert host.ask(ROUTE, BERT) == [(ANNA,)] and host.password(BERT) is None

    def test_shutting_ends_sessions(self, host: MailHost) -> None:
        host.module(model(), {BERT: HASH})
        (host.root / "dovecot-runs").touch()
        host.module(model(mailboxes=[{"local": "anna"}, {"local": "bert", "enabled": False}]))
        assert f"exec d0ve doveadm kick {BERT}" in host.docker_lines()
        assert host.password(BERT) == (HASH, 0)

    def test_shut_by_hand_stays_shut(self, host: MailHost) -> None:
        host.module(model(), {BERT: HASH})
        host.done("disable", BERT, "--reason", "stolen password")
        answer = host.module(model(), state="overridden")
        assert not answer["changed"] and answer["held"] == [BERT] and "mailctl enable" in answer["warnings"][0]
        assert host.password(BERT) == (HASH, 0)
        host.done("enable", BERT)
        assert host.password(BERT) == (HASH, 1)
        assert host.module(model(), state="overridden")["held"] == []

    def test_commands_do_the_same(self, host: MailHost, tmp_path_factory: pytest.TempPathFactory, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        host.module(model(), {ANNA: HASH})
        target = model(
            mailboxes=[{"local": "anna", "name": "Anna B"}, {"local": "carl", "enabled": False, "quota_mb": 70, "forward_to": [ANNA], "keep_copy": False}],
            aliases=[{"local": "bert", "to": [ANNA]}, {"local": "abuse", "to": ["carl@example.com"]}],
            groups=[{"local": "team", "members": [ANNA, "carl@example.com"], "senders": "anyone"}],
            catch_all=ANNA,
        )
        second = tmp_path_factory.mktemp("second")
        other = MailHost(second, capsys, monkeypatch)
        other.module(model(), {ANNA: HASH})
        done = host.module(target, state="overridden", allow_disruption=True)
        assert not done.get("failed"), done["msg"]
        for line in done["commands"]:
            other.done(*shlex.split(line)[1:])
        assert other.store_report() == host.store_report()
        assert other.store.read().rows == host.store.read().rows


class TestRemovedMail:
    LESS = model(mailboxes=[{"local": "anna"}], aliases=[], groups=[])

    def test_archive(self, host: MailHost) -> None:
        host.module(model())
        message = mail_of(host, BERT)
        (message.parent / "link").symlink_to("/etc/passwd")
        done = host.module(self.LESS, state="overridden", allow_disruption=True)
        (archive,) = done["archives"]
        assert Path(archive).stat().st_mode & 0o777 == 0o600
        with tarfile.open(archive) as packed:
            names = packed.getnames()
            assert "mail/cur/1.M1.host:2,S" in names and "home" in names
            assert packed.getmember("mail/cur/link").issym()
        assert not message.exists() and Path("/etc/passwd").exists()
        assert [path.name for path in (host.data / "archive").iterdir()] == [Path(archive).name]

    def test_keep_and_delete(self, host: MailHost) -> None:
        host.module(model())
        message = mail_of(host, BERT)
        assert host.module(self.LESS, state="overridden", allow_disruption=True, removed_mail="keep")["archives"] == []
        assert message.exists()
        host.module(model())
        host.module(self.LESS, state="overridden", allow_disruption=True, removed_mail="delete")
        assert not message.exists() and list((host.data / "archive").iterdir()) == []

    def test_a_removal_that_was_killed_is_finished_and_spares_the_successor(self, host: MailHost) -> None:
        host.module(model())
        mail_of(host, BERT, "old")
        # As after a kill between the commit and the archive: the rows are gone, the files are there.
        wanted = mail_store.derive(mail_accounts.target_rows(host.store.read().rows, mail_store.no_rows(), "deleted"))
        host.store.change(lambda found: mail_accounts.plan(found, wanted), lambda _plan: {}, "now")
        assert host.module(model(), check=True)["commands"][0] == "mailctl tidy"
        done = host.module(model())
        assert len(done["archives"]) == 1 and addresses(done["after"]["mailboxes"]) == [ANNA, BERT]
        assert not (host.data / "mail/example.com/bert").exists()
        assert not host.module(model())["changed"]

    def test_a_link_in_the_place_of_a_domain_is_not_followed(self, host: MailHost, tmp_path: Path) -> None:
        host.module(model())
        (tmp_path / "outside" / "bert").mkdir(parents=True)
        (host.data / "mail").mkdir()
        (host.data / "mail/example.com").symlink_to(tmp_path / "outside")
        answer = host.module(self.LESS, state="overridden", allow_disruption=True)
        assert answer["failed"] and "no directory of its own" in answer["msg"]
        assert (tmp_path / "outside" / "bert").exists()


class TestFaults:
    def test_locked(self, host: MailHost) -> None:
        host.module(model())
        holder = sqlite3.connect(host.data / "passwords/passwords.sqlite", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        try:
            with pytest.raises(ResourceError, match=r"another process held it for more than 0.3 s. Nothing was changed. Who it is: fuser"):
                host.store.change(lambda found: mail_accounts.plan(found, mail_store.no_rows()), lambda _plan: {}, "now")
        finally:
            holder.close()
        assert host.ask("SELECT count(*) FROM mailboxes") == [(2,)]

    def test_damaged(self, host: MailHost) -> None:
        host.module(model())
        with (host.data / "accounts/directory.sqlite").open("r+b") as stream:
            stream.write(b"\0" * 4096)
        answer = host.module(model())
        assert answer["failed"] and "damaged" in answer["msg"]

    def test_newer_schema(self, host: MailHost) -> None:
        host.module(model())
        with sqlite3.connect(host.data / "accounts/directory.sqlite") as connection:
            connection.execute("UPDATE meta SET value = '2'")
        assert "found schema 2" in host.module(model())["msg"]

    def test_half_made_files(self, host: MailHost) -> None:
        (host.data / "accounts").mkdir(parents=True)
        (host.data / "accounts/directory.sqlite").touch()
        assert host.module(model())["changed"] and not host.module(model())["changed"]

    def test_somebody_adds_in_between(self, host: MailHost) -> None:
        """What others write between the plan and the lock is seen: nobody's new mailbox is lost."""
        host.module(model())
        config = model(mailboxes=[{"local": "anna"}, {"local": "bert"}, {"local": "carl"}])
        hashes = Store.read
        calls = []

        def read(store: Store) -> Any:
            found = hashes(store)
            calls.append(found)
            if len(calls) == 1:
                host.done("add", "dora@example.com", "--no-password")
            return found

        host.monkeypatch.setattr(Store, "read", read)
        host.module(config)
        assert ("dora@example.com",) in host.ask("SELECT address FROM mailboxes")

    def test_killed_at_any_moment_readers_see_both_files_or_none(self, host: MailHost) -> None:
        host.module(model())
        context = multiprocessing.get_context("fork")
        for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04):
            begun = context.Event()
            child = context.Process(target=_flip_for_ever, args=(str(host.data), begun))
            child.start()
            assert begun.wait(60)
            time.sleep(delay)
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
            found = host.store.read()
            boxes = {key[0] for key in found.rows["mailboxes"]}
            assert boxes == set(found.passwords) and len(boxes) in (0, 200)


def _flip_for_ever(root: str, begun: EventType) -> None:
    store = Store(root)
    boxes = tuple(Mailbox(f"u{number}@example.com") for number in range(200))
    full = mail_store.derive(mail_store.wanted_rows(Mail("m.example.com", (MailDomain("example.com", mailboxes=boxes),), ())))
    given = {box.address: HASH for box in boxes}
    empty = mail_store.no_rows()
    store.change(lambda found: mail_accounts.plan(found, empty, removed_mail="keep"), lambda _plan: {}, "now")
    begun.set()
    while True:
        store.change(lambda found: mail_accounts.plan(found, full, given), lambda _plan: given, "now")
        store.change(lambda found: mail_accounts.plan(found, empty, removed_mail="keep"), lambda _plan: {}, "now")


def test_ten_thousand_mailboxes(host: MailHost) -> None:
    boxes = tuple(Mailbox(f"u{number}@example.com", quota_mb=100) for number in range(10_000))
    mail = Mail("m.example.com", (MailDomain("example.com", mailboxes=boxes),), ("u0@example.com",))
    given = {box.address: HASH for box in boxes}
    declared = mail_store.wanted_rows(mail)

    def run() -> mail_accounts.Plan:
        return host.store.change(
            lambda found: mail_accounts.plan(found, mail_accounts.target_rows(found.rows, declared, "overridden"), given), lambda _plan: given, "now"
        )

    begun = time.process_time()
    assert len(run().new_passwords) == 10_000
    assert not run().changed
    assert time.process_time() - begun < 10, "measured: 1 s"
    assert host.ask(ROUTE, "u9999@example.com") == [("u9999@example.com",)]

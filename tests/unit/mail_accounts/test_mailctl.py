# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command mailctl, in a process of its own, on real SQLite files."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.hybridlab.platform.tests.unit.mail_accounts.mail_host import HASH, ROOT, MailHost, model

ANNA, BERT, CARL = "anna@example.com", "bert@example.com", "carl@example.com"
QUEUE = (
    '{"queue_name": "deferred", "queue_id": "4F1A2B3C4D", "arrival_time": 1700000000, "message_size": 2100, "sender": "anna@example.com", '
    '"recipients": [{"address": "x@example.net", "delay_reason": "connect to mx.example.net[192.0.2.1]:25: Connection timed out"}]}\n'
)


@pytest.fixture
def built(host: MailHost) -> MailHost:
    host.module(model(), {ANNA: HASH, BERT: HASH})
    return host


class TestAccounts:
    def test_add_with_a_password_from_standard_input(self, built: MailHost) -> None:
        assert "done" in built.done("add", "Carl@Example.com", "--quota", "70", "--name", "Carl", "--stdin", stdin="correct horse\n")
        found = built.password(CARL)
        assert found is not None and found[0].startswith("{ARGON2ID}$argon2id$") and found[1] == 1
        assert built.ask("SELECT target FROM routes WHERE address = ?", CARL) == [(CARL,)]
        assert built.ask("SELECT login FROM senders WHERE address = ?", CARL) == [(CARL,)]
        assert "correct horse" not in "".join(built.docker_lines())

    def test_a_hash_is_stored_as_it_is(self, built: MailHost) -> None:
        built.done("add", CARL, "--hash", stdin=f"{HASH}\n")
        assert built.password(CARL) == (HASH, 1)

    def test_password_disable_enable(self, built: MailHost) -> None:
        built.done("disable", ANNA, "--reason", "stolen")
        assert built.password(ANNA) == (HASH, 0)
        built.done("password", ANNA, "--stdin", stdin="a better password\n")
        found = built.password(ANNA)
        assert found is not None and found[0] != HASH and found[1] == 0, "a new password does not open what is shut"
        assert json.loads(built.done("show", ANNA, "--json"))["shut_by_hand"]["reason"] == "stolen"
        built.done("enable", ANNA)
        assert built.password(ANNA) == (found[0], 1)

    def test_a_new_password_ends_sessions(self, built: MailHost) -> None:
        (built.root / "dovecot-runs").touch()
        built.done("add", CARL, "--stdin", stdin="correct horse\n")
        assert not [line for line in built.docker_lines() if "kick" in line]
        built.done("password", BERT, "--stdin", stdin="a better password\n")
        assert f"exec d0ve doveadm kick {BERT}" in built.docker_lines()

    def test_remove(self, built: MailHost) -> None:
        assert "info@example.com" in built.refused("remove", BERT)
        built.done("alias", "remove", "info@example.com", BERT)
        cur = built.data / "mail/example.com/bert/cur"
        cur.mkdir(parents=True)
        (cur / "1.x:2,").write_text("hello", encoding="utf-8")
        out = built.done("remove", BERT)
        (archive,) = (built.data / "archive").glob("bert@*.tar.gz")
        assert f"mail kept in {archive}" in out and not cur.exists() and built.password(BERT) is None

    def test_quota_name_forward(self, built: MailHost) -> None:
        built.done("quota", ANNA, "70")
        built.done("name", ANNA, "Anna B")
        built.done("forward", ANNA, "anna@example.net", "--no-copy")
        told = json.loads(built.done("show", ANNA, "--json"))
        assert (told["quota_mb"], told["name"], told["forward_to"], told["keep_copy"]) == (70, "Anna B", ["anna@example.net"], False)
        built.done("forward", ANNA)
        assert built.ask("SELECT target FROM routes WHERE address = ?", ANNA) == [(ANNA,)]

    def test_the_model_takes_it_back(self, built: MailHost) -> None:
        built.done("quota", ANNA, "70")
        answer = built.module(model())
        assert answer["commands"] == [f"mailctl quota {ANNA} 500"]

    def test_what_the_model_does_not_know_is_named_and_stays(self, built: MailHost) -> None:
        built.done("add", CARL, "--no-password")
        assert CARL in built.module(model(), state="overridden")["msg"]
        assert not built.module(model())["changed"]

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            (("add", ANNA, "--no-password"), "is a mailbox already"),
            (("add", "info@example.com", "--no-password"), "is an alias already, and cannot be a mailbox too"),
            (("add", "carl", "--no-password"), "has no '@'"),
            (("add", "carl@example.org", "--no-password"), "example.org is no domain of this host, which has: example.com"),
            (("add", "carl+x@example.com", "--no-password"), "begins a detail"),
            (("add", "../x@example.com", "--no-password"), "no local part"),
            (("quota", ANNA, "-5"), "must be 0 (no limit) or more"),
            (("password", CARL, "--stdin"), "found no such mailbox"),
            (("forward", ANNA, "--no-copy"), "its mail would be lost"),
            (("forward", ANNA, ANNA), "would lead to itself"),
            (("alias", "add", BERT, ANNA), "is a mailbox"),
            (("alias", "remove", "nobody@example.com"), "found no such alias"),
            (("domain", "remove", "example.com"), "still has"),
            (("group", "remove", "nobody@example.com"), "found no such group"),
            (("alias", "add", "sales@example.com", "sales@example.com"), "would lead to itself"),
            (("forward", ANNA, "info@example.com"), "would come back to it, and go round"),
            (("group", "set", "all@example.com", "x@example.net", "all@example.com"), "would lead to itself"),
            (("alias", "set", "info@example.com", "staff@example.com"), "would come back to it, and go round"),
            (("domain", "set", "example.com", "--relay", "[relay.example.net]:587"), "is no relay of platform_mail"),
        ],
    )
    def test_refused(self, built: MailHost, line: tuple[str, ...], words: str) -> None:
        before = built.store.read()
        assert words in built.refused(*line, stdin="some password\n")
        assert built.store.read() == before

    @pytest.mark.parametrize(
        ("options", "given", "words"),
        [
            (("--stdin",), "short\n", "has 5 characters"),
            (("--stdin",), f"{HASH}\n", "found a hash"),
            (("--hash",), "no hash at all\n", "found no hash"),
            (("--hash",), "{PLAIN}correct horse\n", "no hash that may be stored"),
            (("--stdin",), "\n", "found no text"),
            ((), "correct horse\n", "no terminal"),
        ],
    )
    def test_refused_passwords(self, built: MailHost, options: tuple[str, ...], given: str, words: str) -> None:
        assert words in built.refused("password", ANNA, *options, stdin=given)
        assert built.password(ANNA) == (HASH, 1)

    def test_no_settings(self, host: MailHost) -> None:
        host.settings.unlink()
        assert "Run playbooks/mail.yml first" in host.refused("list")

    def test_what_nobody_has_is_named(self, built: MailHost) -> None:
        assert "sales@example.com leads to nobody@example.com, which nobody has" in built.done("alias", "add", "sales@example.com", "nobody@example.com", ANNA)
        assert "which nobody has" not in built.done("alias", "add", "sales@example.com", "x@example.net")
        built.done("domain", "set", "example.com", "--catch-all", ANNA)
        assert "which nobody has" not in built.done("alias", "add", "sales@example.com", "nobody2@example.com")

    def test_a_domain_keeps_what_is_not_given(self, built: MailHost) -> None:
        relay = "[relay.example.net]:587"
        built.settings.write_text(json.dumps({**json.loads(built.settings.read_text(encoding="utf-8")), "relays": [relay]}), encoding="utf-8")
        told = []
        for options in (("--relay", relay), ("--catch-all", ANNA), ("--direct",), ("--no-catch-all",)):
            built.done("domain", "set", "example.com", *options)
            told += built.ask("SELECT relay, catch_all FROM domains")
        assert told == [(relay, None), (relay, ANNA), (None, ANNA), (None, None)]

    def test_disable_tells_of_the_owners_redirects(self, built: MailHost) -> None:
        home = built.data / "home/example.com/anna"
        (home / "sieve").mkdir(parents=True)
        script = 'require ["copy"];\nif true { redirect :copy "thief@example.net"; }\nredirect "me@example.org";\n'
        (home / "sieve/own.sieve").write_text(script, encoding="utf-8")
        (home / ".dovecot.sieve").symlink_to("sieve/own.sieve")
        out = built.done("disable", ANNA)
        assert "on to thief@example.net" in out and "on to me@example.org" in out and str(home / ".dovecot.sieve") in out
        os.mkfifo(home / "pipe")
        (home / ".dovecot.sieve").unlink()
        (home / ".dovecot.sieve").symlink_to("pipe")
        assert "Sieve" not in built.done("disable", ANNA, "--reason", "again")


class TestTidy:
    def test_a_certificate_that_nobody_was_told_of_is_read_once(self, built: MailHost) -> None:
        (built.root / "dovecot-runs").touch()
        tls = built.data / "tls"
        for name in ("one", "two"):
            (tls / name).mkdir(parents=True)
            (tls / "current").unlink(missing_ok=True)
            (tls / "current").symlink_to(name)
            assert "dovecot, postfix: the certificate is read again" in built.done("tidy", "--running")
            assert built.done("tidy", "--running") == ""

    def test_a_part_that_failed_is_told_again(self, built: MailHost) -> None:
        for name in ("dovecot-runs", "broken"):
            (built.root / name).touch()
        (built.data / "tls/one").mkdir(parents=True)
        (built.data / "tls/current").symlink_to("one")
        assert "mail-reload failed" in built.refused("tidy", "--running")
        (built.root / "broken").unlink()
        assert "read again" in built.done("tidy", "--running")

    def test_copies_for_the_backup_are_whole(self, built: MailHost) -> None:
        built.done("tidy", "--running")
        copies = built.data / "copies"
        assert built.ask("SELECT hash FROM passwords WHERE address = ?", ANNA, base="copies/passwords") == [(HASH,)]
        assert {path.name: path.stat().st_mode & 0o777 for path in copies.iterdir()} == {"directory.sqlite": 0o600, "passwords.sqlite": 0o600}
        numbers = {path: path.stat().st_ino for path in copies.iterdir()}
        built.done("tidy", "--running")
        assert {path: path.stat().st_ino for path in copies.iterdir()} == numbers, "nothing changed, nothing is copied"
        built.done("quota", ANNA, "70")
        built.done("tidy", "--running")
        assert built.ask("SELECT quota_bytes FROM mailboxes WHERE address = ?", ANNA, base="copies/directory") == [(70 * 1024 * 1024,)]

    def test_a_damaged_file_replaces_no_copy(self, built: MailHost) -> None:
        built.done("tidy", "--running")
        path = built.data / "passwords/passwords.sqlite"
        content = bytearray(path.read_bytes())
        content[4096:4200] = bytes(104)
        path.write_bytes(content)
        assert "is damaged. Take both from" in built.refused("tidy", "--running")
        assert built.ask("SELECT hash FROM passwords WHERE address = ?", ANNA, base="copies/passwords") == [(HASH,)]

    def test_at_boot_docker_is_not_asked(self, built: MailHost) -> None:
        built.log.unlink(missing_ok=True)
        (built.data / "tls/one").mkdir(parents=True)
        (built.data / "tls/current").symlink_to("one")
        built.done("tidy")
        assert built.docker_lines() == []


class TestReload:
    def test_only_what_runs_reads_its_certificate_again(self, built: MailHost) -> None:
        assert "nothing" in built.done("reload")
        assert not [line for line in built.docker_lines() if line.startswith("exec")]
        (built.root / "dovecot-runs").touch()
        assert built.done("reload").startswith("dovecot, postfix: ")
        told = [line for line in built.docker_lines() if line.startswith("exec")]
        assert [line.rpartition("d0ve ")[2] for line in told] == ["/usr/local/bin/mail-reload", "/usr/sbin/postfix reload"]

    def test_a_part_that_does_not_reload_is_an_error(self, built: MailHost) -> None:
        (built.root / "dovecot-runs").touch()
        (built.root / "broken").touch()
        assert "mail_dovecot: /usr/local/bin/mail-reload failed (1)" in built.refused("reload")


class TestViews:
    def test_list(self, built: MailHost) -> None:
        built.done("disable", BERT)
        out = built.done("list")
        assert "anna@example.com" in out and "shut by hand" in out
        assert json.loads(built.done("list", "--json", "--aliases", "--groups"))["groups"][0]["senders"] == "members"
        assert HASH not in out + built.done("show", ANNA)

    def test_queue(self, built: MailHost) -> None:
        assert "no container of mail_postfix runs here" in built.refused("queue")
        (built.root / "dovecot-runs").touch()
        (built.root / "answer").write_text(QUEUE, encoding="utf-8")
        assert "Connection timed out" in built.done("queue") and "exec --interactive d0ve postqueue -j" in built.docker_lines()
        assert json.loads(built.done("queue", "--json"))["reasons"] == [{"reason": "connect to mx.example.net[...]: Connection timed out", "count": 1}]

    def test_signatures_are_looked_for_where_mail_is_scanned(self, built: MailHost) -> None:
        assert "mail_clamav" in json.loads(built.done("status", "--json"))["signatures"]
        built.settings.write_text(json.dumps({**json.loads(built.settings.read_text(encoding="utf-8")), "antivirus": False}), encoding="utf-8")
        assert json.loads(built.done("status", "--json"))["signatures"] is None
        assert "not scanned for viruses" in built.done("status")

    def test_dkim(self, built: MailHost) -> None:
        folder = built.data / "dkim" / "example.com"
        folder.mkdir(parents=True)
        (folder / "s1.pub").write_text("-----BEGIN PUBLIC KEY-----\n" + "A" * 64 + "\n" + "B" * 300 + "\n-----END PUBLIC KEY-----\n", encoding="ascii")
        out = built.done("dkim", "show")
        assert out.startswith('s1._domainkey.example.com. IN TXT ( "v=DKIM1; k=rsa; p=AAAA')
        assert all(len(part) <= 255 for part in out.split('"')[1::2])
        assert "found no key of other.example" in built.refused("dkim", "show", "other.example")


class TestRestore:
    def generation(self, host: MailHost) -> Path:
        made = host.root / "backup" / "2026-11-01T03:00:00Z"
        cur = made / "files" / str(host.data).strip("/") / "mail/example.com/anna/cur"
        cur.mkdir(parents=True)
        (cur / "1.x:2,S").write_text("Subject: old\n\n", encoding="utf-8")
        return made

    def test_the_generation_is_copied_and_never_touched(self, built: MailHost) -> None:
        made = self.generation(built)
        docker = built.root / "bin" / "docker"
        counter = (
            f'*"mailbox status"*) n=$(cat {built.root}/count 2>/dev/null || echo 0); echo $((n + 3)) >{built.root}/count; printf "messages\\n%s\\n" "$n" ;;'
        )
        seen = f'*"doveadm import"*) find {built.data}/mail/.restore -type f >{built.root}/seen ;;'
        docker.write_text(
            docker.read_text(encoding="utf-8").replace("            *) cat", f"            {counter}\n            {seen}\n            *) cat"), encoding="utf-8"
        )
        (built.root / "dovecot-runs").touch()
        out = built.done("restore-mail", ANNA, "--generation", str(made), "--subject", "old")
        assert "3 messages are back" in out
        folder = "Restored 2026-11-01T03:00:00Z"
        line = f"exec --interactive d0ve doveadm import -u {ANNA} maildir:/srv/mail/mail/.restore/mailbox {folder} subject old"
        assert line in built.docker_lines()
        assert "cur/1.x:2,S" in (built.root / "seen").read_text(encoding="utf-8")
        assert not (built.data / "mail/.restore").exists()
        assert sorted(path.name for path in made.rglob("*") if path.is_file()) == ["1.x:2,S"]

    def test_one_at_a_time(self, built: MailHost) -> None:
        made = self.generation(built)
        (built.root / "dovecot-runs").touch()
        (built.root / "state").mkdir(exist_ok=True)
        with (built.root / "state/restore.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert "another restore is at work" in built.refused("restore-mailbox", ANNA, "--generation", str(made))

    def test_nothing_to_restore(self, built: MailHost) -> None:
        made = self.generation(built)
        assert "no mail of bert@example.com" in built.refused("restore-mailbox", BERT, "--generation", str(made))
        assert "no container of mail_dovecot" in built.refused("restore-mailbox", ANNA, "--generation", str(made))


# A server with 700 messages, and a second folder: what doveadm printed of a real one, in short.
IMPORT = """
            *"mailbox status"*) cat >{root}/stdin
                printf 'mailbox\\tmessages\\tuidvalidity\\nOld/Sent\\t1\\t7\\nINBOX\\t700\\t%s\\n' "$(cat {root}/validity)" ;;
            *hdr.message-id*) cat >/dev/null; printf 'hdr.message-id\\n<m@x>\\n' ;;
            *"header Message-ID"*) cat {root}/come ;;
            *"search -u"*INBOX*) cat >/dev/null; seq -f 'guid %.0f' 1 700 ;;
            *"search -u"*) cat >/dev/null; echo guid 5 ;;
            *"import -u"*) cat >/dev/null; case "$*" in *" $(cat {root}/fails)") exit 75 ;; esac ;;
            *) cat"""
LINE = ("import", ANNA, "--host", "imap.example.net", "--user", "anna")


class TestImport:
    @pytest.fixture
    def other(self, built: MailHost) -> MailHost:
        (built.root / "dovecot-runs").touch()
        for name, text in (("validity", "42"), ("fails", "none"), ("come", "")):
            (built.root / name).write_text(text, encoding="utf-8")
        docker = built.root / "bin" / "docker"
        text = docker.read_text(encoding="utf-8").replace("            *) cat", IMPORT.lstrip("\n").format(root=built.root))
        docker.write_text(text, encoding="utf-8")
        settings = json.loads(built.settings.read_text(encoding="utf-8"))
        built.settings.write_text(json.dumps({**settings, "state": str(built.root / "state")}), encoding="utf-8")
        return built

    def parts(self, host: MailHost) -> list[str]:
        return [called.partition("mailbox ")[2] for called in host.docker_lines() if "import -u" in called]

    def test_parts_and_the_second_run(self, other: MailHost) -> None:
        out = other.done(*LINE, stdin='pa"ss\\word\n')
        assert "701 messages in 2 folders" in out and "1/2 INBOX: 500 of 700 ..." in out and "2/2 Old/Sent: 1 new messages" in out
        assert self.parts(other) == ["INBOX uid 1:500", "INBOX uid 501:700", "Old/Sent uid 5:5"]
        other.done(*LINE, stdin="x\n")
        assert len(self.parts(other)) == 3

    def test_the_password_is_in_no_argument(self, other: MailHost) -> None:
        other.done(*LINE, stdin='pa"ss\\word\n')
        assert not any("word" in line for line in other.docker_lines())
        assert 'imapc_password = "pa\\"ss\\\\word"\n' in (other.root / "stdin").read_text(encoding="utf-8")
        assert "word" not in "".join(path.read_text(encoding="utf-8") for path in (other.root / "state").iterdir())

    @pytest.mark.parametrize(("come", "again"), [("", ["INBOX uid 501:700"]), ("guid 3\n", [])])
    def test_goes_on_after_a_break(self, other: MailHost, come: str, again: list[str]) -> None:
        """A part whose end was not noted down comes again only where it is not here."""
        (other.root / "fails").write_text("501:700", encoding="utf-8")
        answer = other.ctl(*LINE, stdin="x\n")
        assert answer.returncode == 1 and "1 of 2 folders did not come whole: INBOX" in answer.stderr
        first = self.parts(other)
        assert first[-1] == "Old/Sent uid 5:5", "the other folders come all the same"
        (other.root / "fails").write_text("none", encoding="utf-8")
        (other.root / "come").write_text(come, encoding="utf-8")
        other.done(*LINE, stdin="x\n")
        assert self.parts(other)[len(first) :] == again

    def test_numbered_anew(self, other: MailHost) -> None:
        other.done(*LINE, stdin="x\n")
        (other.root / "validity").write_text("43", encoding="utf-8")
        answer = other.ctl(*LINE, stdin="x\n")
        assert answer.returncode == 1 and "numbered its messages anew" in answer.stdout

    def test_plain_text_only_where_somebody_says_so(self, other: MailHost) -> None:
        assert "for everybody to read" in other.refused(*LINE, "--tls", "no", stdin="x\n")
        assert "701 messages" in other.done(*LINE, "--tls", "no", "--insecure", stdin="x\n")

    def test_needs_a_password_and_a_mailbox(self, other: MailHost) -> None:
        assert "found no password" in other.refused(*LINE, stdin="\n")
        assert "found no such mailbox" in other.refused("import", CARL, "--host", "h", "--user", "u", stdin="x\n")


def test_what_the_command_needs_is_what_the_role_ships() -> None:
    """Beside its own package the command imports these, and nothing of Ansible's."""
    code = (
        "import sys; import mailctl.__main__; "
        "print(chr(10).join(sorted(m for m in sys.modules if m.startswith('ansible_collections.') and m.count('.') == 6 or m.split('.')[0] == 'ansible')))"
    )
    path = f"{ROOT / 'collections'}:{ROOT / 'roles' / 'mail' / 'files'}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, env={**os.environ, "PYTHONPATH": path})
    prefix = "ansible_collections.hybridlab.platform.plugins.module_utils."
    assert all(line.startswith(prefix) for line in done.stdout.split())
    shipped = (ROOT / "roles/mail/files/mailctl/modules.txt").read_text(encoding="utf-8").split()
    assert sorted(line[len(prefix) :].replace(".", "/") + ".py" for line in done.stdout.split()) == sorted(shipped)

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command mailprobe in processes of its own: as a host has it, of the files that modules.txt names alone, and from the checkout."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.hybridlab.platform.tests.unit.mail_probe.conftest import Server
from ansible_collections.hybridlab.platform.tests.unit.mail_probe.mail_peers import PASSWORD, USER, Imap, Smtp

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "roles" / "mail" / "files" / "mailprobe"
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from mailprobe.__main__ import main; sys.exit(main())"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a host has of it."""
    folder = tmp_path_factory.mktemp("library")
    shutil.copytree(FILES, folder / "mailprobe", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (FILES / "modules.txt").read_text(encoding="utf-8").split():
        target = folder / "ansible_collections" / "hybridlab" / "platform" / "plugins" / "module_utils" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "plugins" / "module_utils" / name, target)
    return folder


class Command:
    def __init__(self, library: Path, server: Server) -> None:
        self.library, self.server = library, server
        ca = str(server.folder / "ca.pem")
        servers = ["--smtp", f"127.0.0.1:{server.start(Smtp)}", "--imap", f"127.0.0.1:{server.start(Imap)}"]
        self.argv = [sys.executable, "-I", "-S", "-B", "-c", START, str(library), USER, *servers, "--ca", ca, "--timeout", "5", "--deadline", "5"]

    def run(self, *argv: str, stdin: str = f"{PASSWORD}\n") -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.argv, *argv], input=stdin, capture_output=True, encoding="utf-8", timeout=60, check=False)


@pytest.fixture
def command(library: Path, server: Server) -> Command:
    return Command(library, server)


def test_text(command: Command) -> None:
    done = command.run("--stdin")
    assert done.returncode == 0, done.stderr
    assert "1 message: 1 sent, 1 fetched, 0 failed" in done.stdout and "\nok in " in done.stdout


def test_json_and_progress(command: Command) -> None:
    done = command.run("--stdin", "--json", "--count", "7", "--rate", "5")
    found = json.loads(done.stdout)
    assert (found["ok"], found["sent"], found["fetched"]) == (True, 7, 7)
    assert done.stderr.startswith("1 s: ") and done.stderr.endswith("retried\n"), "without a terminal a line each second"
    assert command.run("--stdin", "--quiet", "--count", "7", "--rate", "5").stderr == ""


def test_password_file_with_two_logins(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"{PASSWORD}\n{PASSWORD}\n", encoding="utf-8")
    done = command.run("--login", "bert@example.com", "--password-file", str(path))
    assert done.returncode == 5 and "535 5.7.8" in done.stdout, "the second line is that of IMAP"
    assert command.server.mailbox.logins == ["IMAP PLAIN", "SMTP PLAIN"]


def test_password_from_the_prompt(command: Command) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen([*command.argv], stdin=follower, stdout=subprocess.PIPE, stderr=follower, encoding="utf-8", start_new_session=True) as process:
        os.close(follower)
        # Without a controlling terminal getpass asks on standard error and reads standard input.
        assert b"Password of probe@example.com" in os.read(leader, 1000)
        os.write(leader, f"{PASSWORD}\n".encode())
        out, _err = process.communicate(timeout=30)
    os.close(leader)
    assert process.returncode == 0 and "1 fetched" in out


@pytest.mark.parametrize(
    ("argv", "stdin", "words"),
    [
        ((), "", "there is no terminal to ask for a password"),
        (("--stdin",), "", "Give one a line for probe@example.com"),
        (("--password-file", "/nowhere/at/all"), "", "/nowhere/at/all cannot be read: No such file"),
        (("--stdin", "--ca", "/nowhere/at/all"), "x\n", "ca: found '/nowhere/at/all'"),
        (("--stdin", "--smtp", "a b"), "x\n", "--smtp: found 'a b'"),
        (("--stdin", "--size", "3"), "x\n", "size: found 3"),
        (("--stdin", "--imap-tls", "none"), "x\n", "imap.tls: found 'none'"),
    ],
)
def test_wrong_arguments(command: Command, argv: tuple[str, ...], stdin: str, words: str) -> None:
    done = command.run(*argv, stdin=stdin)
    assert done.returncode == 2 and words in done.stderr, done.stderr


def test_no_reader_is_no_proof(library: Path, server: Server) -> None:
    argv = [sys.executable, "-I", "-S", "-B", "-c", START, str(library), USER, "--smtp", f"127.0.0.1:{server.start(Smtp)}", "--stdin"]
    done = subprocess.run(argv, input="x\n", capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 2 and "--no-fetch" in done.stderr


def test_interrupted(command: Command) -> None:
    argv = [*command.argv, "--stdin", "--count", "100", "--rate", "10"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdin is not None and process.stderr is not None and process.stdout is not None
        process.stdin.write(f"{PASSWORD}\n")
        process.stdin.flush()
        assert process.stderr.readline().startswith("1 s: ")
        process.send_signal(signal.SIGINT)
        out = process.stdout.read()
        began = time.monotonic()
        assert process.wait(20) == 130
    assert time.monotonic() - began < 5
    assert "\ninterrupted in " in out and "of the messages were not tried" in out
    assert command.server.mailbox.folders["INBOX"] == {}, "what had come was taken away"


def test_from_the_checkout(command: Command) -> None:
    argv = [sys.executable, "-m", "tools.mailprobe", *command.argv[7:], "--stdin", "--connect-only"]
    done = subprocess.run(argv, input=f"{PASSWORD}\n", capture_output=True, encoding="utf-8", timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0 and "no message was sent: only connected" in done.stdout, done.stderr

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The webmail as a person uses it, in a real browser: log in, read, send, make a filter, change the password."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.integration.mail.browser import Browser, apart, chromium

# What the webmail says to what one did, but that it is at work.
SAID = "#messagestack .alert:not(.loading)"


@contextmanager
def reached(command: Sequence[str]) -> Iterator[int]:
    """A port of this machine's loopback that leads where ``command`` leads: each connection is a process of it, which relays its input and output."""
    server = socket.create_server(("127.0.0.1", 0))
    processes: list[subprocess.Popen[bytes]] = []

    def serve() -> None:
        while True:
            try:
                link, _peer = server.accept()
            except OSError:
                return
            with link:
                processes.append(subprocess.Popen(command, stdin=link.fileno(), stdout=link.fileno(), stderr=subprocess.DEVNULL))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
        for process in processes:
            process.terminate()
            process.wait()


def key_digest(certificate: str) -> str:
    """What Chromium knows a key by: --ignore-certificate-errors-spki-list. certificate: PEM, the leaf first."""
    asked = ["openssl", "x509", "-noout", "-pubkey"]
    pem = subprocess.run(asked, input=certificate, capture_output=True, text=True, check=True).stdout
    der = base64.b64decode("".join(pem.splitlines()[1:-1]))
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


@contextmanager
def webmail_behind(command: Sequence[str], host: str, port: int = 8443) -> Iterator[Webmail]:
    """The webmail in a browser that knows it as https://host:port/ and reaches it by ``command`` (see reached). It takes the certificate that it is shown."""
    with apart(), reached(command) as here:
        key = key_digest(ssl.get_server_certificate(("127.0.0.1", here)))
        with chromium(f"--host-resolver-rules=MAP {host} 127.0.0.1:{here}", f"--ignore-certificate-errors-spki-list={key}") as browser:
            yield Webmail(browser, f"https://{host}:{port}/")


class Webmail:
    def __init__(self, browser: Browser, url: str) -> None:
        """url: with a slash at its end."""
        self.browser, self.url = browser, url

    def log_in(self, address: str, password: str) -> bool:
        """Whether it was let in."""
        self.browser.open(self.url)
        self.browser.write("#rcmloginuser", address)
        self.browser.write("#rcmloginpwd", password)
        self.browser.click("#rcmloginsubmit")
        return bool(self.browser.until(self._outcome, "neither mail nor a refusal") == "in")

    def _outcome(self) -> str:
        """Empty while the page of login is still on its way."""
        if self.browser.find("#taskmenu a.logout"):
            return "in"
        return "refused" if self.browser.find("#rcmloginuser") and self.browser.find(SAID) else ""

    def log_out(self) -> None:
        self.go("_task=mail")
        self.browser.click("#taskmenu a.logout")
        self.browser.wait("#rcmloginuser")

    def go(self, query: str) -> None:
        """A page, when it has come to rest: what is clicked before that is lost."""
        self.browser.open(f"{self.url}?{query}")
        rests = "return document.readyState == 'complete' && window.rcmail && !rcmail.busy"
        self.browser.until(lambda: self.browser.run(rests), "the page does not come to rest")

    def subjects(self, folder: str = "INBOX") -> list[str]:
        self.go(f"_task=mail&_mbox={folder}")
        self.browser.until(lambda: self.browser.find("#messagelist tbody tr, .listing-info"), "no list")
        return [
            str(text) for text in self.browser.run("return [...document.querySelectorAll('#messagelist tbody tr .subject a')].map(one => one.innerText.trim())")
        ]

    def await_subject(self, subject: str, folder: str = "INBOX") -> None:
        self.browser.until(lambda: any(subject in text for text in self.subjects(folder)), f"no mail {subject!r} in {folder}", 60)

    def read(self, subject: str) -> str:
        """The text of a mail in the list that is shown."""
        rows = "[...document.querySelectorAll('#messagelist tbody tr .subject a')]"
        self.browser.open(str(self.browser.run(f"return {rows}.find(one => one.innerText.includes(arguments[0])).href", subject)))
        return self.browser.text("#messagebody")

    def send(self, to: str, subject: str, text: str) -> None:
        self.go("_task=mail&_action=compose")
        self.browser.type("#compose_to .recipient-input input", f"{to},")
        self.browser.write("#compose-subject", subject)
        self.browser.write("#composebody", text)
        self.browser.click(".formbuttons button.send, #toolbar-menu a.send")
        self.browser.until(lambda: "_action=compose" not in self.browser.url(), "the mail is not sent", 60)

    def file_by_subject(self, name: str, word: str, folder: str) -> None:
        """A filter: mail with ``word`` in its subject goes to ``folder``."""
        self.go("_task=settings&_action=plugin.managesieve")
        self.browser.click("#toolbar-menu a.create:not(.disabled)")
        with self.browser.frame(".iframe-wrapper iframe"):
            self.browser.write("#_name", name)
            self.browser.choose("#header0", "subject")
            self.browser.type("input[name='_rule_target[0][]']", word)
            self.browser.choose("#action_type0", "fileinto")
            self.browser.choose("#action_mailbox0", folder)
            self.browser.click("button.submit")
        self.browser.wait(SAID)

    def filters(self) -> list[str]:
        self.go("_task=settings&_action=plugin.managesieve")
        self.browser.wait("#filterslist")
        return [str(text) for text in self.browser.run("return [...document.querySelectorAll('#filterslist tr')].map(one => one.innerText.trim())")]

    def change_password(self, current: str, new: str) -> str:
        """What the webmail says to it."""
        self.go("_task=settings&_action=plugin.password")
        self.browser.write("#curpasswd", current)
        self.browser.write("#newpasswd", new)
        self.browser.write("#confpasswd", new)
        self.browser.click(".formbuttons button.submit")
        return self.browser.text(SAID)

    def picture(self, file: Path) -> None:
        self.browser.picture(file)


def use(webmail: Webmail, address: str, password: str, other: str) -> None:
    """All that a person does, with checks on the way; the password is ``password`` again at the end. other: a password that is none yet."""
    assert not webmail.log_in(address, other)
    assert webmail.log_in(address, password)
    webmail.send(address, "First one", "Sent by hand.")
    webmail.await_subject("First one")
    assert webmail.read("First one") == "Sent by hand."
    webmail.file_by_subject("Invoices", "invoice", "Archive")
    assert "Invoices" in webmail.filters()
    webmail.send(address, "An invoice", "Filed by the filter.")
    webmail.await_subject("An invoice", "Archive")
    assert "at least 10" in webmail.change_password(password, "short")
    assert "uccessfully" in webmail.change_password(password, other)
    webmail.log_out()
    assert not webmail.log_in(address, password)
    assert webmail.log_in(address, other)
    assert "uccessfully" in webmail.change_password(other, password)
    assert not [line for line in webmail.browser.console() if "Content Security Policy" in line]

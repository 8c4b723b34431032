# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mail server in threads, which can be told to do what a real one does only when it is ill: refuse, put off, hang up, lose, change, deliver twice.

That a real one is understood is proven with Postfix and Dovecot elsewhere.
"""

from __future__ import annotations

import base64
import re
import socketserver
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Optional

USER, PASSWORD = "probe@example.com", "c0rrect hörse"


@dataclass
class Mailbox:
    """folders: name -> {uid: text}. replies: stage -> answers to come, one each; None in place of an answer hangs up."""

    folders: dict[str, dict[int, bytes]] = field(default_factory=lambda: {"INBOX": {}, "Spam": {}})
    replies: dict[str, list[Optional[str]]] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    smtp_auth: str = "PLAIN LOGIN"
    imap_auth: str = "AUTH=PLAIN AUTH=LOGIN"
    uidplus: bool = True
    starttls: bool = True
    into: str = "INBOX"
    copies: int = 1
    lose: bool = False
    footer: bytes = b""
    delay: float = 0.0
    next_uid: int = 7
    logins: list[str] = field(default_factory=list)
    connections: int = 0
    sent_at: list[float] = field(default_factory=list)
    hang_up_after_fetch: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def deliver(self, text: bytes) -> None:
        with self.lock:
            self.sent_at.append(time.monotonic())
            for _copy in range(0 if self.lose else self.copies):
                self.folders[self.into][self.next_uid] = text + self.footer
                self.next_uid += 1

    def reply(self, stage: str, good: str) -> Optional[str]:
        with self.lock:
            waiting = self.replies.get(stage)
            if waiting:
                return waiting.pop(0)
            return self.always.get(stage, good)

    def check(self, login: str, password: str, by: str) -> bool:
        self.logins.append(by)
        return (login, password) == (USER, PASSWORD)


class HangUp(Exception):
    """Close the connection without a word."""


class Session(socketserver.StreamRequestHandler):
    """Lines in, lines out; in TLS from the first byte where the server says so."""

    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.server: Any
        self.mailbox: Mailbox = self.server.mailbox
        self.request.settimeout(20)
        super().setup()
        if self.server.implicit:
            self.encrypt()

    def encrypt(self) -> None:
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        with self.mailbox.lock:
            self.mailbox.connections += 1
        try:
            self.talk()
        except (HangUp, OSError):
            self.server.shutdown_request(self.request)

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            self.wfile.close()

    def talk(self) -> None:
        raise NotImplementedError

    def line(self) -> str:
        found = self.rfile.readline()
        if not found:
            raise HangUp
        return found.decode("ascii").rstrip("\r\n")

    def say(self, text: Optional[str]) -> bool:
        """Whether it was an answer of success."""
        if text is None:
            raise HangUp
        self.wfile.write(text.encode() + b"\r\n")
        return text[0] in "23"


class Smtp(Session):
    def talk(self) -> None:
        if not self.say(self.mailbox.reply("connect", "220 mx.example.com ESMTP")):
            return
        while True:
            verb, _space, rest = self.line().partition(" ")
            getattr(self, f"on_{verb.lower()}", self.on_other)(rest)
            if verb == "QUIT":
                return

    def on_ehlo(self, _rest: str) -> None:
        words = ["mx.example.com", "SIZE 1000000"]
        words += ["STARTTLS"] if self.mailbox.starttls and not isinstance(self.request, ssl.SSLSocket) else [f"AUTH {self.mailbox.smtp_auth}"]
        for word in words[:-1]:
            self.say(f"250-{word}")
        self.say(f"250 {words[-1]}")

    def on_starttls(self, _rest: str) -> None:
        if self.say(self.mailbox.reply("STARTTLS", "220 go on")):
            self.encrypt()

    def on_auth(self, rest: str) -> None:
        mechanism, _space, first = rest.partition(" ")
        if mechanism == "PLAIN":
            _identity, user, password = base64.b64decode(first).decode().split("\0")
        else:
            words = []
            for _word in range(2):
                self.say("334 VXNlcm5hbWU6")
                words.append(base64.b64decode(self.line()).decode())
            user, password = words
        good = self.mailbox.check(user, password, f"SMTP {mechanism}")
        self.say(self.mailbox.reply("AUTH", "235 welcome" if good else "535 5.7.8 authentication failed"))

    def on_mail(self, _rest: str) -> None:
        self.say(self.mailbox.reply("MAIL", "250 ok"))

    def on_rcpt(self, _rest: str) -> None:
        self.say(self.mailbox.reply("RCPT", "250 ok"))

    def on_data(self, _rest: str) -> None:
        if not self.say(self.mailbox.reply("DATA", "354 go on")):
            return
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                raise HangUp
            lines.append(line[1:] if line.startswith(b".") else line)
        time.sleep(self.mailbox.delay)
        reply = self.mailbox.reply("message", "250 queued")
        # To hang up here is the worst: nobody knows whether the message was taken. It was.
        if reply is None or reply.startswith("250"):
            self.mailbox.deliver(b"".join(lines))
        self.say(reply)

    def on_rset(self, _rest: str) -> None:
        self.say("250 ok")

    def on_quit(self, _rest: str) -> None:
        self.say("221 bye")

    def on_other(self, _rest: str) -> None:
        self.say("502 unknown")


class Imap(Session):
    def talk(self) -> None:
        self.folder = "INBOX"
        self.fetches = 0
        self.say(self.mailbox.reply("greeting", f"* OK [CAPABILITY {self.words()}] mail.example.com ready"))
        while True:
            tag, _space, rest = self.line().partition(" ")
            verb, _space, arguments = rest.partition(" ")
            if verb.upper() == "UID":
                verb, _space, arguments = arguments.partition(" ")
            done = getattr(self, f"on_{verb.lower()}")(arguments, tag)
            answer = self.mailbox.reply(f"IMAP {verb.upper()}", done or "OK done")
            self.say(f"{tag} {answer}")
            if verb.upper() == "STARTTLS":
                self.encrypt()
            if verb.upper() == "LOGOUT":
                return

    def words(self) -> str:
        starttls = " STARTTLS LOGINDISABLED" if self.mailbox.starttls and not isinstance(self.request, ssl.SSLSocket) else ""
        return f"IMAP4rev1 {self.mailbox.imap_auth}{starttls}{' UIDPLUS' if self.mailbox.uidplus else ''}"

    def on_capability(self, _rest: str, _tag: str) -> None:
        self.say(f"* CAPABILITY {self.words()}")

    def on_starttls(self, _rest: str, _tag: str) -> None:
        """The answer has to come first."""

    def on_authenticate(self, rest: str, _tag: str) -> str:
        words = []
        for _word in range(1 if rest == "PLAIN" else 2):
            self.say("+ ")
            words.append(base64.b64decode(self.line()).decode())
        user, password = words[0].split("\0")[1:] if rest == "PLAIN" else words
        return "OK in" if self.mailbox.check(user, password, f"IMAP {rest}") else "NO [AUTHENTICATIONFAILED] Authentication failed."

    def on_login(self, rest: str, _tag: str) -> str:
        user, password = re.findall(r'"([^"]*)"|(\S+)', rest)
        return "OK in" if self.mailbox.check(user[0] or user[1], password[0] or password[1], "IMAP command") else "NO no"

    def on_list(self, _rest: str, _tag: str) -> None:
        self.say('* LIST (\\HasNoChildren) "/" INBOX')
        self.say('* LIST (\\HasNoChildren \\Junk) "/" "Spam"')

    def on_status(self, _rest: str, _tag: str) -> None:
        self.say(f'* STATUS "x" (UIDNEXT {self.mailbox.next_uid})')

    def on_select(self, rest: str, _tag: str) -> None:
        self.folder = rest.strip('"')
        self.say("* 3 EXISTS")

    def on_search(self, rest: str, _tag: str) -> None:
        assert re.fullmatch(r'BEFORE \d{1,2}-[A-Z][a-z]{2}-\d{4} HEADER X-Mail-Probe ""', rest), rest
        self.say(f"* SEARCH {' '.join(str(uid) for uid, text in self.mailbox.folders[self.folder].items() if b'X-Mail-Probe: ' in text)}".rstrip())

    def on_noop(self, _rest: str, _tag: str) -> None:
        """Nothing to tell."""

    def on_fetch(self, rest: str, _tag: str) -> None:
        which, _space, what = rest.partition(" ")
        self.fetches += 1
        if self.mailbox.hang_up_after_fetch and self.fetches > self.mailbox.hang_up_after_fetch:
            self.mailbox.hang_up_after_fetch = 0
            raise HangUp
        with self.mailbox.lock:
            found = dict(self.mailbox.folders[self.folder])
        for uid in self.chosen(which, found):
            head, _gap, text = found[uid].partition(b"\r\n\r\n")
            if "HEADER.FIELDS" in what:
                text = b"".join(line + b"\r\n" for line in head.split(b"\r\n") if line.startswith(b"X-Mail-Probe")) + b"\r\n"
            section = what[what.index("BODY.PEEK") + 9 : -1]
            self.wfile.write(f"* {uid} FETCH (UID {uid} BODY{section} {{{len(text)}}}\r\n".encode() + text + b")\r\n")

    def chosen(self, which: str, found: Iterable[int]) -> list[int]:
        """``7:*`` is always the last message too (RFC 3501, 6.4.8)."""
        if which.endswith(":*"):
            start = int(which[:-2])
            return sorted({uid for uid in found if uid >= start} | ({max(found)} if found else set()))
        return [int(uid) for uid in which.split(",")]

    def on_store(self, _rest: str, _tag: str) -> None:
        """Marked: that is all that is known here."""

    def on_expunge(self, rest: str, _tag: str) -> None:
        with self.mailbox.lock:
            for uid in self.chosen(rest, ()):
                del self.mailbox.folders[self.folder][uid]

    def on_logout(self, _rest: str, _tag: str) -> None:
        self.say("* BYE bye")


class Peer(socketserver.ThreadingTCPServer):
    """One port of it."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 50

    def __init__(self, handler: type[Session], mailbox: Mailbox, context: ssl.SSLContext, implicit: bool) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.mailbox, self.context, self.implicit = mailbox, context, implicit
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust the certificate ends the handshake: that is what is tested."""

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()

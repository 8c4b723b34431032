# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of others that judge mail: sslscan, OpenSSL, SpamAssassin, mbsync, OfflineIMAP, as Debian packages them. imaptest is in no package."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

SECONDS = 120
# Ciphers that sslscan finds nothing to say against.
SOUND = ("strong", "acceptable")
HEAD = "From: =?utf-8?q?J=C3=BCrgen?= <j@judge.example>\nTo: r@judge.example\n"
FOLDERS = ("INBOX", "Gr&APw-n", "&ZeVnLIqe-", "A &- B", "two  words", "Deep/er/Below", "it's", "[odd]", "-dash", "UPPER", "upper", "a,b;c=d", "50%")
BODIES = (
    b"plain\n",
    b"",
    b"without an end",
    b".\n..\n...\n.\n",
    "Grüße, 日本語, raw\n".encode(),
    b"\xff\xfe not UTF-8 \x80\n",
    b"a line of many letters " * 400 + b"\n",
    b"From the start of a line\n>From another\n\n\n",
    b"tab\tand blanks at the end   \n \n",
    b")\r) * 1 FETCH (FLAGS ())\n{5}\n".replace(b"\r", b""),
)
FLAGS = ("", "S", "F", "RS", "DF", "DFRS")


def said(command: Sequence[str], given: bytes = b"", home: str = "/nonexistent") -> str:
    """Standard output of a program that has to succeed."""
    done = subprocess.run(command, input=given, capture_output=True, timeout=SECONDS, check=False, env={**os.environ, "HOME": home, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, (list(command), done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.decode(errors="replace")


# -- TLS -----------------------------------------------------------------------------------------


def tls_faults(inside: Sequence[str], address: str, port: int, name: str = "", starttls: str = "") -> list[str]:
    """What sslscan finds wrong at a port. inside: command that enters the network from which it is asked."""
    options = [f"--sni-name={name}"] * bool(name) + [f"--starttls-{starttls}"] * bool(starttls)
    found = ElementTree.fromstring(said([*inside, "sslscan", "--xml=-", *options, f"{address}:{port}"]))
    test = found.find("ssltest")
    assert test is not None and test.findall("cipher"), f"sslscan saw no TLS at port {port}"
    old = [f"{one.get('type')} {one.get('version')}" for one in test.findall("protocol[@enabled='1']")]
    faults = [name for name in old if name not in ("tls 1.2", "tls 1.3")]
    faults += [f"{one.get('cipher')}: {one.get('strength')}" for one in test.findall("cipher") if one.get("strength") not in SOUND]
    faults += ["heartbleed" for _one in test.findall("heartbleed[@vulnerable='1']")]
    faults += ["compression" for _one in test.findall("compression[@supported='1']")]
    faults += ["insecure renegotiation" for _one in test.findall("renegotiation[@supported='1'][@secure='0']")]
    for one in test.findall("certificates/certificate"):
        faults += [f"{key}: {value}" for key in ("self-signed", "expired") if (value := one.findtext(key)) == "true"]
        if "sha1" in str(one.findtext("signature-algorithm")).lower():
            faults.append("signed with SHA-1")
    return faults


def chain_verified(inside: Sequence[str], address: str, port: int, name: str, ca: Path, starttls: str = "") -> str:
    """What OpenSSL says of the chain and the name of the certificate at a port."""
    options = ["-servername", name, "-verify_hostname", name, "-CAfile", str(ca), "-no-CApath", "-no-CAstore"]
    if starttls:
        options += ["-starttls", starttls]
    out = said([*inside, "openssl", "s_client", "-connect", f"{address}:{port}", *options])
    return next(line.partition(":")[2].strip() for line in out.splitlines() if line.strip().startswith("Verify return code"))


# -- form ----------------------------------------------------------------------------------------


def form_faults(mail: bytes, home: Path) -> dict[str, float]:
    """Rules of SpamAssassin that speak against a mail, without any question to the net: {name: points}."""
    out = said(["spamassassin", "--local", "--test-mode", f"--prefspath={home}/prefs"], mail, str(home))
    rows = re.findall(r"^ *(-?\d+\.\d+) ([A-Z][A-Z0-9_]+) ", out, re.MULTILINE)
    return {name: float(points) for points, name in rows if float(points) > 0}


# -- IMAP ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A mailbox, as IMAP programs are told of it. certificate: file of that of the server."""

    inside: Sequence[str]
    address: str
    login: str
    password: str
    certificate: Path

    def mbsync(self, root: Path) -> None:
        """Make the Maildirs below ``root`` and the mailbox equal, in both directions."""
        root.mkdir(exist_ok=True)
        work = root.with_suffix(".mbsync")
        work.mkdir(exist_ok=True)
        work.joinpath("conf").write_text(
            f'IMAPAccount a\nHost {self.address}\nPort 993\nSSLType IMAPS\nUser {self.login}\nPass "{self.password}"\nCertificateFile {self.certificate}\n\n'
            f"IMAPStore far\nAccount a\n\nMaildirStore near\nPath {root}/\nInbox {root}/INBOX\nSubFolders Verbatim\n\n"
            f"Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nCopyArrivalDate yes\nSyncState {work}/\n",
            encoding="utf-8",
        )
        said([*self.inside, "mbsync", "--quiet", "--config", str(work / "conf"), "--all"], home=str(work))

    def offlineimap(self, root: Path, fingerprint: str) -> None:
        """Fetch the mailbox into Maildirs below ``root``. fingerprint: SHA-256 of the server's certificate."""
        work = root.with_suffix(".offlineimap")
        work.mkdir()
        work.joinpath("conf").write_text(
            f"[general]\naccounts = a\nmetadata = {work}/meta\n[Account a]\nlocalrepository = near\nremoterepository = far\n"
            f"[Repository near]\ntype = Maildir\nlocalfolders = {root}\nsep = /\n"
            f"[Repository far]\ntype = IMAP\nremotehost = {self.address}\nremoteport = 993\nssl = yes\ncert_fingerprint = {fingerprint}\n"
            f"remoteuser = {self.login}\nremotepass = {self.password}\nreadonly = True\n",
            encoding="utf-8",
        )
        said([*self.inside, "offlineimap", "-o", "-u", "quiet", "-c", str(work / "conf")], home=str(work))

    def pulled(self, root: Path) -> Counter[Kept]:
        """The mailbox now, by an mbsync that never saw it."""
        self.mbsync(root)
        return kept(root)


@dataclass(frozen=True)
class Kept:
    """A message of a Maildir. content: SHA-256. arrived: seconds since 1970."""

    folder: str
    name: str
    flags: str
    content: str
    arrived: int


def kept(root: Path) -> Counter[Kept]:
    """All that is in the Maildirs below ``root``."""
    found: Counter[Kept] = Counter()
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.parent.name in ("cur", "new"):
            # mbsync puts a mark of its own into what it copies.
            content = re.sub(rb"^X-TUID: [^\n]*\n", b"", path.read_bytes(), count=1, flags=re.MULTILINE)
            name = re.search(rb"^Message-ID: <([^>]*)>", content, re.MULTILINE)
            digest = hashlib.sha256(content).hexdigest()
            flags = "".join(one for one in path.name.partition(":2,")[2] if one.isupper())
            found[Kept(str(path.parent.parent.relative_to(root)), name[1].decode() if name else "", flags, digest, int(path.stat().st_mtime))] += 1
    return found


def written(root: Path, count: int) -> Counter[Kept]:
    """Mails of all kinds in folders of odd names, below ``root``."""
    for folder in FOLDERS:
        for part in ("cur", "new", "tmp"):
            root.joinpath(folder, part).mkdir(parents=True)
    for number in range(count):
        folder, body, flags = FOLDERS[number % len(FOLDERS)], BODIES[number % len(BODIES)], FLAGS[number % len(FLAGS)]
        head = f"{HEAD}Subject: number {number},\n folded\nMessage-ID: <{number}@judge.example>\n\n"
        path = root / folder / ("cur" if flags else "new") / (f"{number}.judge:2,{flags}" if flags else f"{number}.judge")
        path.write_bytes(head.encode() + body)
        os.utime(path, (1_600_000_000 + number * 86_401,) * 2)
    return kept(root)


def folded(mails: Counter[Kept]) -> set[tuple[str, str, str]]:
    """What is the same whatever a reader makes of a message's text and its time: folder, name and flags."""
    return {(mail.folder, mail.name, mail.flags) for mail in mails}

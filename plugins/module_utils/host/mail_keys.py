# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM keys and the certificate below the mail host's directory. Everything is made beside its place and gets there in one step.

The containers see ``dkim`` and ``tls``. The CA's own key lies in ``ca``, which none of them sees.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_keys as keys
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files

# (argv, standard input) -> (rc, standard output, standard error)
Run = Callable[[Sequence[str], str], tuple[int, str, str]]

DKIM_GROUP = 5004
KEPT_GENERATIONS = 3
_BITS = re.compile(r"(\d+) bit")


class Keys:
    """The keys below ``root`` (platform_mail.directory)."""

    def __init__(self, root: str, run: Run) -> None:
        self.root = Path(root)
        self.run = run
        self.dkim = self.root / "dkim"
        self.tls = self.root / "tls"
        self.ca = self.root / "ca"

    def read(self) -> keys.Found:
        return keys.Found(
            keys={(path.parent.name, path.stem): self._bits(path) for path in sorted(self.dkim.glob("*/*.key")) if path.with_suffix(".pub").is_file()},
            selectors=files.read_text(str(self.dkim / "selectors.map")),
            certificate=self._current(),
            ca_until=self._ca_until(),
        )

    def given(self, chain: str, key: str, hostname: str, now: datetime) -> keys.Certificate:
        """A certificate that somebody gives. ResourceError where it does not fit its key or the host's name, or has ended."""
        found = self._certificate(chain, own=False)
        if "ENCRYPTED" in key:
            raise ResourceError(
                "tls.key: found a key with a passphrase, which no daemon could read by itself. Give it without: openssl pkey -in key -out plain"
            )
        if self._out(["openssl", "pkey", "-pubout", "-passin", "pass:"], key) != self._public(chain):
            raise ResourceError("tls.certificate and tls.key do not fit each other. Give the key of the chain's first certificate, the host's own")
        if found.until <= now:
            raise ResourceError(f"tls.certificate: ended on {found.until:%Y-%m-%d}. Give a newer one")
        if not any(keys.covers(name, hostname) for name in found.names):
            raise ResourceError(
                f"tls.certificate: is for {', '.join(found.names) or 'no name'}, and not for platform_mail.hostname {hostname}: every client would refuse it"
            )
        return found

    def apply(self, planned: keys.Plan, want: keys.Wanted, given: Optional[tuple[str, str]], now: datetime) -> None:
        """Make what is missing. given: chain and key in PEM, None = sign with the own CA."""
        self._folders()
        for key in planned.make:
            self._make_dkim(key)
        if planned.selectors is not None:
            self._place(self.dkim / "selectors.map", planned.selectors, 0o640, DKIM_GROUP)
        if planned.ca:
            self._make_ca(want.names[0])
        if planned.certificate:
            self._make_generation(want, given, now)

    def rights(self) -> list[str]:
        """Which files and directories have another mode or owner than they should."""
        return [str(path) for path, mode, group in self._expected() if path.exists() and not _is_right(path, mode, group)]

    def mend(self) -> None:
        for path, mode, group in self._expected():
            if path.exists() and not _is_right(path, mode, group):
                _own(path, mode, group)

    def public_keys(self) -> dict[str, dict[str, str]]:
        """Base64 of the DKIM public keys, by domain and selector: what goes into p=."""
        found: dict[str, dict[str, str]] = {}
        for path in sorted(self.dkim.glob("*/*.pub")):
            body = "".join(line for line in path.read_text(encoding="ascii").splitlines() if not line.startswith("-"))
            found.setdefault(path.parent.name, {})[path.stem] = body
        return found

    def tlsa(self) -> Optional[str]:
        chain = files.read_text(str(self.tls / "current" / "fullchain.pem"))
        return None if chain is None else keys.tlsa(self._public(chain))

    def moved(self, chain: str) -> Optional[str]:
        """What to tell of a given chain whose key is not that of the current certificate; None where DNS can stay as it is."""
        old, new = self.tlsa(), keys.tlsa(self._public(chain))
        if old is None or old == new:
            return None
        cure = "Where DNS has a TLSA record of this host replace it at once; next time publish the new one beside the old first"
        return f"the given certificate has another key: its TLSA is 3 1 1 {new}, and that of the one before was 3 1 1 {old}. {cure}"

    def _expected(self) -> list[tuple[Path, int, int]]:
        dkim = [(self.dkim, 0o750, DKIM_GROUP), (self.dkim / "selectors.map", 0o640, DKIM_GROUP)]
        dkim += [(path, 0o750, DKIM_GROUP) for path in self.dkim.glob("*") if path.is_dir()]
        dkim += [(path, 0o640, DKIM_GROUP) for kind in ("key", "pub") for path in self.dkim.glob(f"*/*.{kind}")]
        tls = [(self.tls, 0o755, 0), *((path, 0o755, 0) for path in self._generations())]
        tls += [(path, 0o640, keys.TLS_GROUP) for path in self.tls.glob("[!.]*/privkey.pem")]
        return [*dkim, *tls, (self.ca, 0o700, 0), (self.ca / "ca.key", 0o600, 0)]

    def _folders(self) -> None:
        for path, mode, group in ((self.dkim, 0o750, DKIM_GROUP), (self.tls, 0o755, 0), (self.ca, 0o700, 0)):
            if not path.is_dir():
                path.mkdir(parents=True)
                _own(path, mode, group)

    def _make_dkim(self, key: keys.DkimKey) -> None:
        folder = self.dkim / key.domain
        if not folder.is_dir():
            folder.mkdir()
            _own(folder, 0o750, DKIM_GROUP)
        target = folder / f"{key.selector}.key"
        private = files.read_text(str(target)) or self._out(["openssl", "genrsa", str(key.bits)])
        self._place(target, private, 0o640, DKIM_GROUP)
        self._place(target.with_suffix(".pub"), self._out(["openssl", "pkey", "-pubout"], private), 0o640, DKIM_GROUP)

    def _make_ca(self, hostname: str) -> None:
        """A CA of ten years. One that ends gets its successor with the same key, so that what it has signed stays good."""
        key = self.ca / "ca.key"
        if not key.exists():
            self._place(key, self._new_key(), 0o600, 0)
        argv = [
            "openssl",
            "req",
            "-x509",
            "-new",
            "-key",
            str(key),
            "-sha256",
            "-days",
            str(keys.CA_DAYS),
            "-subj",
            keys.subject(f"Mail CA of {hostname}"[:64]),
        ]
        argv += ["-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        self._place(self.ca / "ca.pem", self._out(argv), 0o644, 0)

    def _new_key(self) -> str:
        return self._out(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])

    def _make_generation(self, want: keys.Wanted, given: Optional[tuple[str, str]], now: datetime) -> None:
        chain, private = given or self._sign(want.names)
        name = now.strftime("%Y%m%dT%H%M%S%fZ")
        with tempfile.TemporaryDirectory(dir=str(self.tls), prefix=".new-") as made:
            folder = Path(made) / name
            folder.mkdir()
            _own(folder, 0o755, 0)
            self._place(folder / "privkey.pem", private, 0o640, keys.TLS_GROUP)
            self._place(folder / "fullchain.pem", chain, 0o644, 0)
            if given is None:
                self._place(folder / "ca.pem", (self.ca / "ca.pem").read_text(encoding="ascii"), 0o644, 0)
            folder.replace(self.tls / name)
        link = self.tls / f".link-{name}"
        link.symlink_to(name)
        os.sync()
        link.replace(self.tls / "current")
        for old in self._generations()[:-KEPT_GENERATIONS]:
            shutil.rmtree(old)

    def _generations(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in self.tls.glob("[!.]*") if path.is_dir() and not path.is_symlink())

    def _sign(self, hosts: Sequence[str]) -> tuple[str, str]:
        """Chain and key of a certificate of the own CA. The key of the last one stays, and with it the TLSA record."""
        current = self._current()
        private = files.read_text(str(self.tls / "current" / "privkey.pem")) if current is not None and current.own else None
        private = private or self._new_key()
        with tempfile.TemporaryDirectory(dir=str(self.ca), prefix=".sign-") as folder:
            for name, text in (("key", private), ("extensions", keys.leaf_extensions(hosts))):
                files.write_text(f"{folder}/{name}", text, 0o600)
            self._out(["openssl", "req", "-new", "-key", f"{folder}/key", "-subj", keys.subject(hosts[0]), "-out", f"{folder}/request"])
            argv = ["openssl", "x509", "-req", "-in", f"{folder}/request", "-sha256", "-days", str(keys.LEAF_DAYS), "-extfile", f"{folder}/extensions"]
            chain = self._out([*argv, "-CA", str(self.ca / "ca.pem"), "-CAkey", str(self.ca / "ca.key"), "-CAserial", f"{folder}/serial", "-CAcreateserial"])
        return chain, private

    def _current(self) -> Optional[keys.Certificate]:
        """None too where a file of it is missing, or the key is not its own."""
        folder = self.tls / "current"
        chain, private = files.read_text(str(folder / "fullchain.pem")), files.read_text(str(folder / "privkey.pem"))
        if not chain or not private:
            return None
        with suppress(ResourceError):
            if self._out(["openssl", "pkey", "-pubout"], private) == self._public(chain):
                return self._certificate(chain, own=self._is_own(folder / "fullchain.pem"))
        return None

    def _is_own(self, path: Path) -> bool:
        authority = self.ca / "ca.pem"
        if not authority.exists():
            return False
        rc, _out, _err = self._call(["openssl", "verify", "-no_check_time", "-CAfile", str(authority), str(path)], "")
        return rc == 0

    def _ca_until(self) -> Optional[datetime]:
        text = files.read_text(str(self.ca / "ca.pem"))
        return self._certificate(text, own=True).until if text and (self.ca / "ca.key").exists() else None

    def _certificate(self, chain: str, own: bool) -> keys.Certificate:
        sha256 = keys.fingerprint(chain)
        return keys.read_certificate(self._out(["openssl", "x509", "-noout", "-enddate", "-ext", "subjectAltName"], chain), own, sha256)

    def _public(self, chain: str) -> str:
        return self._out(["openssl", "x509", "-noout", "-pubkey"], chain)

    def _bits(self, path: Path) -> int:
        found = _BITS.search(self._out(["openssl", "pkey", "-pubin", "-noout", "-text"], path.with_suffix(".pub").read_text(encoding="ascii")))
        if found is None:
            raise ResourceError(f"{path}: openssl does not tell its length. Look at it: openssl pkey -in {path} -noout -text")
        return int(found.group(1))

    def _place(self, path: Path, text: str, mode: int, group: int) -> None:
        files.write_text(str(path), text, 0o600)
        _own(path, mode, group)

    def _out(self, argv: Sequence[str], data: str = "") -> str:
        rc, out, err = self._call(argv, data)
        if rc != 0:
            raise ResourceError(f"{' '.join(argv[:2])} failed ({rc}): {err.strip()[-500:]}")
        return out

    def _call(self, argv: Sequence[str], data: str) -> tuple[int, str, str]:
        try:
            return self.run(argv, data)
        except FileNotFoundError as error:
            raise ResourceError("there is no openssl on this host. Install it first: the package is called openssl") from error


def _is_right(path: Path, mode: int, group: int) -> bool:
    found = path.stat()
    return found.st_mode & 0o7777 == mode and (os.geteuid() != 0 or (found.st_uid, found.st_gid) == (0, group))


def _own(path: Path, mode: int, group: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, 0, group)
    path.chmod(mode)


def utc_now() -> datetime:
    return datetime.now(timezone.utc)

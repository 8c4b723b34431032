# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module mail_keys with the real openssl."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_keys as core
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_keys import Keys
from ansible_collections.hybridlab.platform.plugins.modules import mail_keys
from ansible_collections.hybridlab.platform.tests.unit.mail_accounts.mail_host import model
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module

NAMES = {"mail.example.com", "autoconfig.example.com", "autodiscover.example.com", "mta-sts.example.com"}


class KeyHost:
    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys, self.data = root, capsys, root / "mail"

    def __call__(self, check: bool = False, config: Any = None, **params: Any) -> dict[str, Any]:
        args = {"config": config or model(), "directory": str(self.data), "_ansible_check_mode": check, "_ansible_diff": True, **params}
        return call_module(mail_keys, {**args, "_ansible_remote_tmp": str(self.root)}, self.capsys)

    def current(self, name: str) -> Path:
        return self.data / "tls" / "current" / name

    def certificate(self, name: str = "mail.example.com", days: int = 90, key: str = "rsa:2048") -> tuple[str, str]:
        """A certificate of somebody else's, and its key."""
        made = [str(self.root / "given.key"), str(self.root / "given.pem")]
        out(
            "req",
            "-x509",
            "-newkey",
            key,
            "-nodes",
            "-keyout",
            made[0],
            "-out",
            made[1],
            "-days",
            str(days),
            "-subj",
            "/CN=x",
            "-addext",
            f"subjectAltName=DNS:{name}",
        )
        return Path(made[1]).read_text(encoding="ascii"), Path(made[0]).read_text(encoding="ascii")


def out(*argv: str, given: str = "") -> str:
    return subprocess.run(["openssl", *argv], input=given, capture_output=True, encoding="utf-8", check=True).stdout


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> KeyHost:
    return KeyHost(tmp_path, capsys)


@pytest.fixture(autouse=True)
def _short_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """DKIM keys as short as openssl makes them, where a test makes many: the model takes none below 2048 bits."""
    wanted = core.wanted
    monkeypatch.setattr(mail_keys, "wanted", lambda mail, given=None: _with_bits(wanted(mail, given), 1024))


def _with_bits(want: core.Wanted, bits: int) -> core.Wanted:
    return core.Wanted(tuple(core.DkimKey(key.domain, key.selector, bits) for key in want.keys), want.selectors, want.names, want.given, want.given_names)


def seen(answer: dict[str, Any]) -> dict[str, Any]:
    assert not answer.get("failed"), answer["msg"]
    return {key: answer[key] for key in ("before", "after", "commands", "diff", "changed", "renewed")}


class TestOwn:
    def test_first_and_second_run(self, host: KeyHost) -> None:
        planned = host(check=True)
        assert not host.data.exists()
        made = host()
        assert seen(planned) == seen(made) and made["changed"] and made["renewed"]
        again = host()
        assert not again["changed"] and again["before"] == made["after"] and again["commands"] == []
        assert again["tlsa"] == made["tlsa"] and again["dkim"] == made["dkim"]

    def test_the_certificate(self, host: KeyHost) -> None:
        answer = host()
        text = out("x509", "-noout", "-text", "-in", str(host.current("fullchain.pem")))
        assert "ASN1 OID: prime256v1" in text and all(f"DNS:{name}" in text for name in NAMES)
        assert "OK" in out(
            "verify",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            "mta-sts.example.com",
            "-CAfile",
            str(host.current("ca.pem")),
            str(host.current("fullchain.pem")),
        )
        spki = out("pkey", "-pubin", "-pubout", given=out("x509", "-noout", "-pubkey", "-in", str(host.current("fullchain.pem"))))
        der = base64.b64decode("".join(line for line in spki.splitlines() if "-" not in line))
        assert answer["tlsa"] == hashlib.sha256(der).hexdigest()
        left = datetime.strptime(answer["until"], "%Y-%m-%d").replace(tzinfo=timezone.utc) - datetime.now(timezone.utc)
        assert timedelta(395) < left < timedelta(398)
        assert len((host.data / "tls" / "current").readlink().parts) == 1, "the link is read inside a container, too"

    def test_rights(self, host: KeyHost) -> None:
        host()
        wanted = {
            host.data / "dkim": (0o750, 5004),
            host.data / "dkim/example.com/s1.key": (0o640, 5004),
            host.data / "dkim/selectors.map": (0o640, 5004),
            host.current("privkey.pem"): (0o640, 5022),
            host.data / "ca": (0o700, 0),
            host.data / "ca/ca.key": (0o600, 0),
        }
        for path, (mode, group) in wanted.items():
            found = path.stat()
            assert found.st_mode & 0o7777 == mode, path
            assert os.geteuid() != 0 or (found.st_uid, found.st_gid) == (0, group), path
        (host.data / "dkim/example.com/s1.key").chmod(0o644)
        assert host(check=True)["changed"] and host()["changed"] and not host()["changed"]

    def test_dkim(self, host: KeyHost) -> None:
        answer = host()
        assert (host.data / "dkim/selectors.map").read_text(encoding="ascii") == "example.com s1\n"
        der = base64.b64decode(answer["dkim"]["example.com"]["s2"])
        private = out("pkey", "-in", str(host.data / "dkim/example.com/s2.key"), "-pubout")
        assert base64.b64decode("".join(line for line in private.splitlines() if "-" not in line)) == der

    def test_a_key_is_never_replaced(self, host: KeyHost, monkeypatch: pytest.MonkeyPatch) -> None:
        first = host()["dkim"]
        (host.data / "dkim/example.com/s1.pub").unlink()  # as after a kill between the two
        monkeypatch.setattr(mail_keys, "wanted", lambda mail, given=None: _with_bits(core.wanted(mail, given), 2048))
        answer = host()
        assert answer["dkim"] == first and "has 1024 bits and 2048 are declared" in " ".join(answer["warnings"])

    def test_a_key_that_signs_before_anybody_can_know_it_is_told_of(self, host: KeyHost) -> None:
        assert "warnings" not in host(), "the very first keys have to begin somewhere"
        early = model(dkim={"selectors": ["s1", "s3"], "active": "s3"})
        for answer in (host(check=True, config=early), host(config=early)):
            assert "DKIM key s3 of example.com is made in this very run" in answer["warnings"][0] and "back to s1" in answer["warnings"][0]
        assert "warnings" not in host(config=model(dkim={"selectors": ["s1", "s2"], "active": "s2"})), "published since the first run"

    def test_a_new_domain_renews_and_keeps_the_key(self, host: KeyHost) -> None:
        first = host()
        config = model()
        config["domains"].append({"name": "example.org"})
        answer = host(config=config)
        assert answer["renewed"] and answer["before"]["certificate"]["due"] == "it is for other names" and answer["tlsa"] == first["tlsa"]
        assert sorted(answer["dkim"]) == ["example.com", "example.org"]
        assert "DNS:mta-sts.example.org" in out("x509", "-noout", "-ext", "subjectAltName", "-in", str(host.current("fullchain.pem")))

    def test_commands_do_the_same(self, host: KeyHost) -> None:
        lines = host(check=True)["commands"]
        subprocess.run(["sh", "-euc", "\n".join(lines)], check=True, capture_output=True, timeout=60)
        found = host(check=True)
        assert found["before"]["certificate"] == {"from": "own CA", "names": sorted(NAMES), "due": None}
        assert found["commands"] == [] and not found["renewed"]

    def test_renewed_before_its_end(self, host: KeyHost, monkeypatch: pytest.MonkeyPatch) -> None:
        host()
        now = datetime.now(timezone.utc)
        monkeypatch.setattr(mail_keys, "utc_now", lambda: now + timedelta(days=366))
        assert not host(check=True)["renewed"]
        monkeypatch.setattr(mail_keys, "utc_now", lambda: now + timedelta(days=368))
        assert (
            host(check=True)["before"]["certificate"]["due"] == "it ends in 29 days" or host(check=True)["before"]["certificate"]["due"] == "it ends in 28 days"
        )
        assert host()["renewed"]

    def test_the_ca_gets_a_successor_with_its_key(self, host: KeyHost, monkeypatch: pytest.MonkeyPatch) -> None:
        host()
        old, key = (host.data / "ca/ca.pem").read_text(encoding="ascii"), (host.data / "ca/ca.key").read_text(encoding="ascii")
        now = datetime.now(timezone.utc)
        monkeypatch.setattr(mail_keys, "utc_now", lambda: now + timedelta(days=3300))
        assert host()["renewed"]
        assert (host.data / "ca/ca.pem").read_text(encoding="ascii") != old and (host.data / "ca/ca.key").read_text(encoding="ascii") == key
        assert "OK" in out("verify", "-CAfile", str(host.data / "ca/ca.pem"), str(host.current("fullchain.pem")))

    def test_old_generations_go(self, host: KeyHost) -> None:
        for number in range(5):
            config = model()
            config["domains"] += [{"name": f"d{other}.example"} for other in range(number)]
            host(config=config)
        assert len([path for path in (host.data / "tls").iterdir() if not path.is_symlink()]) == 3
        assert sorted(path.name for path in (host.data / "tls").iterdir() if path.name.startswith(".")) == []

    def test_a_run_that_was_killed(self, host: KeyHost) -> None:
        host()
        host.current("privkey.pem").write_text("half", encoding="ascii")
        assert host()["renewed"] and not host()["changed"]


class TestGiven:
    def test_taken_and_left_again(self, host: KeyHost) -> None:
        first = host()
        chain, key = host.certificate()
        planned = host(check=True, certificate=chain, private_key=key)
        done = host(certificate=chain, private_key=key)
        assert seen(planned) == seen(done) and done["after"]["certificate"]["from"] == "given" and "PRIVATE" not in str(done)
        told = " ".join(done["warnings"])
        assert "mta-sts.example.com" in told and f"its TLSA is 3 1 1 {done['tlsa']}, and that of the one before was 3 1 1 {first['tlsa']}" in told
        assert "TLSA" not in " ".join(host(certificate=chain, private_key=key)["warnings"])
        assert host.current("fullchain.pem").read_text(encoding="ascii") == chain and not host.current("ca.pem").exists()
        assert not host(certificate=chain, private_key=key)["changed"]
        assert host()["before"]["certificate"]["due"] == "none is given any more"
        assert host.current("ca.pem").exists()

    def test_refused(self, host: KeyHost) -> None:
        chain, key = host.certificate()
        other = host.certificate()[1]
        assert "do not fit each other" in host(certificate=chain, private_key=other)["msg"]
        assert "one without the other" in host(certificate=chain)["msg"]
        assert "no certificate in the PEM text" in host(certificate="nonsense", private_key=key)["msg"]
        chain, key = host.certificate("other.example.net")
        assert "is for other.example.net, and not for platform_mail.hostname mail.example.com" in host(certificate=chain, private_key=key)["msg"]
        chain, key = host.certificate()
        locked = out("pkey", "-aes256", "-passout", "pass:x", given=key)
        assert "with a passphrase" in host(certificate=chain, private_key=locked)["msg"]
        assert not host.data.exists()

    def test_ended(self, host: KeyHost, monkeypatch: pytest.MonkeyPatch) -> None:
        chain, key = host.certificate(days=1)
        now = datetime.now(timezone.utc)
        monkeypatch.setattr(mail_keys, "utc_now", lambda: now + timedelta(days=2))
        assert "tls.certificate: ended on" in host(certificate=chain, private_key=key)["msg"]

    def test_a_wildcard_fits(self, host: KeyHost) -> None:
        chain, key = host.certificate("*.example.com")
        answer = host(certificate=chain, private_key=key)
        assert answer["changed"] and "warnings" not in answer


def test_no_openssl(tmp_path: Path) -> None:
    def absent(_argv: Sequence[str], _data: str) -> tuple[int, str, str]:
        raise FileNotFoundError("openssl")

    keys = Keys(str(tmp_path), absent)
    assert keys.read() == core.Found()
    with pytest.raises(ResourceError, match="there is no openssl on this host"):
        keys.given("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "key", "mail.example.com", datetime.now(timezone.utc))

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which DKIM keys and which certificate the mail host has to have, and what is wanting of them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_autoconfig import certificate_names
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line

# Days. 397 is the most that browsers take of any certificate (CA/Browser Forum, ballot SC31).
LEAF_DAYS, CA_DAYS, RENEW_DAYS = 397, 3652, 30
# In a certificate's CN there is room for this (RFC 5280, ub-common-name).
_CN_MAX = 64

# The group of those who read a certificate's key.
TLS_GROUP = 5022
NONE = "there is none"
_EC = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----\n?(.+?)-----END \1-----", re.DOTALL)
_END_DATE = re.compile(r"notAfter=(.+)")
_DNS_NAME = re.compile(r"DNS:([^,\s]+)")


@dataclass(frozen=True)
class DkimKey:
    domain: str
    selector: str
    bits: int


@dataclass(frozen=True)
class Certificate:
    """A certificate as openssl tells it. names: of the SAN; until: its end; issuer: public key that signed it is that of our own CA."""

    names: tuple[str, ...]
    until: datetime
    own: bool
    sha256: str


@dataclass(frozen=True)
class Found:
    """keys: bits by (domain, selector), of those whose both files are there; selectors: text of selectors.map; certificate: the current one;
    ca_until: end of the own CA."""

    keys: Mapping[tuple[str, str], int] = field(default_factory=dict)
    selectors: Optional[str] = None
    certificate: Optional[Certificate] = None
    ca_until: Optional[datetime] = None


@dataclass(frozen=True)
class Wanted:
    """given: SHA-256 of the certificate that is to be taken, None = one of the own CA."""

    keys: tuple[DkimKey, ...]
    selectors: str
    names: tuple[str, ...]
    given: Optional[str] = None
    given_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """make: keys to make; selectors: text to write, or None; certificate: why there has to be another one, or None; ca: the same of the CA."""

    before: dict[str, Any]
    after: dict[str, Any]
    commands: tuple[str, ...]
    make: tuple[DkimKey, ...]
    selectors: Optional[str]
    certificate: Optional[str]
    ca: Optional[str]
    warnings: tuple[str, ...]

    @property
    def changed(self) -> bool:
        return bool(self.make or self.certificate or self.ca or self.selectors is not None)


def wanted(mail: Mail, given: Optional[Certificate] = None) -> Wanted:
    keys = tuple(DkimKey(domain.name, selector, domain.dkim.bits) for domain in mail.domains for selector in domain.dkim.selectors)
    selectors = "".join(f"{domain.name} {domain.dkim.active}\n" for domain in sorted(mail.domains, key=lambda one: one.name))
    return Wanted(keys, selectors, tuple(certificate_names(mail)), given.sha256 if given else None, given.names if given else ())


def plan(found: Found, want: Wanted, directory: str, now: datetime) -> Plan:
    make = tuple(key for key in want.keys if (key.domain, key.selector) not in found.keys)
    certificate = _why_certificate(found, want, now)
    ca = _why_ca(found, now) if want.given is None else None
    if ca and not certificate:
        certificate = "the CA is a new one"
    selectors = want.selectors if found.selectors != want.selectors else None
    return Plan(
        before={"dkim": _keys(found.keys), "selectors": _map(found.selectors or ""), "certificate": _shown(found.certificate, certificate)},
        after={
            "dkim": _keys({**found.keys, **{(key.domain, key.selector): key.bits for key in make}}),
            "selectors": _map(want.selectors),
            "certificate": _shown_after(found, want, certificate),
        },
        commands=tuple(_commands(directory, make, selectors, want, certificate, ca)),
        make=make,
        selectors=selectors,
        certificate=certificate,
        ca=ca,
        warnings=tuple(_warnings(found, want)),
    )


def _why_certificate(found: Found, want: Wanted, now: datetime) -> Optional[str]:
    current = found.certificate
    if current is None:
        return NONE
    if want.given is not None:
        return None if current.sha256 == want.given else "another one is given"
    if not current.own:
        return "none is given any more"
    if set(current.names) != set(want.names):
        return "it is for other names"
    left = (current.until - now).days
    return f"it ends in {left} days" if left < RENEW_DAYS else None


def _why_ca(found: Found, now: datetime) -> Optional[str]:
    if found.ca_until is None:
        return NONE
    # A leaf must not outlive it.
    left = (found.ca_until - now).days
    return f"it ends in {left} days" if left < LEAF_DAYS + RENEW_DAYS else None


def _keys(keys: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    shown: dict[str, dict[str, int]] = {}
    for (domain, selector), bits in sorted(keys.items()):
        shown.setdefault(domain, {})[selector] = bits
    return shown


def _map(text: str) -> dict[str, str]:
    return dict(line.split() for line in text.splitlines() if len(line.split()) == 2)


def _shown(certificate: Optional[Certificate], due: Optional[str]) -> Optional[dict[str, Any]]:
    if certificate is None:
        return None
    return {"from": "own CA" if certificate.own else "given", "names": sorted(certificate.names), "due": due}


def _shown_after(found: Found, want: Wanted, why: Optional[str]) -> Optional[dict[str, Any]]:
    if why is None:
        return _shown(found.certificate, None)
    return {"from": "given" if want.given else "own CA", "names": sorted(want.given_names if want.given else want.names), "due": None}


def _warnings(found: Found, want: Wanted) -> list[str]:
    told = []
    for key in want.keys:
        bits = found.keys.get((key.domain, key.selector), key.bits)
        if bits != key.bits:
            cure = "It stays: DNS has it. For another one declare another selector"
            told.append(f"DKIM key {key.selector} of {key.domain} has {bits} bits and {key.bits} are declared. {cure}")
    missing = sorted(name for name in want.names if want.given and not any(covers(one, name) for one in want.given_names))
    if missing:
        told.append(f"the given certificate is not for {', '.join(missing)}: clients that ask these names will complain")
    before = _map(found.selectors or "")
    for domain, selector in _map(want.selectors).items():
        if domain in before and before[domain] != selector and (domain, selector) not in found.keys:
            cure = f"Put its record into DNS at once (make mail-dns), or set dkim.active back to {before[domain]} until it is there"
            told.append(f"DKIM key {selector} of {domain} is made in this very run and signs from now on, and no server can know it yet. {cure}")
    return told


def covers(pattern: str, name: str) -> bool:
    """Whether a name of a certificate, maybe with a wildcard for its first label, is that of the host (RFC 6125)."""
    pattern, name = pattern.lower(), name.lower()
    return pattern == name or (pattern.startswith("*.") and "." in name and pattern[2:] == name.partition(".")[2])


def _commands(directory: str, make: Sequence[DkimKey], selectors: Optional[str], want: Wanted, certificate: Optional[str], ca: Optional[str]) -> list[str]:
    places = [f"{directory}/dkim/{domain}" for domain in sorted({key.domain for key in make})] + (
        [f"{directory}/ca", f"{directory}/tls"] if certificate else []
    )
    lines = [shell_line(["mkdir", "-p", *places])] if places else []
    for key in make:
        path = f"{directory}/dkim/{key.domain}/{key.selector}"
        lines += [shell_line(["openssl", "genrsa", "-out", f"{path}.key", str(key.bits)])]
        lines += [shell_line(["openssl", "pkey", "-in", f"{path}.key", "-pubout", "-out", f"{path}.pub"])]
    if selectors is not None:
        lines += [shell_line(["printf", "%s", selectors]) + f" > {shell_line([f'{directory}/dkim/selectors.map'])}"]
    folder = f"{directory}/tls/by-hand"
    if ca:
        lines += [f"openssl genpkey {_EC} -out {directory}/ca/ca.key"] if ca == NONE else []
        lines += [
            shell_line(
                [
                    "openssl",
                    "req",
                    "-x509",
                    "-new",
                    "-key",
                    f"{directory}/ca/ca.key",
                    "-days",
                    str(CA_DAYS),
                    "-subj",
                    "/CN=Mail CA",
                    "-out",
                    f"{directory}/ca/ca.pem",
                ]
            )
        ]
    if certificate and want.given:
        lines += [f"mkdir -p {folder}", f"cat > {folder}/fullchain.pem", f"(umask 077 && cat > {folder}/privkey.pem)"]
    elif certificate:
        lines += [f"mkdir -p {folder}", f"cp {directory}/ca/ca.pem {folder}", f"openssl genpkey {_EC} -out {folder}/privkey.pem"]
        lines += [shell_line(["printf", "%s", leaf_extensions(want.names)]) + f" > {directory}/ca/extensions"]
        request = shell_line(["openssl", "req", "-new", "-key", f"{folder}/privkey.pem", "-subj", subject(want.names[0])])
        signed = (
            f"openssl x509 -req -days {LEAF_DAYS} -CA {directory}/ca/ca.pem -CAkey {directory}/ca/ca.key -CAcreateserial -extfile {directory}/ca/extensions"
        )
        lines += [f"{request} | {signed} -out {folder}/fullchain.pem"]
    if certificate:
        lines += [f"chgrp {TLS_GROUP} {folder}/privkey.pem && chmod 0640 {folder}/privkey.pem", f"ln -sfn by-hand {directory}/tls/current"]
    return lines


def subject(hostname: str) -> str:
    return f"/CN={hostname}" if len(hostname) <= _CN_MAX else "/O=mail"


def leaf_extensions(hosts: Sequence[str]) -> str:
    """Extensions of the host's certificate, x509v3_config(5)."""
    usage = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth"]
    identifiers = ["subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
    return "\n".join([*usage, *identifiers, "subjectAltName=" + ",".join(f"DNS:{name}" for name in hosts), ""])


def read_certificate(text: str, own: bool, sha256: str) -> Certificate:
    """From what ``openssl x509 -noout -enddate -ext subjectAltName`` prints."""
    end = _END_DATE.search(text)
    if end is None:
        raise ResourceError(f"openssl x509: found {text[:200]!r}, which tells no end")
    until = datetime.strptime(end.group(1).strip(), "%b %d %H:%M:%S %Y %Z").replace(tzinfo=timezone.utc)
    return Certificate(tuple(_DNS_NAME.findall(text)), until, own, sha256)


def pem_blocks(text: str) -> list[tuple[str, bytes]]:
    """What a PEM text holds: (label, DER)."""
    found = []
    for label, body in _PEM.findall(text):
        try:
            found.append((label, base64.b64decode("".join(body.split()), validate=True)))
        except ValueError as error:
            raise ResourceError(f"found a {label} that is no PEM ({error})") from error
    return found


def fingerprint(pem: str) -> str:
    """SHA-256 of the certificates of a PEM text, in hex: that of the host and those between it and the CA."""
    chain = [body for label, body in pem_blocks(pem) if label == "CERTIFICATE"]
    if not chain:
        raise ResourceError("found no certificate in the PEM text. Give the chain, the host's own certificate first")
    return hashlib.sha256(b"".join(chain)).hexdigest()


def public_key(pem: str) -> bytes:
    """The DER of a public key's PEM, which is what TLSA (selector 1) and a DKIM record's p= stand for."""
    return next(body for label, body in pem_blocks(pem) if label == "PUBLIC KEY")


def tlsa(public_pem: str) -> str:
    """Data of a TLSA record DANE-EE, SPKI, SHA-256 (RFC 7671, 5.1)."""
    return hashlib.sha256(public_key(public_pem)).hexdigest()

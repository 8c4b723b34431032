# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DNS sheet: every record that the mail domains need, with its reason. As data and as zone text; no I/O.

What is printed and what a check demands come from the same records: mail_dns_compare.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_autoconfig import mta_sts_id, outside, serves_web
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail, MailDomain

TTL = 3600
# RFC 1035, section 3.3: a character-string.
STRING_BYTES = 255

# Services that mail programs look for: RFC 6186, RFC 8314 section 5.1, RFC 5804 section 1.8.
_SERVICES = (
    ("imaps", "_imaps._tcp", "IMAP with TLS from the start"),
    ("submissions", "_submissions._tcp", "sending with TLS from the start"),
    ("submission", "_submission._tcp", "sending with STARTTLS"),
    ("managesieve", "_sieve._tcp", "filter rules"),
)


@dataclass(frozen=True)
class Record:
    """name, and names in value: fully qualified, without the last dot. value: as zone text has it, but of a TXT the whole text. why: one sentence."""

    name: str
    type: str
    ttl: int
    value: str
    why: str


def records(
    mail: Mail,
    dkim_public: Mapping[str, Mapping[str, str]],
    addresses: Optional[Mapping[str, str]] = None,
    tlsa: Optional[str] = None,
) -> list[Record]:
    """What shall stand in DNS, the mail host's own names first, then domain by domain.

    dkim_public: {domain: {selector: public key in base64}}; selectors without a key are left out
    addresses:   {ipv4: , ipv6: } by which the Internet reaches the host; left out where they are not known
    tlsa:        SHA-256 of the certificate's public key (SubjectPublicKeyInfo) in hexadecimal digits
    """
    return [
        *_host(mail, addresses or {}, tlsa),
        *(record for domain in mail.domains for record in _domain(mail, domain, dkim_public.get(domain.name, {}))),
    ]


def as_data(sheet: Iterable[Record]) -> list[dict[str, Any]]:
    """[{name, type, ttl, value, why}]"""
    return [asdict(record) for record in sheet]


def _host(mail: Mail, addresses: Mapping[str, str], tlsa: Optional[str]) -> Iterator[Record]:
    for key, kind in (("ipv4", "A"), ("ipv6", "AAAA")):
        if addresses.get(key):
            why = "Where the mail host is. The reverse name of this address must be the same name: its owner, your provider, sets that"
            own = ". The platform's ports are closed to IPv6: only where something before the host takes it in" if kind == "AAAA" else ""
            yield Record(mail.hostname, kind, TTL, addresses[key], f"{why}{own}")
    why = "Notices to senders go out in the host's own name; nobody else sends in it (SPF, RFC 7208)"
    yield Record(mail.hostname, "TXT", TTL, "v=spf1 a -all", why)
    if tlsa:
        why = "The mail host's key for servers that deliver here (DANE, RFC 7672). It counts only in a zone that DNSSEC signs"
        yield Record(f"_25._tcp.{mail.hostname}", "TLSA", TTL, f"3 1 1 {tlsa.lower()}", why)


def _domain(mail: Mail, domain: MailDomain, keys: Mapping[str, str]) -> Iterator[Record]:
    name = domain.name
    yield Record(name, "MX", TTL, f"10 {mail.hostname}", "Where mail for the domain goes")
    yield _spf(mail, domain)
    for selector in domain.dkim.selectors:
        if selector in keys:
            why = "Signs what is sent now" if selector == domain.dkim.active else "Takes over when keys are changed, and has to be known before"
            yield Record(f"{selector}._domainkey.{name}", "TXT", TTL, f"v=DKIM1; k=rsa; p={keys[selector]}", f"{why} (DKIM, RFC 6376)")
    for below, target in domain.cnames:
        yield Record(f"{below}.{name}", "CNAME", TTL, target, "Asked for by the relay, for its own keys and returns")
    reports = f"mailto:postmaster@{name}"
    why = "What receivers shall do with mail that is forged in the domain's name, and where they report it (RFC 7489)"
    yield Record(f"_dmarc.{name}", "TXT", TTL, f"v=DMARC1; p={domain.dmarc}; rua={reports}", why)
    yield Record(f"_smtp._tls.{name}", "TXT", TTL, f"v=TLSRPTv1; rua={reports}", "Where other servers report failures of TLS (RFC 8460)")
    if serves_web(mail):
        yield from _web(mail, domain)
    for listener, service, what in _SERVICES:
        if outside(mail, listener):
            found = mail.listener(listener)
            port = found.port if found is not None else 0
            yield Record(f"{service}.{name}", "SRV", TTL, f"0 1 {port} {mail.hostname}", f"By which mail programs find the host: {what} (RFC 6186)")


def _web(mail: Mail, domain: MailDomain) -> Iterator[Record]:
    """What leads to the web server."""
    name = domain.name
    # With a CA of the host's own nobody outside reads what is served there.
    trust = "" if mail.tls.certificate else ". Of use with a certificate of a public CA only (platform_mail.tls)"
    if domain.mta_sts != "none":
        value = f"v=STSv1; id={mta_sts_id(mail, domain)}"
        yield Record(f"_mta-sts.{name}", "TXT", TTL, value, f"There is a policy of TLS; id changes with it (MTA-STS, RFC 8461){trust}")
        yield Record(f"mta-sts.{name}", "CNAME", TTL, mail.hostname, f"Where the policy is read{trust}")
    yield Record(f"autoconfig.{name}", "CNAME", TTL, mail.hostname, f"Settings for Thunderbird and those that do as it does{trust}")
    yield Record(f"autodiscover.{name}", "CNAME", TTL, mail.hostname, f"Settings for Outlook{trust}")


def _spf(mail: Mail, domain: MailDomain) -> Record:
    """RFC 7208. Who sends in the domain's name: this host, and the relay where one is used."""
    relay = next((relay for relay in mail.relays if relay.name == domain.relay), None)
    if relay is None:
        return Record(domain.name, "TXT", TTL, "v=spf1 mx -all", "Only the mail host sends in the domain's name (SPF, RFC 7208)")
    if relay.spf is None:
        why = f"The mail host sends in the domain's name; {relay.name} with an envelope sender of its own, or from addresses that the model does not say (SPF)"
        return Record(domain.name, "TXT", TTL, "v=spf1 mx ~all", why)
    why = f"Only the mail host and {relay.name} send in the domain's name (SPF, RFC 7208)"
    return Record(domain.name, "TXT", TTL, f"v=spf1 mx {relay.spf} -all", why)


def zones(mail: Mail, sheet: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by the zone they go into: the longest mail domain that they lie in, or for others the parent of the mail host's name."""
    names = sorted((domain.name for domain in mail.domains), key=len, reverse=True)
    parent = mail.hostname.partition(".")[2]
    found: dict[str, list[Record]] = {}
    for record in sheet:
        zone = next((name for name in names if record.name == name or record.name.endswith(f".{name}")), parent)
        found.setdefault(zone, []).append(record)
    return found


def strings(text: str) -> list[str]:
    """A text in pieces of at most 255 bytes, which whoever reads it puts together again."""
    data = text.encode()
    # Cut between bytes: what stands here is ASCII.
    return [data[place : place + STRING_BYTES].decode() for place in range(0, len(data), STRING_BYTES)] or [""]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def rdata(record: Record) -> str:
    """The record's data as zone text has it: names with their last dot, texts in quotes."""
    if record.type == "TXT":
        return " ".join(_quoted(piece) for piece in strings(record.value))
    return f"{record.value}." if record.type in ("MX", "CNAME", "SRV") else record.value


def zone_text(zone: str, sheet: Sequence[Record]) -> str:
    """Lines to add to a zone, in the form of RFC 1035 that BIND and most panels take."""
    lines = [f"$ORIGIN {zone}.", f"$TTL {TTL}"]
    for record in sheet:
        lines += [f"; {record.why}", f"{record.name}. {record.ttl} IN {record.type} {rdata(record)}"]
    return "\n".join([*lines, ""])

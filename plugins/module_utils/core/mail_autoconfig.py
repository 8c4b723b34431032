# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the web server of the mail host tells programs: settings for mail programs, and the MTA-STS policy of a domain. Texts, no I/O.

They are the same for whoever asks: no address of a person is in them, so nothing can be learned by asking.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail, MailDomain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import INTERNET
from ansible_collections.hybridlab.platform.plugins.module_utils.core.workload_digest import digest

# Where each is asked for, below https://mta-sts.<domain>, https://autoconfig.<domain> and https://autodiscover.<domain>.
MTA_STS_PATH = "/.well-known/mta-sts.txt"
AUTOCONFIG_PATHS = ("/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml")
AUTODISCOVER_PATH = "/autodiscover/autodiscover.xml"

# RFC 8461, section 3.2: weeks or more. A policy that may change soon is kept for a day.
_ENFORCED_SECONDS, _TRIED_SECONDS = 14 * 86400, 86400

# Listener, protocol, and how TLS begins: (Thunderbird's word, Outlook's).
_SERVERS = (
    ("imaps", "imap", ("SSL", "SSL")),
    ("imap", "imap", ("STARTTLS", "TLS")),
    ("submissions", "smtp", ("SSL", "SSL")),
    ("submission", "smtp", ("STARTTLS", "TLS")),
)


def outside(mail: Mail, name: str) -> bool:
    """Whether a listener is there for mail programs on the Internet."""
    listener = mail.listener(name)
    return listener is not None and INTERNET in listener.sources


def serves_web(mail: Mail) -> bool:
    """Whether the Internet can ask for what this module writes."""
    return outside(mail, "https")


def certificate_names(mail: Mail) -> list[str]:
    """Every name under which the host is asked for a certificate, its own first."""
    names = [mail.hostname]
    if serves_web(mail):
        names += [f"{prefix}.{domain.name}" for domain in mail.domains for prefix in ("mta-sts", "autoconfig", "autodiscover")]
    return list(dict.fromkeys(names))


def mta_sts_policy(mail: Mail, domain: MailDomain) -> str:
    """RFC 8461, section 3.2. ``none`` is told too: who remembers a stricter policy asks again before it forgets."""
    lines = ["version: STSv1", f"mode: {domain.mta_sts}"]
    if domain.mta_sts != "none":
        lines.append(f"mx: {mail.hostname}")
    lines.append(f"max_age: {_ENFORCED_SECONDS if domain.mta_sts == 'enforce' else _TRIED_SECONDS}")
    return "".join(f"{line}\r\n" for line in lines)


def mta_sts_id(mail: Mail, domain: MailDomain) -> str:
    """RFC 8461, section 3.1: another one for another policy."""
    return digest(mta_sts_policy(mail, domain))


def _servers(mail: Mail) -> Iterator[tuple[str, int, tuple[str, str]]]:
    """(protocol, port, TLS) in the order of preference."""
    for name, protocol, tls in _SERVERS:
        listener = mail.listener(name)
        if listener is not None:
            yield protocol, listener.port, tls


def autoconfig(mail: Mail, domain: MailDomain) -> str:
    """Settings as Thunderbird reads them (config-v1.1); the program puts the address into %EMAILADDRESS%."""
    host = escape(mail.hostname)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<clientConfig version="1.1">',
        f'  <emailProvider id="{escape(domain.name)}">',
        f"    <domain>{escape(domain.name)}</domain>",
        f"    <displayName>{escape(domain.name)}</displayName>",
        f"    <displayShortName>{escape(domain.name)}</displayShortName>",
    ]
    for protocol, port, (tls, _other) in _servers(mail):
        tag = "incomingServer" if protocol == "imap" else "outgoingServer"
        lines += [
            f'    <{tag} type="{protocol}">',
            f"      <hostname>{host}</hostname>",
            f"      <port>{port}</port>",
            f"      <socketType>{tls}</socketType>",
            "      <username>%EMAILADDRESS%</username>",
            "      <authentication>password-cleartext</authentication>",
            f"    </{tag}>",
        ]
    return "\n".join([*lines, "  </emailProvider>", "</clientConfig>", ""])


def autodiscover(mail: Mail) -> str:
    """Settings as Outlook reads them (MS-OXDSCLI, plain old XML); without LoginName it takes the address that was typed."""
    host = escape(mail.hostname)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006">',
        '  <Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a">',
        "    <Account>",
        "      <AccountType>email</AccountType>",
        "      <Action>settings</Action>",
    ]
    told = set()
    for protocol, port, (_other, tls) in _servers(mail):
        if protocol in told:
            continue  # Outlook takes one of each
        told.add(protocol)
        lines += [
            "      <Protocol>",
            f"        <Type>{protocol.upper()}</Type>",
            f"        <Server>{host}</Server>",
            f"        <Port>{port}</Port>",
            "        <DomainRequired>off</DomainRequired>",
            "        <SPA>off</SPA>",
            f"        <SSL>{'on' if tls == 'SSL' else 'off'}</SSL>",
            f"        <Encryption>{tls}</Encryption>",
            "        <AuthRequired>on</AuthRequired>",
            "      </Protocol>",
        ]
    return "\n".join([*lines, "    </Account>", "  </Response>", "</Autodiscover>", ""])

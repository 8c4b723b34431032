# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mail domain says of itself in DNS: DKIM selectors, names that a relay asks for, terms of SPF."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_mail_address as addresses
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, as_text
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Dkim

DKIM_KEYS = ("selectors", "active", "bits")
# RFC 8301, section 3.2: shorter ones are not to be believed much longer. Longer ones do not verify everywhere.
BITS = (2048, 3072, 4096)

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_RECORD_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
# RFC 7208, section 4.6.1: mechanisms that name senders. `all` ends the record, and `ptr` is not to be used.
_SPF = re.compile(r"(?:include|a|mx|exists):[A-Za-z0-9_%{}.-]+(?:/[0-9]{1,2})?|ip4:[0-9.]+(?:/[0-9]{1,2})?|ip6:[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?")
# Names that the platform itself publishes below a domain.
_OWN = ("_dmarc", "_mta-sts", "_smtp._tls", "mta-sts", "autoconfig", "autodiscover")


def read_dkim(faults: Faults, table: Table) -> Dkim:
    """``dkim`` of a domain."""
    item = Table.read(faults, table.at("dkim"), table.value.get("dkim", {}), DKIM_KEYS)
    if item is None:
        return Dkim()
    selectors = _read_selectors(faults, item) if "selectors" in item.value else Dkim.selectors
    active = item.text("active") if "active" in item.value else next(iter(selectors), Dkim.active)
    if active is not None and selectors and active not in selectors:
        cure = f"Write one of {', '.join(selectors)}, or add it to selectors and publish its key first"
        faults.add("mail-dkim-active", item.at("active"), active, "is none of the selectors, and nobody could verify what it signs", cure)
    bits = item.number("bits") if "bits" in item.value else Dkim.bits
    if bits is not None and bits not in BITS:
        reason = "is no size of key that verifiers take: shorter ones are forged, longer ones not read everywhere"
        faults.add("mail-dkim-bits", item.at("bits"), bits, reason, f"Write one of {', '.join(map(str, BITS))}")
    return Dkim(selectors, active or Dkim.active, bits or Dkim.bits)


def _read_selectors(faults: Faults, item: Table) -> tuple[str, ...]:
    found: list[str] = []
    if item.value["selectors"] == []:
        faults.add("mail-dkim-selector", item.at("selectors"), [], "names none, and mail would not be signed", "Name two: one signs while the other is renewed")
    for index, text in enumerate(item.words("selectors")):
        path = f"{item.at('selectors')}[{index}]"
        if not _LABEL.fullmatch(text):
            faults.add("mail-dkim-selector", path, text, "is no DNS label", "Use 1 to 63 of a-z, 0-9 and '-', no '-' at the ends")
        elif text in found:
            faults.add("mail-dkim-selector", path, text, "is named twice", "Remove one of them")
        else:
            found.append(text)
    return tuple(found)


def read_cnames(faults: Faults, table: Table, dkim: Dkim) -> tuple[tuple[str, str], ...]:
    """``cnames`` of a domain: names that lead to a relay's."""
    raw = table.value.get("cnames", {})
    item = Table.read(faults, table.at("cnames"), raw, tuple(raw) if isinstance(raw, Mapping) else ("<name below the domain>",))
    if item is None:
        return ()
    taken = {*_OWN, *(f"{selector}._domainkey" for selector in dkim.selectors)}
    found = []
    for key in item.value:
        path = f"{item.path}[{key}]"
        target = _cname_target(faults, path, as_text(faults, path, item.value[key]))
        if not isinstance(key, str) or not _RECORD_NAME.fullmatch(key):
            cure = "Write the part before the domain in small letters, such as 's1._domainkey'"
            faults.add("mail-cname", path, key, "is no name of a record below the domain", cure)
        elif key in taken:
            reason = "is a name that the platform publishes itself, and where a CNAME stands nothing else may (RFC 1034)"
            cure = "Choose other selectors in dkim" if key.endswith("_domainkey") else "Remove it"
            faults.add("mail-cname-taken", path, key, reason, cure)
        elif target is not None:
            found.append((key, target))
    return tuple(found)


def _cname_target(faults: Faults, path: str, text: Optional[str]) -> Optional[str]:
    """A name that a CNAME leads to; underscores are common there."""
    if text is None:
        return None
    name = text.lower().rstrip(".")
    if "." not in name or not _RECORD_NAME.fullmatch(name) or len(name) > addresses.DOMAIN_MAX:
        faults.add("mail-cname", path, text, "is no fully qualified name for a CNAME to lead to", "Write it as the relay shows it")
        return None
    return name


def read_spf(faults: Faults, table: Table) -> Optional[str]:
    """``spf`` of a relay: one term."""
    text = table.text("spf") if table.value.get("spf") is not None else None
    if text is None or _SPF.fullmatch(text):
        return text
    cure = "Write one term without a sign before it, such as 'include:spf.example.com' or 'ip4:192.0.2.1'"
    faults.add("mail-spf", table.at("spf"), text, "is no term of SPF that names senders (RFC 7208)", cure)
    return None

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail domains and addresses: text of a person in, the form that the daemons and DNS use out.

Domains are mapped as IDNA 2003 does (RFC 3490, in Python's own library), and of its results only those are taken that IDNA 2008 (RFC 5892)
has too: letters, marks and digits. What the two map to different names has to be written as an A-label. Local parts are the dot-atoms of
RFC 5321 in ASCII, in small letters.
"""

from __future__ import annotations

import re
import unicodedata
from encodings import idna
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults

LOCAL_MAX, ADDRESS_MAX, DOMAIN_MAX = 64, 254, 253

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
# IDNA 2003 makes ss, a medial sigma or nothing of these; IDNA 2008 keeps them: two domains for one spelling.
_DEVIATIONS = {"\u00df": "the sharp s", "\u03c2": "the final sigma", "\u200c": "a zero-width non-joiner", "\u200d": "a zero-width joiner"}
# RFC 3490, section 3.1: these are full stops too.
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
# postconf(5): allow_percent_hack and swap_bangpath read them as a route. Of '/' the directory of a mailbox would become two.
_ROUTING = "!%/|"
# A login and a directory: auth_username_chars of dovecot, without the '@'.
_LOGIN = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_-])?")


def mail_domain(faults: Faults, path: str, text: Optional[str]) -> Optional[str]:
    """A fully qualified domain as A-labels, in small letters."""
    if text is None:
        return None
    labels = _DOTS.split(text)
    if len(labels) < 2 or not all(labels):
        cure = f"Write {text.strip('.')!r}" if text.endswith(".") and text.count(".") > 1 else "Write labels joined by single dots, such as 'example.com'"
        faults.add("mail-domain", path, text, "is no fully qualified domain", cure)
        return None
    found = [_label(faults, path, text, label) for label in labels]
    if any(label is None for label in found):
        return None
    name = ".".join(label for label in found if label is not None)
    if len(name) > DOMAIN_MAX:
        faults.add("mail-domain", path, text, f"has {len(name)} characters in DNS, which takes {DOMAIN_MAX}", "Choose a shorter name")
        return None
    if labels[-1].isdecimal():
        faults.add("mail-domain", path, text, "ends like an address of IPv4", "Write the domain's name; mail for literal addresses is not taken")
        return None
    return name


def _label(faults: Faults, path: str, whole: str, label: str) -> Optional[str]:
    """One label as DNS has it; None when it is told."""
    odd = next((name for letter, name in _DEVIATIONS.items() if letter in label), None)
    if odd is not None:
        reason = f"has {odd} in it, which IDNA 2003 and IDNA 2008 turn into different names"
        faults.add("mail-domain-idn", path, whole, reason, "Write the form that is registered, with its A-label (xn--...)")
        return None
    if label.isascii():
        plain = label.lower()
        if _LABEL.fullmatch(plain) and _decodes(plain):
            return plain
        reason = "has an A-label that decodes to nothing" if plain.startswith("xn--") else f"has the label {label!r}, which DNS takes for no host"
        faults.add("mail-domain", path, whole, reason, "Use 1 to 63 of a-z, 0-9 and '-' between dots, no '-' at the ends")
        return None
    try:
        mapped = idna.nameprep(label)
        encoded = idna.ToASCII(label).decode("ascii")
    except UnicodeError:
        mapped = encoded = ""
    if not _named(mapped):
        reason = f"has the label {label!r}, which is no name in IDNA 2008"
        faults.add("mail-domain-idn", path, whole, reason, "Use letters and digits of one script, or write the registered A-label (xn--...)")
        return None
    return encoded.lower()


def _named(label: str) -> bool:
    """Whether it is made of what IDNA 2008 has in names: letters, marks, digits and the hyphen."""
    return bool(label) and all(letter == "-" or unicodedata.category(letter)[0] in "LM" or unicodedata.category(letter) == "Nd" for letter in label)


def _decodes(label: str) -> bool:
    if not label.startswith("xn--"):
        return True
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return False
    return not decoded.isascii() and _named(decoded) and decoded.encode("punycode").decode("ascii") == label[4:]


def shown_domain(name: str) -> str:
    """The domain as a person reads it: A-labels decoded."""
    return ".".join(label[4:].encode("ascii").decode("punycode") if label.startswith("xn--") else label for label in name.split("."))


def local_part(faults: Faults, path: str, text: Optional[str]) -> Optional[str]:
    """A local part, of this platform or outside, in small letters."""
    if text is None:
        return None
    reason, cure = "", "Use letters, digits, '.', '-' and '_', no dot at the ends"
    found = text.lower()
    if any(unicodedata.category(letter)[0] in "CZ" for letter in text):
        reason = "has a space, a line's end or a control character in it"
    elif not text.isascii():
        reason = "has letters beyond ASCII: many mail servers refuse them still (SMTPUTF8), so mail to it would come back"
    elif '"' in text or "\\" in text:
        reason = "is quoted, and programs disagree on which address that is"
    elif len(text) > LOCAL_MAX:
        reason, cure = f"has {len(text)} characters before the '@', SMTP takes {LOCAL_MAX} (RFC 5321)", "Choose a shorter name"
    elif "@" in text:
        reason, cure = "has an '@' in it", f"Write {text.partition('@')[0]!r}: the domain is that of the list it stands in"
    elif text.startswith("-"):
        reason, cure = "begins with '-', which programs read as an option", "Put another character first"
    elif not _DOT_ATOM.fullmatch(found):
        reason = "is no local part of an address (RFC 5321, dot-string)"
    if reason:
        faults.add("mail-local", path, text, reason, cure)
        return None
    return found


def own_local(faults: Faults, path: str, text: Optional[str], subaddress: Optional[str], login: bool) -> Optional[str]:
    """The local part of an address that this platform gives out; ``login``: of a mailbox, which is a user and a directory too.

    subaddress: the character between a local part and a detail
    """
    found = local_part(faults, path, text)
    if found is None:
        return None
    if subaddress is not None and subaddress in found:
        base = found.partition(subaddress)[0]
        reason = f"has {subaddress!r} in it, which begins a detail (platform_mail.subaddress): mail to it is mail to {base!r}"
        faults.add("mail-local-detail", path, text, reason, f"Leave out {subaddress!r}, or set platform_mail.subaddress to null")
        return None
    if any(letter in _ROUTING for letter in found):
        reason = f"has one of {' '.join(_ROUTING)} in it, which mail servers read as a route or a program"
        faults.add("mail-local-route", path, text, reason, "Use letters, digits, '.', '-' and '_'")
        return None
    if login and not _LOGIN.fullmatch(found):
        reason = "is no name for a mailbox, which is a login and a directory too"
        faults.add("mail-login", path, text, reason, "Use letters, digits, '.', '-' and '_' for the mailbox, and add an alias with the other name")
        return None
    return found


def address(faults: Faults, path: str, text: Optional[str], domain: Optional[str]) -> Optional[str]:
    """A whole address; without an '@' it is one of ``domain``, and where that is None a fault."""
    if text is None:
        return None
    local, at, place = text.rpartition("@")
    if not at:
        if domain is None:
            faults.add("mail-address", path, text, "has no '@'", "Write the whole address, such as 'admin@example.com'")
            return None
        local, found = text, domain
    else:
        name = mail_domain(faults, path, place)
        if name is None:
            return None
        found = name
    part = local_part(faults, path, local)
    if part is None:
        return None
    whole = f"{part}@{found}"
    if len(whole) > ADDRESS_MAX:
        faults.add("mail-address", path, text, f"has {len(whole)} characters, SMTP takes {ADDRESS_MAX} (RFC 5321)", "Choose a shorter one")
        return None
    return whole

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of guests, and what all guests together may take of the host, as the model describes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Optional
from urllib.parse import urlsplit

from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_guest import read_pool
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import HIDDEN, Faults, Table, labels
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import HostSpec
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import Image
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import FORMATS

IMAGE_KEYS = ("name", "url", "file", "checksum", "format", "pool")
CAPACITY_KEYS = ("guests", "vcpus", "vcpus_per_core", "memory_mb", "memory_percent")
SCHEMES = ("https", "http")

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?")
# Hexadecimal digits of each (FIPS 180-4).
_CHECKSUMS = {"sha256": 64, "sha512": 128}
_HEXADECIMAL = re.compile(r"[0-9a-f]*")


def read_images(faults: Faults, raw: Any, pools: Optional[Sequence[str]]) -> list[Image]:
    """``platform_images``. pools: names of the platform's; None where they are not known."""
    rows = Table(faults, "", {"platform_images": raw}, ("platform_images",)).rows("platform_images")
    found: list[Image] = []
    for path, row in zip(labels("platform_images", rows), rows):
        image = _read_image(faults, path, row, pools)
        if image is not None and image.name in [other.name for other in found]:
            faults.add("image-twice", f"{path}.name", image.name, "is the name of another image", "Give each image a name of its own")
        elif image is not None:
            found.append(image)
    return found


def _read_image(faults: Faults, path: str, raw: Any, pools: Optional[Sequence[str]]) -> Optional[Image]:
    table = Table.read(faults, path, raw, IMAGE_KEYS, ("name",))
    if table is None:
        return None
    name = table.text("name")
    if name is not None and not _NAME.fullmatch(name):
        cure = "Use 1 to 64 of a-z, 0-9, '.' and '-', the first and the last a letter or digit"
        faults.add("image-name", table.at("name"), name, "is no name for an image", cure)
        name = None
    if ("url" in table.value) == ("file" in table.value):
        both = "url" in table.value
        reason = "has a url and a file, and comes from one place only" if both else "comes from nowhere: it has neither a url nor a file"
        cure = "Remove one of them" if both else "Add url (and checksum), or file, a path on the machine that runs Ansible"
        faults.add("image-source", path, name, reason, cure)
    image = Image(
        name=name or "",
        url=_read_url(faults, table),
        file=table.text("file"),
        checksum=_read_checksum(faults, table),
        format=table.choice("format", FORMATS) or FORMATS[0],
        pool=read_pool(faults, table, pools),
    )
    return image if name else None


def _read_url(faults: Faults, table: Table) -> Optional[str]:
    url = table.text("url")
    if url is None:
        return None
    path = table.at("url")
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:  # such as a bracket that is not closed
        parts, host = urlsplit(""), None
    # A user's password may stand in it.
    shown = HIDDEN if "@" in url else url
    if parts.scheme not in SCHEMES or not host or any(letter.isspace() for letter in url):
        cure = "Begin it with https:// and a host, or use file for one on the machine that runs Ansible"
        faults.add("image-url", path, shown, "is no address of a web server", cure)
        return None
    if "checksum" not in table.value:
        reason = "must be set with a url: what arrives is compared with it"
        faults.add("checksum-missing", table.at("checksum"), None, reason, "Add the one that the image's publisher gives, as sha256: or sha512: and the digits")
    return url


def _read_checksum(faults: Faults, table: Table) -> Optional[str]:
    checksum = table.text("checksum")
    if checksum is None:
        return None
    kind, _colon, digits = checksum.lower().partition(":")
    count = _CHECKSUMS.get(kind)
    if count == len(digits) and _HEXADECIMAL.fullmatch(digits):
        return f"{kind}:{digits}"
    cure = "Write sha256: and 64, or sha512: and 128 hexadecimal digits"
    by_length = {length: name for name, length in _CHECKSUMS.items()}
    if count is None and len(checksum) in by_length and _HEXADECIMAL.fullmatch(checksum.lower()):
        cure = f"Write '{by_length[len(checksum)]}:{checksum.lower()}'"
    faults.add("checksum", table.at("checksum"), checksum, "is no checksum", cure)
    return None


def read_capacity(faults: Faults, raw: Any, host: HostSpec) -> Policy:
    """``platform_capacity``, with what ``platform_host.reserve`` keeps back."""
    kept = Policy(reserve_cores=host.reserve_cores, reserve_memory_mb=host.reserve_memory_mb)
    table = Table.read(faults, "platform_capacity", raw, CAPACITY_KEYS)
    if table is None:
        return kept
    percent = table.number("memory_percent", least=1)
    if percent is not None and percent > 100:
        faults.add("percent", table.at("memory_percent"), percent, "is more than the host has", "Write a percentage from 1 to 100")
    return replace(
        kept,
        guests=table.number("guests", least=1),
        vcpus=table.number("vcpus", least=1),
        vcpus_per_core=_read_ratio(faults, table),
        memory_mb=table.number("memory_mb", least=1),
        memory_percent=percent,
    )


def _read_ratio(faults: Faults, table: Table) -> Optional[float]:
    ratio = table.value.get("vcpus_per_core")
    if isinstance(ratio, float) and 0 < ratio < float("inf"):
        return ratio
    return table.number("vcpus_per_core", least=1)

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import libvirt
import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Nic
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.domains import observe_domain, observe_domains
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import define_guest

INTERFACE = "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/><target dev='tap7'/></interface>"


def test_guests_in_each_state(conn: Any) -> None:
    define_guest(conn, "off")
    define_guest(conn, "on", INTERFACE, running=True).setAutostart(1)
    define_guest(conn, "paused", running=True).suspend()
    conn.createXML("<domain type='test'><name>fleeting</name><memory>65536</memory><os><type>hvm</type></os></domain>")
    found = {domain.name: domain for domain in observe_domains(conn)}
    assert [(domain.name, domain.power, domain.autostart, domain.active) for domain in found.values()] == [
        ("fleeting", "running", False, True),
        ("off", "stopped", False, False),
        ("on", "running", True, True),
        ("paused", "suspended", False, True),
    ]
    assert found["off"].live is None and found["off"].live_xml is None
    assert found["fleeting"].kept is None
    running = found["on"]
    assert running.kept is not None and running.kept == running.live
    assert running.kept.nics == (Nic("default", "52:54:00:00:00:01"),)
    assert running.taps == {"52:54:00:00:00:01": "tap7"}
    assert not running.owned


def test_the_kept_definition_comes_with_its_secrets(conn: Any) -> None:
    define_guest(conn, "screen", "<graphics type='vnc' passwd='secret'/><video><model type='vga'/></video>")
    found = observe_domain(conn, "screen")
    assert found is not None
    assert "passwd='secret'" in found.xml
    assert found.unmanaged == ("graphics vnc", "video vga")


def test_a_guest_that_is_not_there_is_none(conn: Any) -> None:
    assert observe_domain(conn, "nobody") is None


class _Listing:
    """A connection whose listing is older than the host."""

    def __init__(self, *domains: Any) -> None:
        self._domains = domains

    def listAllDomains(self) -> list[Any]:  # noqa: N802
        return list(self._domains)


def test_a_guest_that_vanished_since_the_listing_is_left_out(conn: Any) -> None:
    gone, here = define_guest(conn, "gone"), define_guest(conn, "here")
    gone.undefine()
    assert [domain.name for domain in observe_domains(_Listing(gone, here))] == ["here"]


def test_other_errors_of_libvirt_are_said(conn: Any) -> None:
    class _Broken:
        def isActive(self) -> bool:  # noqa: N802
            raise libvirt.libvirtError("the daemon went away")

    with pytest.raises(ResourceError, match="the daemon went away"):
        observe_domains(_Listing(_Broken()))

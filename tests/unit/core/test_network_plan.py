# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_plan import live_updates, plan_network, plan_networks, restart_reasons
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import write_network
from ansible_collections.hybridlab.platform.plugins.module_utils.core.networks import Declared, Definition, DhcpHost, Guest, Observed, Tap
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Attach, Autostart, Backup, Define, Destroy, Start, Undefine, Update, shell
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import apply_network, observe_network
from ansible_collections.hybridlab.platform.tests.unit.core.network_values import PUBLIC, address, addresses, definitions, dns, entry, host, mac
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import libvirt_host
from hypothesis import given, settings
from hypothesis import strategies as st


def wanted(definition: Definition = PUBLIC, autostart: bool = True, active: bool = True) -> Declared:
    return Declared(definition.sorted(), autostart, active)


def observed(
    persistent: Optional[Definition] = PUBLIC, live: Optional[Definition] = PUBLIC, owned: bool = True, autostart: bool = True, name: str = "public"
) -> Observed:
    kept = persistent or live
    assert kept is not None
    return Observed(name, owned, autostart, persistent, live, write_network(kept))


def kinds(found: Optional[Observed], declared: Declared, guests: Any = ()) -> list[str]:
    return [type(operation).__name__ for operation in plan_network(declared, found, guests).operations]


CHANGED_HOSTS = replace(PUBLIC, hosts=(host(10, "web"), host(11, at=12)))


@pytest.mark.parametrize(
    ("found", "declared", "expected"),
    [
        (None, wanted(), ["Define", "Start", "Autostart"]),
        (None, wanted(active=False), ["Define", "Autostart"]),
        (None, wanted(autostart=False), ["Define", "Start"]),
        (observed(), wanted(), []),
        # What a run that was cut short leaves behind.
        (observed(live=None, autostart=False), wanted(), ["Start", "Autostart"]),
        (observed(autostart=False), wanted(), ["Autostart"]),
        (observed(live=None), wanted(), ["Start"]),
        (observed(replace(PUBLIC, bridge="br-old"), None), wanted(), ["Backup", "Define", "Start"]),
        # Live changes, and the same on a network that does not run.
        (observed(), wanted(CHANGED_HOSTS), ["Update"]),
        (observed(live=None), wanted(CHANGED_HOSTS), ["Backup", "Define", "Start"]),
        (observed(live=None), wanted(CHANGED_HOSTS, active=False), ["Backup", "Define"]),
        # Drift between the running and the kept definition.
        (observed(persistent=CHANGED_HOSTS), wanted(), ["Backup", "Define"]),
        (observed(live=CHANGED_HOSTS), wanted(), ["Update"]),
        (observed(persistent=CHANGED_HOSTS, live=replace(PUBLIC, hosts=())), wanted(), ["Backup", "Define", "Update", "Update"]),
        (observed(live=replace(PUBLIC, bridge="br-old")), wanted(), ["Backup", "Destroy", "Define", "Start"]),
        (observed(persistent=replace(PUBLIC, bridge="br-old")), wanted(), ["Backup", "Define"]),
        (observed(persistent=None, autostart=False), wanted(), ["Backup", "Define", "Autostart"]),
        # Restart.
        (observed(), wanted(replace(PUBLIC, mtu=1400)), ["Backup", "Destroy", "Define", "Start"]),
        (observed(), wanted(replace(PUBLIC, mtu=1400), autostart=False), ["Backup", "Destroy", "Define", "Start", "Autostart"]),
        # Stop.
        (observed(), wanted(active=False), ["Destroy"]),
        (observed(), wanted(replace(PUBLIC, mtu=1400), active=False), ["Backup", "Destroy", "Define"]),
        (observed(persistent=None, autostart=False), wanted(active=False, autostart=False), ["Backup", "Destroy", "Define"]),
        # Adoption writes the mark, and nothing else.
        (observed(owned=False), wanted(), ["Backup", "Define"]),
        (observed(owned=False), wanted(CHANGED_HOSTS), ["Backup", "Define", "Update"]),
    ],
)
def test_operations(found: Optional[Observed], declared: Declared, expected: list[str]) -> None:
    assert kinds(found, declared) == expected


IN_IT = Tap("vnet0", "public", "br-public")
BY_BRIDGE = Tap("vnet1", None, "br-public", mtu=1300, isolated=True)
# It started while its network had the bridge that is now the one of public.
ELSEWHERE = Tap("vnet2", "other", "br-public")


@pytest.mark.parametrize(
    ("found", "declared", "taps", "kept", "expected"),
    [
        (
            observed(),
            wanted(replace(PUBLIC, bridge="br-dmz")),
            [IN_IT, BY_BRIDGE, ELSEWHERE],
            ["Backup", "Destroy", "Define", "Start"],
            [("vnet0", "br-dmz", 1500, False), ("vnet1", "br-dmz", None, True)],
        ),
        (observed(), wanted(replace(PUBLIC, mtu=1400)), [IN_IT], ["Backup", "Destroy", "Define", "Start"], [("vnet0", "br-public", 1400, False)]),
        # The bridge that another network gives up is not ours yet: who is attached to it by name goes with that one.
        (observed(), wanted(replace(PUBLIC, bridge="br-dmz")), [replace(BY_BRIDGE, bridge="br-dmz")], ["Backup", "Destroy", "Define", "Start"], []),
        # A restart was cut short before or after the start, or somebody restarted the network by hand.
        (observed(live=None), wanted(), [replace(IN_IT, unplugged=True)], ["Start"], [("vnet0", "br-public", 1500, False)]),
        (observed(), wanted(), [replace(IN_IT, unplugged=True), BY_BRIDGE], [], [("vnet0", "br-public", 1500, False)]),
        (observed(), wanted(), [IN_IT, replace(ELSEWHERE, unplugged=True)], [], []),
        (observed(), wanted(active=False), [replace(IN_IT, unplugged=True)], ["Destroy"], []),
    ],
)
def test_taps_are_plugged_in_again(found: Observed, declared: Declared, taps: list[Tap], kept: list[str], expected: list[tuple[Any, ...]]) -> None:
    guest = Guest("web", True, frozenset({"public"}), taps=tuple(taps))
    operations = plan_network(declared, found, [guest]).operations
    plugs = [operation for operation in operations if isinstance(operation, Attach)]
    assert [type(operation).__name__ for operation in operations] == kept + ["Attach"] * len(expected)
    assert [(plug.device, plug.bridge, plug.mtu, plug.isolated) for plug in plugs] == expected
    assert {plug.guest for plug in plugs} <= {"web"}


def test_the_line_for_a_tap_plugs_it_in() -> None:
    line = shell(Attach("public", "web", "vnet0", "br-public", mtu=1400, isolated=True), "qemu:///system", "net", "/var/lib/x")
    made = "ip link add br-public type bridge && ip link set dev br-public mtu 1400 && ip link add vnet0 type veth peer name guest0"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", f"{made} && {line} && ip -json -details link show dev vnet0"], capture_output=True, text=True, check=True
    )
    (device,) = json.loads(done.stdout)
    assert (device["master"], device["mtu"], device["linkinfo"]["info_slave_data"]["isolated"]) == ("br-public", 1400, True)


def test_updates_go_to_the_kept_definition_only_where_it_equals_the_running_one() -> None:
    in_step = [operation for operation in plan_network(wanted(CHANGED_HOSTS), observed()).operations if isinstance(operation, Update)]
    apart = [operation for operation in plan_network(wanted(), observed(live=CHANGED_HOSTS)).operations if isinstance(operation, Update)]
    assert [operation.config for operation in in_step] == [True]
    assert [operation.config for operation in apart] == [False]


LIVE_UPDATES = [
    ("nothing", {}, []),
    ("host added", {"hosts": (*PUBLIC.hosts, host(12, "db"))}, [("add-last", "ip-dhcp-host", '<host mac="52:54:00:00:00:0c" name="db" ip="10.0.1.12" />')]),
    ("host moved", {"hosts": (host(10, "web", at=30), host(11))}, [("modify", "ip-dhcp-host", '<host mac="52:54:00:00:00:0a" name="web" ip="10.0.1.30" />')]),
    ("host renamed", {"hosts": (host(10, "w3"), host(11))}, [("modify", "ip-dhcp-host", '<host mac="52:54:00:00:00:0a" name="w3" ip="10.0.1.10" />')]),
    ("host gone", {"hosts": (host(11),)}, [("delete", "ip-dhcp-host", '<host mac="52:54:00:00:00:0a" name="web" ip="10.0.1.10" />')]),
    (
        "addresses swapped: modify would hit the other entry",
        {"hosts": (host(10, "web", at=11), host(11, at=10))},
        [
            ("delete", "ip-dhcp-host", '<host mac="52:54:00:00:00:0a" name="web" ip="10.0.1.10" />'),
            ("delete", "ip-dhcp-host", '<host mac="52:54:00:00:00:0b" ip="10.0.1.11" />'),
            ("add-last", "ip-dhcp-host", '<host mac="52:54:00:00:00:0b" ip="10.0.1.10" />'),
            ("add-last", "ip-dhcp-host", '<host mac="52:54:00:00:00:0a" name="web" ip="10.0.1.11" />'),
        ],
    ),
    (
        "interface replaced",
        {"hosts": (DhcpHost(address(10), mac(99), "web"), host(11))},
        [
            ("delete", "ip-dhcp-host", '<host mac="52:54:00:00:00:0a" name="web" ip="10.0.1.10" />'),
            ("add-last", "ip-dhcp-host", '<host mac="52:54:00:00:00:63" name="web" ip="10.0.1.10" />'),
        ],
    ),
    (
        "range widened",
        {"dhcp": (addresses(100, 210),)},
        [
            ("delete", "ip-dhcp-range", '<range start="10.0.1.100" end="10.0.1.200" />'),
            ("add-last", "ip-dhcp-range", '<range start="10.0.1.100" end="10.0.1.210" />'),
        ],
    ),
    (
        "host leaves before a range takes its address",
        {"hosts": (host(11),), "dhcp": (addresses(5, 10), addresses(100, 200))},
        [
            ("delete", "ip-dhcp-host", '<host mac="52:54:00:00:00:0a" name="web" ip="10.0.1.10" />'),
            ("add-last", "ip-dhcp-range", '<range start="10.0.1.5" end="10.0.1.10" />'),
        ],
    ),
    (
        "DNS host changed: libvirt knows no modify there",
        {"dns": (dns(10, "web"),)},
        [
            ("delete", "dns-host", '<host ip="10.0.1.10" />'),
            ("add-last", "dns-host", '<host ip="10.0.1.10"><hostname>web</hostname></host>'),
        ],
    ),
    ("DNS name at two addresses", {"dns": (*PUBLIC.dns, dns(11, "web"))}, [("add-last", "dns-host", '<host ip="10.0.1.11"><hostname>web</hostname></host>')]),
    (
        "DNS name moved to another address",
        {"dns": (dns(20, "web", "www"),)},
        [
            ("delete", "dns-host", '<host ip="10.0.1.10" />'),
            ("add-last", "dns-host", '<host ip="10.0.1.20"><hostname>web</hostname><hostname>www</hostname></host>'),
        ],
    ),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in LIVE_UPDATES], ids=[row[0] for row in LIVE_UPDATES])
def test_live_updates(changes: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    target = replace(PUBLIC, **changes).sorted()
    assert restart_reasons(PUBLIC, target) == []
    assert live_updates(PUBLIC, target) == expected


@pytest.mark.parametrize(
    ("live", "changes", "reason"),
    [
        (PUBLIC, {"bridge": "br-dmz"}, "bridge is br-public, wanted br-dmz"),
        (PUBLIC, {"address": address(2)}, "address is 10.0.1.1, wanted 10.0.1.2"),
        (PUBLIC, {"prefix": 23}, "prefix is 24, wanted 23"),
        (PUBLIC, {"domain": "example.org"}, "domain is lab.local, wanted example.org"),
        (PUBLIC, {"mtu": 1400}, "mtu is None, wanted 1400"),
        (replace(PUBLIC, deviations=("forward mode is nat, not open",)), {}, "forward mode is nat, not open"),
        (replace(PUBLIC, dns=(dns(10, "a"), dns(10, "b"))), {"dns": ()}, "DNS address 10.0.1.10 stands there twice"),
    ],
)
def test_restart_reasons(live: Definition, changes: dict[str, Any], reason: str) -> None:
    assert restart_reasons(live, replace(PUBLIC, **{"dns": live.dns, **changes})) == [reason]


def test_a_restart_names_the_running_guests_and_keeps_the_order() -> None:
    guests = (Guest("web", True, frozenset({"public"})), Guest("off", False, frozenset({"public"})), Guest("tap", True, bridges=frozenset({"br-public"})))
    step = plan_network(wanted(replace(PUBLIC, bridge="br-dmz")), observed(), guests)
    assert step.disruptive == ("bridge is br-public, wanted br-dmz (cuts off the running guests tap, web)",)
    assert [type(operation) for operation in step.operations] == [Backup, Destroy, Define, Start]


def test_stopping_is_disruptive_only_with_running_guests() -> None:
    declared = wanted(active=False)
    assert plan_network(declared, observed(), [Guest("off", False, frozenset({"public"}))]).disruptive == ()
    assert "web" in plan_network(declared, observed(), [Guest("web", True, frozenset({"public"}))]).disruptive[0]


# The whole list.

FOREIGN = replace(PUBLIC, name="default", bridge="virbr0", address=IPv4Address("192.168.122.1"), dhcp=(), hosts=(), dns=(), domain=None)


def foreign(autostart: bool = True, live: bool = True) -> Observed:
    return observed(FOREIGN, FOREIGN if live else None, owned=False, autostart=autostart, name="default")


def test_overridden_removes_ours_first_and_nobody_elses() -> None:
    old = replace(PUBLIC, name="old", bridge="br-old")
    plan = plan_networks("overridden", [entry()], [foreign(), observed(old, old, name="old")])
    assert [type(operation) for operation in plan.operations] == [Backup, Destroy, Undefine, Define, Start, Autostart]
    assert [operation.name for operation in plan.operations] == ["old", "old", "old", "public", "public", "public"]
    assert [found["name"] for found in plan.before] == ["old"]
    assert [found["name"] for found in plan.after] == ["public"]


def test_merged_leaves_others_alone_and_reports_them() -> None:
    old = replace(PUBLIC, name="old", bridge="br-old")
    plan = plan_networks("merged", [entry()], [foreign(), observed(old, old, name="old")])
    assert {operation.name for operation in plan.operations} == {"public"}
    assert [found["name"] for found in plan.after] == ["old", "public"]


def test_deleted_takes_the_named_or_all_of_ours() -> None:
    old = replace(PUBLIC, name="old", bridge="br-old")
    there = [foreign(), observed(old, None, name="old"), observed()]
    assert {operation.name for operation in plan_networks("deleted", [], there).operations} == {"old", "public"}
    assert [type(operation) for operation in plan_networks("deleted", [{"name": "old"}, {"name": "absent"}], there).operations] == [Backup, Undefine]


def test_removal_names_all_guests_also_those_that_are_off() -> None:
    plan = plan_networks("deleted", [], [observed()], [Guest("off", False, frozenset({"public"}))])
    assert plan.disruptive == [{"name": "public", "reason": "it is to be removed, and the guests off have interfaces in it"}]


@pytest.mark.parametrize("state", ["merged", "overridden", "deleted"])
def test_a_foreign_network_is_refused_unless_adopted(state: str) -> None:
    config = [entry(name="default", bridge="virbr0", address="192.168.122.1")]
    with pytest.raises(ResourceError, match=r"config\[default\].*did not make.*adopt: true"):
        plan_networks(state, config, [foreign()])
    assert plan_networks(state, config, [foreign()], adopt=True).operations


def test_merged_keeps_what_is_left_out_and_overridden_does_not() -> None:
    only = {"name": "public", "bridge": "br-public", "autostart": True, "active": True}
    assert plan_networks("merged", [only], [observed()]).operations == []
    with pytest.raises(ResourceError, match=r"config\[public\]\.address: not set"):
        plan_networks("overridden", [only], [observed()])
    emptied = plan_networks("overridden", [entry(domain="lab.local")], [observed()])
    assert [operation.command for operation in emptied.operations if isinstance(operation, Update)] == ["delete"] * 4


def test_decommission() -> None:
    plan = plan_networks("merged", [], [foreign()], decommission=["default", "absent"])
    assert plan.operations == [Destroy("default"), Autostart("default", False)]
    assert plan.before == [{"name": "default", "autostart": True, "active": True}]
    assert plan.after == [{"name": "default", "autostart": False, "active": False}]
    resting = plan_networks("merged", [], [foreign(autostart=False, live=False)], decommission=["default"])
    assert (resting.operations, resting.before, resting.after) == ([], [], [])


@pytest.mark.parametrize("guest", [Guest("old-vm", False, frozenset({"default"})), Guest("old-vm", True, bridges=frozenset({"virbr0"}))])
def test_decommission_of_a_network_in_use_is_refused(guest: Guest) -> None:
    with pytest.raises(ResourceError, match="'default' is used by the guests old-vm; nothing was changed"):
        plan_networks("merged", [entry()], [foreign()], [guest], decommission=["default"])
    assert plan_networks("merged", [], [foreign(autostart=False, live=False)], [guest], decommission=["default"]).operations == []


def test_decommission_takes_neither_ours_nor_what_is_declared() -> None:
    with pytest.raises(ResourceError, match="which this collection made"):
        plan_networks("merged", [], [observed()], decommission=["public"])
    with pytest.raises(ResourceError, match="which config names too"):
        plan_networks("merged", [entry()], [observed()], decommission=["public"])


def test_shell_lines() -> None:
    lines = [
        shell(operation, "qemu:///system", "net", "/var/lib/x")
        for operation in (Backup("a", "<x/>"), Define("a", "<x/>\n"), Autostart("a", False), Undefine("a"), Update("a", "delete", "dns-host", "<h/>", True, 1))
    ]
    assert lines == [
        "install -d -m 0700 /var/lib/x && (umask 077 && virsh -c qemu:///system net-dumpxml --inactive a > /var/lib/x/a-$(date -u +%Y%m%dT%H%M%SZ).xml)",
        "virsh -c qemu:///system net-define /dev/stdin <<'EOF'\n<x/>\nEOF",
        "virsh -c qemu:///system net-autostart a --disable",
        "virsh -c qemu:///system net-undefine a",
        "virsh -c qemu:///system net-update a delete dns-host '<h/>' --parent-index 1 --live --config",
    ]


@settings(max_examples=150, deadline=None)
@given(definitions(), definitions())
def test_libvirt_takes_every_plan_and_nothing_is_left_to_do(start: Definition, end: Definition) -> None:
    with libvirt_host() as conn:
        for definition in (start, end):
            before = observe_network(conn, "public")
            for operation in plan_network(wanted(definition), before).operations:
                if not isinstance(operation, Backup):
                    apply_network(conn, operation)
            after = observe_network(conn, "public")
            assert after is not None
            assert (after.live, after.persistent) == (definition, definition)
            assert plan_network(wanted(definition), after).operations == ()


@settings(max_examples=40, deadline=None)
@given(definitions(), definitions(), st.integers(0, 30))
def test_a_run_cut_short_anywhere_is_completed_by_the_next(start: Definition, end: Definition, survived: int) -> None:
    with libvirt_host() as conn:
        for operation in plan_network(wanted(start), None).operations:
            apply_network(conn, operation)
        for operation in plan_network(wanted(end), observe_network(conn, "public")).operations[:survived]:
            if not isinstance(operation, Backup):
                apply_network(conn, operation)
        for operation in plan_network(wanted(end), observe_network(conn, "public")).operations:
            if not isinstance(operation, Backup):
                apply_network(conn, operation)
        after = observe_network(conn, "public")
        assert after is not None
        assert plan_network(wanted(end), after).operations == ()
        assert after.live == end

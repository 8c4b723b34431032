# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""segment_firewall as a task calls it, with the real nft in a network namespace of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.host import firewall_table, system
from ansible_collections.hybridlab.platform.plugins.modules import segment_firewall
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module
from ansible_collections.hybridlab.platform.tests.unit.private_network import private_network, run

TABLE = "hybridlab_segments"
MODEL = lab_model()


class Caller:
    def __init__(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        self.capsys = capsys
        self.path = tmp_path / "etc" / "segments.nft"
        self.remote_tmp = str(tmp_path)
        self.libvirt = tmp_path / "libvirt"

    def __call__(self, check: bool = False, **params: Any) -> dict[str, Any]:
        args = {
            "config": MODEL["platform_segments"],
            "ranges": MODEL["platform_ranges"],
            "host_ssh_ports": MODEL["platform_host"]["ssh_ports"],
            "path": str(self.path),
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_remote_tmp": self.remote_tmp,
            **params,
        }
        return call_module(segment_firewall, args, self.capsys)

    def network(self, name: str, bridge: str, mark: str = "<metadata><p:platform xmlns:p='urn:hybridlab:platform:1'/></metadata>") -> Path:
        """libvirt's file of a network; ``mark`` makes it one of ours."""
        self.libvirt.mkdir(exist_ok=True)
        file = self.libvirt / f"{name}.xml"
        file.write_text(f"<network><name>{name}</name>{mark}<bridge name='{bridge}'/></network>", encoding="utf-8")
        return file

    def same_in_check_mode(self, **params: Any) -> dict[str, Any]:
        """A real run that a check before it has foretold, and after which nothing is left to do."""
        foretold = self(check=True, **params)
        done = self(**params)
        assert not done.get("failed"), done
        for key in ("before", "after", "diff", "commands", "changed"):
            assert done[key] == foretold[key], key
        again = self(**params)
        assert (again["changed"], again["commands"]) == (False, [])
        assert again["before"] == again["after"] == done["after"]
        return done


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    made = Caller(capsys, tmp_path)
    monkeypatch.setattr(segment_firewall, "own_bridges", lambda: system.own_bridges([f"{made.libvirt}/*.xml"]))
    with private_network():
        yield made


def listing() -> str:
    return run("nft", "-s", "list", "table", "inet", TABLE)


def changed_segments(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**segment, **changes.get(segment["name"], {})} for segment in MODEL["platform_segments"]]


def test_bare_host(call: Caller) -> None:
    done = call.same_in_check_mode()

    assert done["changed"] is True
    assert done["before"] == {"table": TABLE, "chains": None, "objects": None, "file": None, "docker_user": False}
    assert 'oifname "br-private" counter name "pair_public_private" goto pass' in done["after"]["chains"]["from_public"]
    assert done["after"]["file"] == {"path": str(call.path), "mode": "0600", "as_declared": True}
    assert [command.splitlines()[0] for command in done["commands"]] == [
        f"install -D -m 0600 /dev/stdin {call.path} <<'EOF'",
        f"nft -f {call.path}",
        "iptables -w -N DOCKER-USER",
        "iptables -w -I DOCKER-USER 1 -m mark --mark 0x1000/0x1000 -j ACCEPT",
    ]
    assert call.path.stat().st_mode & 0o777 == 0o600
    assert "-A DOCKER-USER -m mark --mark 0x1000/0x1000 -j ACCEPT" in run("iptables", "-S", "DOCKER-USER")
    assert sorted(run("nft", "list", "tables").splitlines()) == [f"table inet {TABLE}", "table ip filter"]


def test_commands_do_the_same_by_hand(call: Caller) -> None:
    run("nft", "-f", "-", text=f"table inet {TABLE} {{ chain evil {{ type filter hook forward priority -50; policy drop; }}\n}}\n")
    commands = call(check=True)["commands"]

    run("sh", "-euc", "\n".join(commands))

    assert call()["changed"] is False


def test_what_is_shown_is_what_nft_lists(call: Caller) -> None:
    done = call()
    listed = listing()

    for name, lines in done["after"]["chains"].items():
        assert "\n\t\t".join([f"\tchain {name} {{", *lines]) + "\n\t}" in listed


def test_file_is_right_on_an_empty_kernel_and_on_a_running_one(call: Caller) -> None:
    call()
    listed = listing()
    run("nft", "-f", str(call.path))
    assert listing() == listed
    run("nft", "delete", "table", "inet", TABLE)
    run("nft", "-f", str(call.path))
    assert listing() == listed
    assert call()["changed"] is False


@pytest.mark.parametrize(
    "harm",
    [
        "delete table inet T",
        "flush table inet T",
        "flush chain inet T from_public",
        "insert rule inet T forward accept",
        "add rule inet T from_public accept",
        'insert rule inet T refuse_internal oifname "br-private" accept',
        "add chain inet T forward { type filter hook forward priority filter - 10; policy drop; }",
        "add chain inet T mine { type filter hook forward priority -300; policy drop; }",
        "add chain inet T mine; add rule inet T mine accept; insert rule inet T from_public jump mine",
        "add set inet T friends { type ipv4_addr; }; insert rule inet T forward ip saddr @friends accept",
        "add chain inet T mine; add map inet T ways { type ipv4_addr : verdict; elements = { 10.0.0.9 : jump mine }; }",
        "add counter inet T mine",
        "flush chain inet T forward; delete chain inet T forward",
        "flush chain inet T input; delete chain inet T input; add chain inet T input { type filter hook input priority 77; }",
        "flush table inet T; delete chain inet T pass; add chain inet T pass { type filter hook forward priority 5; policy drop; }",
        "add table inet T { flags dormant; }",
    ],
)
def test_drift_in_the_kernel_is_found_and_repaired(call: Caller, harm: str) -> None:
    call()
    listed = sorted(listing().splitlines())
    run("nft", "-f", "-", text=harm.replace(" T", f" {TABLE}") + "\n")

    done = call.same_in_check_mode()

    assert done["changed"] is True
    assert done["before"] != done["after"]
    assert sorted(listing().splitlines()) == listed


def test_diff_of_a_foreign_rule_is_one_line(call: Caller) -> None:
    call()
    run("nft", "insert", "rule", "inet", TABLE, "forward", "ip saddr 10.9.9.9 accept")

    diff = call(check=True)["diff"]
    foreign = set(diff["before"].splitlines()) - set(diff["after"].splitlines())

    assert len(foreign) == 1
    assert "ip saddr 10.9.9.9 accept" in foreign.pop()


@pytest.mark.parametrize("harm", ["text", "mode", "gone"])
def test_drift_of_the_file_is_repaired(call: Caller, harm: str) -> None:
    call()
    if harm == "text":
        call.path.write_text(call.path.read_text() + "# mine\n")
    elif harm == "mode":
        call.path.chmod(0o644)
    else:
        call.path.unlink()

    done = call.same_in_check_mode()

    assert [command.split()[0] for command in done["commands"]] == ["install"]
    assert done["before"]["chains"] == done["after"]["chains"]


def test_rule_for_docker_is_put_back(call: Caller) -> None:
    call()
    run("iptables", "-F", "DOCKER-USER")
    run("iptables", "-A", "DOCKER-USER", "-j", "RETURN")

    done = call.same_in_check_mode()

    assert done["commands"] == ["iptables -w -I DOCKER-USER 1 -m mark --mark 0x1000/0x1000 -j ACCEPT"]
    assert done["before"]["docker_user"] is False
    assert run("iptables", "-S", "DOCKER-USER").splitlines()[1:] == [
        "-A DOCKER-USER -m mark --mark 0x1000/0x1000 -j ACCEPT",
        "-A DOCKER-USER -j RETURN",
    ]


def test_iptables_is_left_alone_when_told_so(call: Caller) -> None:
    done = call.same_in_check_mode(docker_user="never")

    assert "docker_user" not in done["after"]
    assert "ip filter" not in run("nft", "list", "tables")


def test_a_change_keeps_counters_and_removes_what_is_no_longer_declared(call: Caller) -> None:
    call()
    changed = call.same_in_check_mode(config=changed_segments(public={"reaches": ["container"]}))

    assert "counter pair_public_private" in changed["before"]["objects"]
    assert "counter pair_public_private" not in changed["after"]["objects"]
    assert "pair_public_private" not in listing()


def test_segment_that_goes_takes_its_chains_along(call: Caller) -> None:
    call()
    rest = changed_segments(management={"reaches": ["public"]}, public={"reaches": []}, private={"reaches": []})[:3]

    call.same_in_check_mode(config=rest)

    assert "database" not in listing()


def test_bridge_that_is_no_longer_declared_is_closed_while_it_exists(call: Caller) -> None:
    call.network("public", "br-public")
    call.network("default", "virbr0", mark="")
    retired = call.network("retired", "br-retired")
    assert call(check=True)["strays"] == ["br-retired"]

    done = call.same_in_check_mode()

    assert done["strays"] == ["br-retired"]
    assert done["after"]["chains"]["forward"][1:3] == ['iifname "br-retired" counter drop', 'oifname "br-retired" counter drop']
    assert done["after"]["chains"]["stray"] == ["ct state established,related accept", "counter drop"]
    assert done["after"]["chains"]["input"][1] == 'iifname "br-retired" goto stray'
    assert 'oifname "br-retired" counter drop' in call.path.read_text(encoding="utf-8")
    assert "virbr0" not in listing()
    retired.unlink()
    gone = call.same_in_check_mode()
    assert (gone["changed"], gone["strays"]) == (True, [])
    assert "stray" not in gone["after"]["chains"]
    assert "br-retired" not in listing() + call.path.read_text(encoding="utf-8")


def test_bridges_of_the_host_are_nothing_to_rendered_rules(call: Caller) -> None:
    call.network("retired", "br-retired")

    answer = call(state="rendered")

    assert "br-retired" not in answer["rendered"]
    assert "strays" not in answer


def test_network_file_that_is_no_xml_is_named(call: Caller) -> None:
    call.network("retired", "br-retired").write_text("", encoding="utf-8")

    answer = call()

    assert answer["failed"] is True
    assert "retired.xml" in answer["msg"]
    assert run("nft", "list", "tables") == ""


def test_deleted(call: Caller) -> None:
    call()

    done = call.same_in_check_mode(state="deleted", config=None)

    assert done["after"] == {"table": TABLE, "chains": None, "objects": None, "file": None, "docker_user": False}
    assert [command.split()[0] for command in done["commands"]] == ["nft", "rm", "iptables"]
    assert TABLE not in run("nft", "list", "tables")
    assert not call.path.exists()


def test_gathered(call: Caller) -> None:
    assert call(state="gathered", config=None)["gathered"]["chains"] is None
    call()
    run("nft", "add", "counter", "inet", TABLE, "mine")

    answer = call(state="gathered", config=None)

    assert answer["gathered"]["chains"]["pass"] == ["meta mark set meta mark | 0x00001000 accept"]
    assert {"source": "public", "destination": "private", "packets": 0, "bytes": 0} in answer["pairs"]
    assert len(answer["pairs"]) == 14


def test_rendered_touches_nothing(call: Caller) -> None:
    answer = call(state="rendered")

    assert answer["rendered"].startswith(f"table inet {TABLE} {{\n}}\nflush table inet {TABLE}\n")
    assert answer["rules"] > 100
    assert run("nft", "list", "tables") == ""
    assert not call.path.exists()


def test_bad_model_changes_nothing(call: Caller) -> None:
    answer = call(config=changed_segments(public={"reaches": ["privat"]}))

    assert answer["failed"] is True
    assert "platform_segments[public].reaches[0]" in answer["msg"]
    assert run("nft", "list", "tables") == ""


def without(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    found = AnsibleModule.get_bin_path
    monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda self, arg, *rest, **kw: None if arg in programs else found(self, arg, *rest, **kw))


def test_host_without_nft_is_planned_in_check_mode_and_refused_in_a_real_run(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        without(patch, "nft", "iptables")
        foretold = call(check=True)
        refused = call()
        deleted = call(state="deleted", config=None)
    done = call()

    assert "Planned as if the host had no table yet" in str(foretold["warnings"])
    assert refused["failed"] is True
    assert "Install them first" in refused["msg"]
    assert deleted["changed"] is False
    for key in ("before", "after", "diff", "commands", "changed"):
        assert done[key] == foretold[key], key


def test_failure_of_nft_is_told(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall_table, "render", lambda ruleset: "nonsense\n")

    answer = call()

    assert answer["failed"] is True
    assert "nonsense" in answer["msg"]
    assert "Nothing was changed" in answer["msg"]


def test_two_hundred_segments(call: Caller) -> None:
    config = [{"name": f"s{number}", "cidr": f"10.{number}.0.0/24", "reaches": [f"s{(number + step) % 200}" for step in (1, 2, 3)]} for number in range(200)]

    done = call(config=config, ranges={})

    assert done["changed"] is True
    assert subprocess.run(["nft", "-c", "-f", str(call.path)], check=False).returncode == 0

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""port_firewall as a task calls it, with the real nft in a network namespace of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.modules import port_firewall
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model
from ansible_collections.hybridlab.platform.tests.unit.host.docker_engine_fake import engine_at
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module
from ansible_collections.hybridlab.platform.tests.unit.private_network import private_network, run

TABLE = "hybridlab_ports"
WEB = {"workload": "web", "published": 8080, "target": 80, "from": ["public", "host"]}
DNS = {"workload": "dns", "published": 53, "target": 5353, "protocol": "udp", "from": ["internet", "tailnet"]}


class Caller:
    def __init__(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        self.capsys = capsys
        self.path = tmp_path / "etc" / "ports.nft"
        self.remote_tmp = str(tmp_path)

    def __call__(self, check: bool = False, **params: Any) -> dict[str, Any]:
        args = {
            "config": [WEB, DNS],
            "segments": lab_model()["platform_segments"],
            "networks": ["172.17.0.0/16", "172.18.0.0/16"],
            "path": str(self.path),
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_remote_tmp": self.remote_tmp,
            **params,
        }
        return call_module(port_firewall, args, self.capsys)

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
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Caller]:
    with private_network():
        yield Caller(capsys, tmp_path)


def listing() -> str:
    return run("nft", "-s", "list", "table", "inet", TABLE)


def test_bare_host(call: Caller) -> None:
    done = call.same_in_check_mode()

    assert done["changed"] is True
    assert done["before"] == {"table": TABLE, "chains": None, "objects": None, "file": None}
    assert done["after"]["file"] == {"path": str(call.path), "mode": "0600", "as_declared": True}
    assert 'tcp dport 8080 counter name "admitted_tcp_8080_public" goto admit' in done["after"]["chains"]["from_public"]
    assert [command.splitlines()[0] for command in done["commands"]] == [
        f"install -D -m 0600 /dev/stdin {call.path} <<'EOF'",
        f"nft -f {call.path}",
    ]
    assert call.path.stat().st_mode & 0o777 == 0o600
    # No other table, and none of iptables, is touched.
    assert run("nft", "list", "tables").splitlines() == [f"table inet {TABLE}"]


def test_commands_do_the_same_by_hand(call: Caller) -> None:
    run("sh", "-euc", "\n".join(call(check=True)["commands"]))

    assert call()["changed"] is False


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
        "insert rule inet T prerouting accept",
        "add rule inet T from_internet tcp dport 8080 goto admit",
        "add chain inet T forward { type filter hook forward priority -15; policy drop; }",
        "flush chain inet T forward; delete chain inet T forward; add chain inet T forward { type filter hook forward priority 5; }",
        "add chain inet T mine { type filter hook prerouting priority -300; policy drop; }",
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


def test_the_closed_table_of_the_boot_unit_is_replaced(call: Caller) -> None:
    for chain, hook in (("forward", "forward"), ("output_translated", "output")):
        run("nft", f"add table inet {TABLE}; add chain inet {TABLE} {chain} {{ type filter hook {hook} priority -15; }}; add rule inet {TABLE} {chain} drop")

    assert call.same_in_check_mode()["before"]["chains"]["forward"][-1] == "drop"
    assert call.same_in_check_mode(undeclared="allow")["changed"] is True
    assert "output_translated" not in listing()


def test_a_source_that_goes_takes_its_counter_along(call: Caller) -> None:
    call()
    done = call.same_in_check_mode(config=[{**WEB, "from": ["host"]}, DNS])

    assert "counter admitted_tcp_8080_public" in done["before"]["objects"]
    assert "admitted_tcp_8080_public" not in listing()


def test_without_workloads_and_segments_all_that_is_published_is_undeclared(call: Caller) -> None:
    done = call.same_in_check_mode(config=[], segments=[])

    assert done["after"]["objects"] == ["counter refused_direct", "counter refused_undeclared"]
    assert "ip daddr 172.17.0.0/16" in listing()


def test_deleted(call: Caller) -> None:
    call()

    done = call.same_in_check_mode(state="deleted", config=None)

    assert done["after"] == {"table": TABLE, "chains": None, "objects": None, "file": None}
    assert [command.split()[0] for command in done["commands"]] == ["nft", "rm"]
    assert run("nft", "list", "tables") == ""
    assert not call.path.exists()


def test_gathered_counts_who_was_let_in_and_who_was_not(call: Caller) -> None:
    assert call(state="gathered", config=None) == {
        "changed": False,
        "gathered": {"table": TABLE, "chains": None, "objects": None, "file": None},
        "counters": [],
    }
    call()
    run("nft", "add", "counter", "inet", TABLE, "mine")
    run("ip", "addr", "add", "10.0.9.1/24", "dev", "lo")
    script = "import socket; [print(socket.socket().connect_ex((a, 8080))) for a in ('10.0.9.1', '127.0.0.1', '127.0.0.1')]"
    # The host may, and nobody listens: the answer is the kernel's own.
    assert run("python3", "-c", script).split() == ["111"] * 3

    counters = {(row["verdict"], row["port"], row["source"]): row["packets"] for row in call(state="gathered", config=None)["counters"]}

    assert counters == {
        ("admitted", "8080/tcp", "public"): 0,
        ("admitted", "8080/tcp", "host"): 3,
        ("admitted", "53/udp", "internet"): 0,
        ("admitted", "53/udp", "tailnet"): 0,
        ("refused", "8080/tcp", None): 0,
        ("refused", "53/udp", None): 0,
        ("refused", "undeclared", None): 0,
        ("refused", "direct", None): 0,
    }


def test_rendered_touches_nothing(call: Caller) -> None:
    answer = call(state="rendered")

    assert answer["rendered"].startswith(f"table inet {TABLE} {{\n}}\nflush table inet {TABLE}\n")
    assert answer["rules"] > 30
    assert run("nft", "list", "tables") == ""
    assert not call.path.exists()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"config": [{**WEB, "from": ["pubic"]}]}, "config[0].from[0]: found 'pubic'"),
        ({"config": [WEB, WEB]}, "config[1].published: found 8080, which web publishes too"),
        ({"networks": ["172.17.0.1/16"]}, "networks[0]: found '172.17.0.1/16'"),
        ({"segments": [{"name": "public"}]}, "platform_segments"),
    ],
)
def test_wrong_input_changes_nothing(call: Caller, params: dict[str, Any], words: str) -> None:
    answer = call(**params)

    assert answer["failed"] is True
    assert words in answer["msg"]
    assert run("nft", "list", "tables") == ""


def test_host_without_nft_is_planned_in_check_mode_and_refused_in_a_real_run(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    found = AnsibleModule.get_bin_path
    with monkeypatch.context() as patch:
        patch.setattr(AnsibleModule, "get_bin_path", lambda self, arg, *rest, **kw: None if arg == "nft" else found(self, arg, *rest, **kw))
        foretold, refused = call(check=True), call()
        gathered = call(state="gathered", config=None)
    done = call()

    assert "Planned as if the host had no table yet" in str(foretold["warnings"])
    assert refused["failed"] is True
    assert gathered["counters"] == []
    for key in ("before", "after", "diff", "commands", "changed"):
        assert done[key] == foretold[key], key


@contextmanager
def engine(*containers: dict[str, Any], services: Sequence[dict[str, Any]] = ()) -> Iterator[None]:
    """An engine that says that these run. The socket's place is the namespace's own."""

    def answer(_method: str, path: str, _body: Any) -> tuple[int, Any]:
        if path == "/containers/json":
            return 200, list(containers)
        return (200, list(services)) if services else (503, {"message": "This node is not a swarm manager."})

    Path("/var/run/docker.pid").write_text(str(os.getpid()), encoding="utf-8")
    with engine_at(Path("/var/run/docker.sock"), answer):
        yield
    Path("/var/run/docker.sock").unlink()


HAND = {"Names": ["/hand"], "Labels": {}, "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 9000, "Type": "tcp"}]}


@pytest.mark.parametrize("check", [True, False])
def test_a_first_load_that_would_close_what_somebody_publishes_is_refused_until_it_is_allowed(call: Caller, check: bool) -> None:
    with engine(HAND):
        refused = call(check=check)
        assert refused["failed"] is True
        assert "9000/tcp (container hand)" in refused["msg"]
        assert "-e published_ports_allow_disruption=true" in refused["msg"]
        assert (run("nft", "list", "tables"), call.path.exists()) == ("", False)

        assert "failed" not in call(undeclared="allow", check=check)
        run("sh", "-c", "nft delete table inet hybridlab_ports 2>/dev/null || true")
        assert call.same_in_check_mode(allow_disruption=True)["changed"] is True


def test_what_is_closed_already_is_no_disruption_and_what_was_declared_is_one(call: Caller) -> None:
    own = {"workload": "own", "published": 9000, "target": 80, "from": ["host"]}
    with engine(HAND):
        assert "failed" not in call(config=[WEB, own])
        assert "9000/tcp (container hand)" in call(config=[WEB])["msg"]
        assert "failed" not in call(config=[WEB], allow_disruption=True)
        # From here on it is closed: neither another change nor a repair takes it from anybody.
        assert call(config=[WEB, DNS])["changed"] is True
        run("nft", "delete", "table", "inet", TABLE)
        assert call(config=[WEB, DNS])["changed"] is True


def test_an_engine_that_does_not_tell_is_not_taken_for_one_that_publishes_nothing(call: Caller) -> None:
    Path("/var/run/docker.pid").write_text(str(os.getpid()), encoding="utf-8")
    refused = call()

    assert "the Docker engine does not tell what is published now" in refused["msg"]
    assert run("nft", "list", "tables") == ""
    Path("/var/run/docker.pid").unlink()
    # One that is down has left its rules where containers live on without it.
    run("iptables", "-t", "nat", "-N", "DOCKER")
    run("iptables", "-t", "nat", "-A", "DOCKER", "!", "-i", "docker0", "-p", "tcp", "-m", "tcp", "--dport", "9000", "-j", "DNAT", "--to", "172.17.0.2:80")
    assert "by these rules: 9000/tcp. " in call()["msg"]


@pytest.mark.parametrize("check", [True, False])
def test_the_table_stays_while_something_is_published(call: Caller, check: bool) -> None:
    call()
    with engine(HAND):
        refused = call(state="deleted", config=None, check=check)
        assert "open to everybody without these rules: 9000/tcp (container hand)" in refused["msg"]
        assert call.path.exists()
        assert TABLE in run("nft", "list", "tables")

        assert call(state="deleted", config=None, check=check, allow_disruption=True)["changed"] is True


def test_a_look_ahead_leaves_out_the_workloads_that_go_before(call: Caller) -> None:
    call()
    service = {"ID": "s1", "Spec": {"Name": "lab_web", "Labels": {"com.hybridlab.workload": "web"}}}
    with engine({**HAND, "Labels": {"com.docker.swarm.service.id": "s1"}}, services=[service]):
        assert "9000/tcp" in call(state="deleted", config=None)["msg"]
        assert call(state="deleted", config=None, check=True, ignore_workloads=True)["changed"] is True

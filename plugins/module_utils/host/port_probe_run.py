# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries every published port from every side: the segments, the host, and a namespace that plays the Internet."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import HOST, INTERNET
from ansible_collections.hybridlab.platform.plugins.module_utils.core.port_probes import LOCALHOST, Container, Measured, known, led, outside, places
from ansible_collections.hybridlab.platform.plugins.module_utils.core.probes import words
from ansible_collections.hybridlab.platform.plugins.module_utils.core.published_ports import Published
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.netns import Agent, ProbeNamespaces, interpreter
from ansible_collections.hybridlab.platform.plugins.module_utils.host.probe_run import Answer, answer_of, place
from ansible_collections.hybridlab.platform.plugins.module_utils.host.system import read_routes

_LOOPBACK = "127.0.0.1"

# argument list -> return code, output, error output; AnsibleModule.run_command has this form.
Run = Callable[..., tuple[int, str, str]]


def containers(run: Run, iptables: Optional[str]) -> dict[tuple[str, int], Container]:
    """(protocol, published port) -> where Docker leads it. Empty where there is no iptables, and so no Docker."""
    if iptables is None:
        return {}
    rc, out, err = run([iptables, "-w", "-t", "nat", "-S"])
    if rc != 0:
        raise ResourceError(f"{iptables} -t nat -S: {err.strip()}. Run as root.")
    return led(out)


def measure_ports(
    published: Sequence[Published], segments: Sequence[Segment], found: Mapping[tuple[str, int], Container], timeout: float
) -> list[tuple[Published, Measured]]:
    """Opens every connection for real. ResourceError when a probe cannot be put in place.

    found:   where Docker leads the ports
    timeout: seconds that a connection may take
    """
    with ExitStack() as stack:
        namespaces = stack.enter_context(ProbeNamespaces({**{segment.name: segment.bridge for segment in segments}, INTERNET: None}))
        agents = {HOST: Agent((), interpreter(), "the host")}
        stack.callback(agents[HOST].close)
        for name in (*(segment.name for segment in segments), INTERNET):
            agents[name] = Agent(namespaces.command(name), interpreter(), name)
            stack.callback(agents[name].close)
        place(segments, agents, namespaces, stack)
        link = outside(read_routes())
        host, other = (str(address) for address in link.hosts())
        namespaces.connect(INTERNET, host, other, link.prefixlen)
        addresses = {**{segment.name: str(segment.gateway) for segment in segments}, HOST: host, LOCALHOST: _LOOPBACK, INTERNET: host}
        return _Round(agents, addresses, timeout).ask(published, found)


class _Round:
    """All questions at once, then all answers."""

    def __init__(self, agents: Mapping[str, Agent], addresses: Mapping[str, str], timeout: float) -> None:
        """addresses: place -> where it asks for the host's ports"""
        self._agents = agents
        self._addresses = addresses
        self._timeout = timeout
        self._tokens = self._numbered(secrets.token_hex(8))

    def ask(self, published: Sequence[Published], found: Mapping[tuple[str, int], Container]) -> list[tuple[Published, Measured]]:
        asked = [self._asked(one, known(found, one.port)) for one in published]
        return [(one, self._measured(container, futures)) for one, container, futures in asked]

    def _asked(self, one: Published, container: Optional[Container]) -> tuple[Published, Optional[Container], dict[tuple[str, bool], Future[Answer]]]:
        """(place, whether past the published port) -> the answer to come."""
        futures = {}
        for name in places(name for name in self._agents if name not in (HOST, INTERNET)):
            futures[name, False] = self._try(name, one.port.protocol, self._addresses[name], one.port.published)
            if container is not None and name != LOCALHOST:
                futures[name, True] = self._try(name, one.port.protocol, container.address, container.port)
        return one, container, futures

    def _try(self, name: str, protocol: str, address: str, port: int) -> Future[Answer]:
        agent = self._agents[HOST if name == LOCALHOST else name]
        # What answers there is unknown, so no token is waited for; a datagram has to hold something.
        return agent.ask(protocol, address=address, port=port, timeout=self._timeout, token=next(self._tokens) if protocol == "udp" else "")

    def _measured(self, container: Optional[Container], futures: Mapping[tuple[str, bool], Future[Answer]]) -> Measured:
        measured = Measured(container)
        for (name, direct), future in futures.items():
            result = words(answer_of(future, self._timeout))
            if not direct:
                measured.results[name] = result
            elif name == HOST:
                measured.answers = result
            else:
                measured.direct[name] = result
        return measured

    @staticmethod
    def _numbered(token: str) -> Iterator[str]:
        number = 0
        while True:
            yield f"{token}{number:04x}"
            number += 1

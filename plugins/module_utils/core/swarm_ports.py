# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Published ports that change hands: a task whose port is taken on its node waits, silently and for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

# Number and protocol of each.
Ports = frozenset[tuple[int, str]]


def check_free(staying: Mapping[str, Ports], wanted: Mapping[str, Ports]) -> None:
    """ResourceError when a service that this run leaves alone publishes a port that a wanted one takes. Both: ports by name of the service."""
    for name, ports in wanted.items():
        for other, taken in staying.items():
            for number, protocol in sorted(ports & taken):
                raise ResourceError(
                    f"the service {name!r} is to publish {number}/{protocol}, which the service {other!r} publishes, and that is none of those declared; "
                    f"nothing was changed. Choose another port, or remove that service: docker service rm {other}"
                )


def in_the_way(gone: Sequence[str], found: Mapping[str, Ports], wanted: Mapping[str, Ports]) -> list[str]:
    """Those of ``gone`` that publish a port which a wanted service takes: they have to be removed first."""
    taken = {port for ports in wanted.values() for port in ports}
    return [name for name in gone if found[name] & taken]

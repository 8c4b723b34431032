# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks this host which ports lead to containers now. Needs neither the Docker SDK nor Docker's client: a host that is taken over may have none of ours."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any, Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.port_probes import led
from ansible_collections.hybridlab.platform.plugins.module_utils.core.published_now import Publication, published
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

SOCKET = "/var/run/docker.sock"
# Written by the engine while it runs.
PIDFILE = "/var/run/docker.pid"
_SECONDS = 20

# argument list -> return code, output, error output; AnsibleModule.run_command has this form.
Run = Callable[..., tuple[int, str, str]]


class _Local(http.client.HTTPConnection):
    """HTTP to the engine's socket."""

    def __init__(self) -> None:
        super().__init__("docker", timeout=_SECONDS)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(SOCKET)


def published_now(run: Run, iptables: Optional[str]) -> list[Publication]:
    """By port; empty where there is no engine. ResourceError when there is one and nobody can tell.

    An engine that is down is not asked, because the question would start it (docker.socket). Containers may live on without it:
    then Docker's rules tell the ports. iptables: the program, None where there is no engine that could have used it
    """
    if _runs():
        return published(_asked("/containers/json"), _asked("/services", none=(406, 503)))
    if iptables is None:
        return []
    rc, out, err = run([iptables, "-w", "-t", "nat", "-S"])
    if rc != 0:
        raise ResourceError(f"{iptables} -t nat -S: {err.strip()}, so it is unknown what is published now. Nothing was changed. Run as root.")
    return [Publication(protocol, port) for protocol, port in sorted(led(out), key=lambda key: (key[1], key[0]))]


def _runs() -> bool:
    try:
        os.kill(int(Path(PIDFILE).read_text(encoding="utf-8")), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _asked(path: str, none: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """A list of the engine's. none: statuses by which it says that it has no such list."""
    connection = _Local()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status in none:
            return []
        if answer.status != 200:
            raise ResourceError(_untold(f"GET {path}: {answer.status} {body.decode(errors='replace')[:200].strip()}"))
        rows: list[dict[str, Any]] = json.loads(body)
        return rows
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ResourceError(_untold(f"GET {path}: {error}")) from error
    finally:
        connection.close()


def _untold(why: str) -> str:
    return f"the Docker engine does not tell what is published now ({why}). Nothing was changed. See: systemctl status docker; journalctl -u docker -n 50"

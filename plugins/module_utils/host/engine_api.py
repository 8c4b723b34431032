# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine API in its own words: plain JSON over the SDK's connection, so that what is sent is exactly what was planned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import docker_sdk


class EngineRefused(ResourceError):
    """The engine answered with an error. status: of HTTP; reason: the engine's own words."""

    def __init__(self, status: int, reason: str, what: str) -> None:
        super().__init__(f"{what}: the Docker engine refused it: {reason}")
        self.status = status
        self.reason = reason


class Engine:
    """Calls of the API. Each raises EngineRefused, or ResourceError when the connection fails."""

    def __init__(self, client: Any) -> None:
        self.api = client.api
        self.low: tuple[type[BaseException], ...] = (OSError,)  # requests' errors are OSErrors

    def get(self, path: str, **query: Any) -> Any:
        return self._call("GET", path, query).json()

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        answer = self._call("POST", path, query, body)
        return answer.json() if answer.content else None

    def delete(self, path: str, **query: Any) -> None:
        self._call("DELETE", path, query)

    def stream(self, path: str, data: Any, timeout: int, **query: Any) -> Iterator[dict[str, Any]]:
        """The JSON messages of a long answer as they come. timeout: seconds that it may be silent."""
        answer = self._call("POST", path, query, data, timeout=timeout, stream=True)
        try:
            for line in answer.iter_lines():
                if line:
                    yield json.loads(line)
        except self.low as error:
            raise ResourceError(f"POST {path}: the Docker engine was silent for {timeout} s ({error}). See: journalctl -u docker -n 50") from error

    def text(self, path: str, **query: Any) -> bytes:
        return bytes(self._call("GET", path, query).content)

    def _call(self, method: str, path: str, query: Mapping[str, Any], body: Any = None, timeout: Optional[int] = None, stream: bool = False) -> Any:
        parameters = {key: json.dumps(value) if isinstance(value, (dict, list, bool)) else value for key, value in query.items()}
        sent: dict[str, Any] = {"data": body} if stream else {"json": body}
        if stream:
            sent["headers"] = {"Content-Type": "application/x-tar"}
        try:
            answer = self.api.request(
                method,
                f"{self.api.base_url}/v{self.api.api_version}{path}",
                params=parameters,
                timeout=timeout or self.api.timeout,
                stream=stream,
                **sent,
            )
        except self.low as error:
            raise ResourceError(
                f"{method} {path}: no answer of the Docker engine ({error}). See: systemctl status docker; journalctl -u docker -n 50"
            ) from error
        if answer.status_code >= 400:
            raise EngineRefused(answer.status_code, _reason(answer), f"{method} {path}")
        return answer


def _reason(answer: Any) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return str(answer.reason)


def connect(planning: bool = False) -> Optional[Engine]:
    """planning: whether the caller can go on without an engine; then None where there is none."""
    client = docker_sdk.client(planning)
    return None if client is None else Engine(client)

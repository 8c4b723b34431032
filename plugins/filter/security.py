# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that completes ``platform_security``. It is documented in a file of its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.hybridlab.platform.plugins.module_utils.core import security_settings as core
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError


def security_settings(security: Mapping[str, Any], mail: Optional[Mapping[str, Any]] = None) -> dict[str, Any]:
    try:
        return core.settings(security, mail is not None)
    except ModelError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"security_settings": security_settings}

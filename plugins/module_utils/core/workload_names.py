# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names by which a setting gives itself away as a secret."""

from __future__ import annotations

import re

# PASSWORD, DB_PASS, API_TOKEN, SECRET_KEY, AWS_SECRET_ACCESS_KEY, apikey; not PASSIVE_PORTS or TOKENIZER.
_SECRET = re.compile(
    r"(?:^|[_.-])(?:pass|passwd|pwd|token|secrets?|credentials?|api[_-]?key|access[_-]?key|private[_-]?key)(?:[_.-]|$)"
    r"|password|passphrase"
)
# The custom of many images: NAME_FILE is the path of a file that holds the value.
_PATH = re.compile(r"[_.-](?:file|path|dir)$")


def is_secret_name(name: str) -> bool:
    """Whether the value of a variable of this name is a secret, and not the path of one."""
    lower = name.lower()
    return bool(_SECRET.search(lower)) and not _PATH.search(lower)

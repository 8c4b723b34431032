# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes ``ansible_collections.hybridlab.platform`` resolve to this checkout.

``ansible-test`` installs a finder of its own before it reads this file; then nothing is left to do.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import settings

# Examples of each property, where a test names no number of its own.
# How long one takes says something of the machine alone.
settings.register_profile("platform", max_examples=int(os.environ.get("HYBRIDLAB_EXAMPLES") or 25), deadline=None)
settings.load_profile("platform")

COLLECTIONS = Path(__file__).resolve().parent.parent / "collections"


def _install_finder() -> None:
    from ansible.utils.collection_loader import _collection_finder

    if any(isinstance(finder, _collection_finder._AnsibleCollectionFinder) for finder in sys.meta_path):
        return
    _collection_finder._AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()


_install_finder()

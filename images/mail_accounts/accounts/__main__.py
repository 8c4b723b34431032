# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve changes of passwords at a Unix socket, until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from pathlib import Path

from . import schemes
from .service import LINE, Service, log
from .store import Store

SOCKET = "/run/mail/accounts/password"


async def main() -> None:
    store = Store()
    try:
        store.heal()
    except sqlite3.Error as error:
        log(f"the file of passwords cannot be written yet: {error}")
    # A socket that a killed process left.
    Path(SOCKET).unlink(missing_ok=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    os.umask(0o111)
    server = await asyncio.start_unix_server(Service(store, schemes).talk, SOCKET, limit=LINE)
    os.umask(0o027)
    async with server:
        await stop.wait()


asyncio.run(main())

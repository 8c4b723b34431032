# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mailctl: the mail accounts, the queue and the state of the mail host, by hand. It writes what the module mail_accounts writes, by the same code."""

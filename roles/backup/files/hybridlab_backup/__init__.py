# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations of what the Docker host holds, on another disk: made, listed, verified, restored.

The package stays on the host and needs nothing but Python 3.9, rsync and the docker command. Its imports are relative, so that it runs from any directory.
"""

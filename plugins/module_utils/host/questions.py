# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a host the questions of core/validation.py: commands that only read, each with a time limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation import Answer, Answers, Questions

# Exit codes of coreutils' timeout, timeout(1).
_TIMED_OUT, _NOT_EXECUTABLE, _NOT_FOUND = 124, 126, 127


def ask(run: Callable[..., Any], questions: Questions, seconds: int) -> Answers:
    """Answers by the questions' keys. run: ``AnsibleModule.run_command``; seconds: how long each may take."""
    return {key: _answer(run, list(argv), seconds) for key, argv in questions.items()}


def _answer(run: Callable[..., Any], argv: list[str], seconds: int) -> Answer:
    rc, out, err = run(["timeout", "--kill-after=5", str(seconds), *argv])
    if rc == _TIMED_OUT:
        return Answer(None, out, f"{argv[0]}: no answer in {seconds} s")
    if rc in (_NOT_EXECUTABLE, _NOT_FOUND) and not out:
        return Answer(None, out, f"{argv[0]}: not installed")
    return Answer(rc, out, err)

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backup saves of the mail system."""

from __future__ import annotations

from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model


def lab_mail() -> Mail:
    mail = parse_platform(lab_model()).services.mail
    assert mail is not None
    return mail


def test_all_that_cannot_be_had_again_is_saved_once() -> None:
    mail = lab_mail()
    box, webmail = mail_platform.backup(mail)
    names = ["mail", "home", "accounts", "passwords", "copies", "dkim", "tls", "ca", "archive"]
    assert box["paths"] == [f"{mail.directory}/{name}" for name in names], "with another CA every mail program would refuse the certificate"
    assert webmail["dump"]["volumes"] == [f"{mail.stack}_mariadb"]


def test_what_waited_is_not_sent_once_more() -> None:
    mail = lab_mail()
    mounted = {volume["name"] for workload in mail_platform.workloads(mail) for volume in workload["volumes"] if "name" in volume}
    skipped = mail_platform.skipped_volumes(mail)
    assert f"{mail.stack}_queue" in skipped and {name.partition("_")[2] for name in skipped} <= mounted

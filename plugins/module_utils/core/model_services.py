# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on the host beside its guests, as the model describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_backup import Backup
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_monitoring import Monitoring
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_security import Security
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import ContainerImage, Secret, Workload


@dataclass(frozen=True)
class Services:
    """None, or no entries, for what the model leaves out."""

    secrets: tuple[Secret, ...] = ()
    docker: Optional[Docker] = None
    images: tuple[ContainerImage, ...] = ()
    workloads: tuple[Workload, ...] = ()
    security: Optional[Security] = None
    backup: Optional[Backup] = None
    monitoring: Optional[Monitoring] = None
    mail: Optional[Mail] = None

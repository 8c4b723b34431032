# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page beside the AWS sketch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_PAGE = """\
# Guests of platform {platform} as EC2 instances

A sketch, written by `make export-terraform` from the running lab. Read it before you apply it: it makes machines that cost money.

| guest | in the lab | EC2 type | image | disks (GiB, gp3) | segment |
|---|---|---|---|---|---|
{rows}

| environment | availability zones | state |
|---|---|---|
{environments}

A guest has one instance in each zone of its environment. Guests with more than one disk are listed in `single_zone_guests`: their data is in one
place until something replicates it. Take a guest off that list when it does.

## What has to be there

- A VPC with the tags `platform` and `environment`; a subnet for each segment and zone with the tag `segment`; a security group for each segment
  with the tag `segment`. The groups' rules come from the model's `reaches`, as the lab's firewall does; nothing here opens a port.
- A bucket for the state, with versioning. Each environment has a key of its own, and S3's own lock (Terraform 1.10 or later).
- Credentials from the environment or a profile. No secret is in these files; keep them out of `user_data`, which anybody on the instance can read.

## Use

    cd environments/staging
    cp backend.hcl.example backend.hcl      # fill in bucket and region
    terraform init -backend-config=backend.hcl
    terraform plan -var region=REGION -out plan
    terraform apply plan

Every resource gets the tags `platform`, `environment` and `managed-by` (`default_tags`). The owners of the public images are in
`modules/guests/data.tf`: compare them with the distributions' own pages before the first apply.

## Moving the machines instead of making new ones

These instances are new: they start from a public image, and nothing of the lab's disks comes along. There are two ways to bring the disks.

AWS Application Migration Service (MGN) replicates a running guest. The provider hashicorp/aws has no stable resources for it
(github.com/hashicorp/terraform-provider-aws issue 21746), so these are steps for the AWS CLI:

    aws mgn initialize-service
    # In the guest, with credentials for AWSApplicationMigrationAgentInstallationPolicy; it reaches TCP 443, and 1500 of the replication server:
    sudo python3 aws-replication-installer-init.py --region REGION
    aws mgn describe-source-servers
    aws mgn update-launch-configuration --source-server-id s-... --target-instance-type-right-sizing-method NONE
    aws mgn start-test --source-server-ids s-...
    aws mgn change-server-life-cycle-state --source-server-id s-... --life-cycle state=READY_FOR_CUTOVER
    aws mgn start-cutover --source-server-ids s-...
    aws mgn finalize-cutover --source-server-id s-...

Then adopt the instance that it launched, with an import block beside the module call:

    import {{
      to = module.guests.aws_instance.GUEST["ZONE"]
      id = "i-..."
    }}

VM Import takes a stopped guest's disk. It reads raw, VMDK and VHD(X), not qcow2:

    qemu-img convert -O raw GUEST-root.qcow2 GUEST-root.raw     # flattens the overlay
    aws s3 cp GUEST-root.raw s3://BUCKET/
    aws ec2 import-image --disk-containers Format=raw,UserBucket="{{S3Bucket=BUCKET,S3Key=GUEST-root.raw}}"

Then put the AMI that comes out into the guest's `ami` in `modules/guests/main.tf`.

## Left out

Fixed addresses, DNS names, SSH forwards, firmware and TPM choices, cloud-init documents, memory and vCPU bounds, interfaces after the first,
snapshots. Load balancers, backups and alarms are part of the cloud stack.
"""


def readme(platform: str, machines: Sequence[Any], environments: Mapping[str, int]) -> str:
    """The text. machines: terraform_aws.Machine; environments: zones by name."""
    rows = [
        f"| {_cell(machine.name)} | {machine.vcpus} vCPUs, {machine.memory_mb} MiB | {machine.instance_type} | {_cell(machine.image or 'its own')} "
        f"| {_cell(', '.join(f'{name} {size}' for name, size in machine.disks))} | {_cell(machine.segment)} |"
        for machine in machines
    ]
    states = [f"| {name} | {zones} | `{platform}/{name}/guests.tfstate` |" for name, zones in environments.items()]
    return _PAGE.format(platform=platform, rows="\n".join(rows or ["| none | | | | | |"]), environments="\n".join(states))


def _cell(text: str) -> str:
    """Text in a table of Markdown."""
    return text.replace("|", "\\|").replace("\n", " ")

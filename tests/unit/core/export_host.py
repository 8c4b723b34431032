# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host for the export's tests, as a file of libvirt's test driver: every process that opens its URI finds the same libvirt."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.hybridlab.platform.plugins.module_utils.core.pools import owner_uuid

MARK = "<metadata><hybridlab:platform xmlns:hybridlab='urn:hybridlab:platform:1' name='lab'/></metadata>"
BASE = "/srv/fast/image-debian-12-0123456789ab.qcow2"


def volume(name: str, gib: int, backing: str = "", kind: str = "qcow2") -> str:
    store = f"<backingStore><path>{backing}</path><format type='qcow2'/></backingStore>" if backing else ""
    return f"<volume><name>{name}</name><capacity unit='GiB'>{gib}</capacity><target><format type='{kind}'/></target>{store}</volume>"


def disk(path: str, target: str, serial: str = "", more: str = "") -> str:
    mark = f"<serial>{serial}</serial>" if serial else ""
    return f"<disk type='file' device='disk'><source file='{path}'/><target dev='{target}' bus='virtio'/>{mark}{more}</disk>"


NETWORKS = f"""
<network><name>public</name><uuid>11111111-1111-4111-8111-111111111111</uuid>{MARK}<forward mode='open'/>
  <bridge name='br-public' stp='on' delay='0'/><domain name='lab.local' localOnly='yes'/>
  <dns><host ip='10.0.1.20'><hostname>web</hostname><hostname>www</hostname></host><host ip='10.0.3.10'><hostname>db</hostname></host></dns>
  <ip address='10.0.1.1' prefix='24'><dhcp><range start='10.0.1.100' end='10.0.1.200'/>
    <host mac='52:54:00:aa:bb:01' name='web' ip='10.0.1.20'/></dhcp></ip></network>
<network><name>database</name><uuid>22222222-2222-4222-8222-222222222222</uuid>{MARK}<forward mode='open'/>
  <bridge name='br-database' stp='on' delay='0'/><mtu size='1400'/><domain name='lab.local' localOnly='yes'/><ip address='10.0.3.1' prefix='24'/></network>
<network><name>quiet one</name><uuid>33333333-3333-4333-8333-333333333333</uuid>{MARK}<bridge name='br-quiet' stp='on' delay='0'/>
  <ip address='10.0.9.1' prefix='24'/></network>
<network><name>default</name><uuid>44444444-4444-4444-8444-444444444444</uuid><forward mode='nat'/><bridge name='virbr0' stp='on' delay='0'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>
"""

POOLS = f"""
<pool type='dir'><name>fast</name><uuid>{owner_uuid("fast")}</uuid><target><path>/srv/fast</path><permissions><mode>0711</mode></permissions></target>
  {volume("image-debian-12-0123456789ab.qcow2", 2)}{volume("web-root.qcow2", 10, BASE)}{volume("web-root@before.qcow2", 10, "/srv/fast/web-root.qcow2")}
  {volume("web-seed.iso", 1, kind="raw")}{volume("db-root.qcow2", 10, BASE)}{volume("of-somebody.qcow2", 3)}</pool>
<pool type='dir'><name>large</name><uuid>{owner_uuid("large")}</uuid><target><path>/srv/large</path></target>{volume("db-data.qcow2", 50)}</pool>
<pool type='dir'><name>default-pool</name><uuid>55555555-5555-4555-8555-555555555555</uuid><target><path>/srv/other</path></target>
  {volume("old.img", 4, kind="raw")}</pool>
"""

SERIAL = "<serial type='pty'><target port='0'/></serial><console type='pty'><target type='serial' port='0'/></console>"
AGENT = "<channel type='pty'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"

DOMAINS = f"""
<domain type='test'><name>web</name><uuid>66666666-6666-4666-8666-666666666666</uuid>{MARK}<description>the "front" ${{door}}</description>
  <memory unit='MiB'>1024</memory><currentMemory unit='MiB'>512</currentMemory><vcpu current='1'>2</vcpu><os><type arch='i686'>hvm</type><boot dev='hd'/></os>
  <devices>{disk("/srv/fast/web-root@before.qcow2", "vda", "root")}{disk("/srv/fast/web-seed.iso", "vdb", "seed", "<readonly/>")}
    <interface type='network'><mac address='52:54:00:aa:bb:01'/><source network='public'/></interface>{SERIAL}{AGENT}</devices></domain>
<domain type='test'><name>db</name><uuid>77777777-7777-4777-8777-777777777777</uuid>{MARK}
  <memory unit='MiB'>4096</memory><vcpu>4</vcpu><os><type arch='i686'>hvm</type></os>
  <devices>{disk("/srv/fast/db-root.qcow2", "vda")}{disk("/srv/large/db-data.qcow2", "vdb")}
    <interface type='network'><mac address='52:54:00:aa:bb:02'/><source network='database'/></interface>
    <interface type='network'><mac address='52:54:00:aa:bb:03'/><source network='default'/></interface></devices></domain>
<domain type='test'><name>foreign</name><uuid>88888888-8888-4888-8888-888888888888</uuid>
  <memory unit='MiB'>256</memory><vcpu>1</vcpu><os><type arch='i686'>hvm</type></os>
  <devices>{disk("/srv/other/old.img", "vda")}</devices></domain>
<domain type='test'><name>lost</name><uuid>99999999-9999-4999-8999-999999999999</uuid>{MARK}
  <memory unit='MiB'>256</memory><vcpu>1</vcpu><os><type arch='i686'>hvm</type></os>
  <devices>{disk("/elsewhere/lost.qcow2", "vda")}</devices></domain>
"""


def export_host(folder: Path) -> str:
    """URI of the host, whose file is written to ``folder``."""
    path = folder / "host.xml"
    path.write_text(f"<node>{DOMAINS}{NETWORKS}{POOLS}</node>", encoding="utf-8")
    return f"test://{path}"

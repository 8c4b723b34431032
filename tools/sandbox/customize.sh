#!/bin/sh
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes a fresh Debian root fit to be a system container: what would reach out of the container into
# the machine's kernel is masked. Called by mmdebstrap with the root directory as its argument, and
# inside a container of a registry's image with "/".
set -eu
root=${1%/}

# The machine's devices, keyboard, consoles, modules, binary formats and audit belong to the machine.
for unit in \
    systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-udev-trigger.service systemd-udev-settle.service \
    systemd-journald-audit.socket systemd-modules-load.service systemd-binfmt.service \
    proc-sys-fs-binfmt_misc.automount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-fs-fuse-connections.mount dev-hugepages.mount \
    console-getty.service getty@.service getty-static.service systemd-remount-fs.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Settings of the whole kernel, which no network namespace of the container holds back.
mkdir -p "$root/etc/sysctl.d" "$root/etc/systemd/journald.conf.d"
for file in 50-pid-max.conf 99-protect-links.conf; do
    ln -sf /dev/null "$root/etc/sysctl.d/$file"
done
printf '[Journal]\nReadKMsg=no\nAudit=\n' > "$root/etc/systemd/journald.conf.d/container.conf"

# Filled at the first boot, so that no two hosts share one.
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"

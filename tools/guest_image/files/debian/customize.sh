#!/bin/sh
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes an installed Debian root fit to be a guest. Called by mmdebstrap with the root directory and the UUID of the root file system.
set -eu
root=$1
here=$(dirname "$0")

mkdir -p "$root/boot/efi"
cat >"$root/etc/fstab" <<FSTAB
UUID=$2 / ext4 defaults,noatime,errors=remount-ro 0 1
LABEL=BOOT /boot/efi vfat umask=0077,nofail 0 2
FSTAB

# New kernels and initramfs have to reach the boot partition.
for place in etc/kernel/postinst.d etc/initramfs/post-update.d; do
    mkdir -p "$root/$place"
    install -m 755 "$here/zz-boot-partition" "$root/$place/zz-boot-partition"
done

install -m 644 "$here/cloud-init.cfg" "$root/etc/cloud/cloud.cfg.d/90-guest-image.cfg"
for unit in systemd-networkd.service systemd-resolved.service systemd-timesyncd.service; do
    chroot "$root" systemctl --quiet enable "$unit"
done
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"

# Made by each guest for itself at its first boot.
rm -f "$root"/etc/ssh/ssh_host_*

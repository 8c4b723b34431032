# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of unit files: stubs that sleep, and the sockets and services of libvirt's modular daemons."""

from __future__ import annotations

UNIT_DIR = "/usr/lib/systemd/system"
# The only libvirt daemon that Debian builds is the monolithic one. A copy of it plays virtqemud, with every driver in it;
# the other daemons listen under their true names and hand each connection on to it.
BACKEND = "virtqemud"
BACKEND_SOCKET = f"/run/libvirt/{BACKEND}-sock"
PROXY = "/usr/lib/systemd/systemd-socket-proxyd"


def stub_unit(name: str) -> str:
    """A unit under a true name that does nothing. :raises ValueError: no stub for units of this kind"""
    stem, _dot, kind = name.rpartition(".")
    if kind == "service":
        command = "ExecStart=/usr/bin/sleep infinity\nExecReload=/usr/bin/true\n"
        return f"[Unit]\nDescription=Stub of {stem}\n\n[Service]\n{command}\n[Install]\nWantedBy=multi-user.target\n"
    if kind == "timer":
        return f"[Unit]\nDescription=Stub of the timer {stem}\n\n[Timer]\nOnCalendar=*-*-* 06:00\nUnit={stem}.service\n\n[Install]\nWantedBy=timers.target\n"
    if kind == "socket":
        return f"[Unit]\nDescription=Stub of the socket {stem}\n\n[Socket]\nListenStream=/run/{stem}.stub\n\n[Install]\nWantedBy=sockets.target\n"
    raise ValueError(f"{name}: there are stubs of services, timers and sockets only")


def socket_paths(daemon: str) -> dict[str, str]:
    """Socket unit to the path it listens on."""
    if daemon == "virtproxyd":
        paths = ("/run/libvirt/libvirt-sock", "/run/libvirt/libvirt-sock-ro", "/run/libvirt/libvirt-admin-sock")
    else:
        paths = (f"/run/libvirt/{daemon}-sock", f"/run/libvirt/{daemon}-sock-ro", f"/run/libvirt/{daemon}-admin-sock")
    return dict(zip((f"{daemon}.socket", f"{daemon}-ro.socket", f"{daemon}-admin.socket"), paths))


def modular_units(daemon: str) -> dict[str, str]:
    """Name to text of the four units of one of libvirt's modular daemons."""
    sockets = socket_paths(daemon)
    main = f"{daemon}.socket"
    units = {}
    for name, path in sockets.items():
        bound = "" if name == main else f"BindsTo={main}\nAfter={main}\n"
        conflict = "Conflicts=libvirtd.socket\n" if daemon == "virtproxyd" and name == main else ""
        # libvirtd knows a socket that systemd made for it by the name of the unit that it expects.
        known_as = f"FileDescriptorName={name.replace(BACKEND, 'libvirtd')}\n" if daemon == BACKEND else ""
        mode = "0600" if name.endswith("-admin.socket") or (daemon != BACKEND and name.endswith("-ro.socket")) else "0666"
        also = "".join(f"Also={other}\n" for other in sockets if other != name)
        units[name] = (
            f"[Unit]\nDescription=libvirt {daemon} socket\n{bound}{conflict}\n"
            f"[Socket]\nListenStream={path}\nService={daemon}.service\nSocketMode={mode}\nRemoveOnStop=yes\n{known_as}\n"
            f"[Install]\nWantedBy=sockets.target\n{also}"
        )
    if daemon == BACKEND:
        arguments = f"--timeout 120 --pid-file /run/{daemon}.pid --config /etc/libvirt/{daemon}.conf"
        how = f"Type=notify\nExecStart=/usr/sbin/{daemon} {arguments}\nExecReload=/bin/kill -HUP $MAINPID\n"
    else:
        how = f"Type=simple\nExecStart=/usr/sbin/{daemon} --exit-idle-time=120s {BACKEND_SOCKET}\nExecReload=/usr/bin/true\n"
    after = "".join(f"After={name}\n" for name in sockets)
    logd = "Requires=virtlogd.socket\nWants=virtlockd.socket\nAfter=virtlogd.socket\nAfter=virtlockd.socket\n" if daemon == BACKEND else ""
    units[f"{daemon}.service"] = (
        f"[Unit]\nDescription=libvirt {daemon} daemon\nConflicts=libvirtd.service\nRequires={main}\n"
        + "".join(f"Wants={name}\n" for name in sockets if name != main)
        + f"{after}{logd}After=network.target\nAfter=dbus.service\n\n"
        f"[Service]\n{how}KillMode=process\nRestart=on-failure\n\n"
        f"[Install]\nWantedBy=multi-user.target\n" + "".join(f"Also={name}\n" for name in sockets)
    )
    return units

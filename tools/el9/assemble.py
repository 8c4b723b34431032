# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the look-alike of a freshly installed root; runs as mmdebstrap's last hook: ``python -m tools.el9.assemble ROOT``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.el9.spec import RELEASE, Package, parse_packages, spec_text

HERE = Path(__file__).parent
WORK = "/el9"
REPOSITORY = "/usr/share/el9/repo"
STOCK = "/etc/yum.repos.d/el9-lookalike.repo"
OLD_PYTHON = "/usr/bin/python3.11"
PLATFORM_PYTHON = "/usr/libexec/platform-python"
# Where the modules of ansible.posix look for it.
PLATFORM_PYTHON_OF_POSIX = "/usr/bin/libexec/platform-python"
SITE = "/usr/lib64/python3.9/site-packages"
# Not worth carrying, or Debian's alone.
LEFT_OUT = re.compile(
    r"^/usr/share/(?:doc|man|locale|lintian|bug|doc-base|bash-completion|apparmor|augeas|systemtap)(?:/|$)"
    r"|^/etc/(?:init\.d|apparmor\.d|default|sv|ufw|monit)/|^/usr/share/runit/"
    r"|^/usr/lib/systemd/system/(?:rescue-)?ssh\.|^/etc/fail2ban/jail\.d/defaults-debian\.conf$|/dist-packages/fail2ban/tests/|/fail2ban-testcases$"
)
DEBIAN_PYTHON = re.compile(rb"#! ?/usr/bin/(?:env )?python3(?:\.11)?(?P<options>(?: .*)?)$")
RELEASE_LINE = "Rocky Linux release 9.6 (Blue Onyx)\n"
IDENTITY = {
    "/etc/redhat-release": RELEASE_LINE,
    "/etc/rocky-release": RELEASE_LINE,
    "/etc/system-release": RELEASE_LINE,
    "/etc/system-release-cpe": "cpe:/o:rocky:rocky:9::baseos\n",
    "/usr/lib/os-release": (
        'NAME="Rocky Linux"\nVERSION="9.6 (Blue Onyx)"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\nPLATFORM_ID="platform:el9"\n'
        'PRETTY_NAME="Rocky Linux 9.6 (Blue Onyx), look-alike"\nANSI_COLOR="0;32"\nCPE_NAME="cpe:/o:rocky:rocky:9::baseos"\n'
        'ROCKY_SUPPORT_PRODUCT="Rocky-Linux-9"\nROCKY_SUPPORT_PRODUCT_VERSION="9.6"\n'
        'REDHAT_SUPPORT_PRODUCT="Rocky Linux"\nREDHAT_SUPPORT_PRODUCT_VERSION="9.6"\n'
    ),
    STOCK: f"[el9-lookalike]\nname=Stand-ins for EL9\nbaseurl=file://{REPOSITORY}\nenabled=1\ngpgcheck=0\nmetadata_expire=1\n",
    # No preset enables anything, so that a role which relies on one is found out.
    "/usr/lib/systemd/system-preset/99-default-disable.preset": "disable *\n",
}
HIDDEN = [
    "/usr/bin/apt*",
    "/usr/bin/dpkg*",
    "/usr/sbin/dpkg*",
    "/usr/bin/deb*",
    "/usr/sbin/update-alternatives",
    "/usr/bin/update-alternatives",
    "/usr/share/dpkg",
    "/usr/share/apt",
    "/usr/lib/apt",
    "/usr/lib/dpkg",
    "/var/lib/dpkg",
    "/var/lib/apt",
    "/var/cache/apt",
    "/etc/apt",
    "/etc/dpkg",
    "/etc/debian_version",
    "/etc/alternatives",
    "/etc/init.d/*",
    "/etc/rc?.d/*",
    "/usr/share/polkit-1/actions/org.dpkg*",
    "/usr/lib/python3/dist-packages/apt*",
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/locale",
]
# The sandbox writes its settings for apt and dpkg into any host.
KEPT_DIRECTORIES = ("/etc/apt/apt.conf.d", "/etc/dpkg/dpkg.cfg.d", "/var/lib/apt/lists")


class Root:
    """The root directory that becomes the look-alike, seen from outside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = path / f"{WORK}/tree".lstrip("/")

    def at(self, path: str) -> Path:
        return self.path / path.lstrip("/")

    def run(self, *argv: str) -> None:
        environment = {**os.environ, "HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        subprocess.run(["chroot", str(self.path), *argv], check=True, stdin=subprocess.DEVNULL, env=environment)

    def files_of(self, package: str) -> list[str]:
        """Paths of an installed Debian package, without its directories (of which /bin, /sbin and /lib are links)."""
        found = [path for name in (package, f"{package}:amd64") if (path := self.at(f"/var/lib/dpkg/info/{name}.list")).exists()]
        if not found:
            raise FileNotFoundError(f"debian.yml: {package} is not installed in the look-alike's root; name it under 'install' or 'unpack'")
        lines = found[0].read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line.count("/") > 1 and (self.at(line).is_symlink() or self.at(line).is_file())]


def merged(path: str) -> str:
    """The path below /usr that a top directory's link leads to."""
    return f"/usr{path}" if re.match(r"/(?:s?bin|lib\w*)/", path) else path


def unpack(root: Root, packages: dict[str, str]) -> dict[str, Path]:
    """Debian package to the directory that it was unpacked into."""
    download = root.at(f"{WORK}/download")
    download.mkdir(parents=True)
    config = os.environ["MMDEBSTRAP_APT_CONFIG"]
    argv = ["apt-get", "download", *(f"{name}/{suite}" for name, suite in packages.items())]
    subprocess.run(argv, cwd=download, check=True, stdin=subprocess.DEVNULL, env={**os.environ, "APT_CONFIG": config})
    result = {}
    for name in packages:
        result[name] = root.at(f"{WORK}/unpacked/{name}")
        result[name].mkdir(parents=True)
        archive = next(download.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(result[name])], check=True)
    return result


def payload_files(root: Root, package: str, unpacked: dict[str, Path]) -> Iterator[tuple[Path, str]]:
    """(file, path that it gets in the tree) of a Debian package; what is left out is deleted."""
    if package in unpacked:
        start = unpacked[package]
        pairs = ((path, f"/{path.relative_to(start)}") for path in sorted(start.rglob("*")) if path.is_symlink() or path.is_file())
    else:
        # A file may be listed under both of its names, before and after the directories were merged.
        pairs = ((root.at(path), path) for path in {merged(path): path for path in root.files_of(package)})
    for source, path in pairs:
        target = merged(path).replace("/usr/lib/python3/dist-packages/", f"{SITE}/") if package in unpacked else merged(path)
        if LEFT_OUT.search(target):
            source.unlink()
        else:
            yield source, target


def fill_tree(root: Root, packages: list[Package], unpacked: dict[str, Path]) -> dict[str, list[str]]:
    """Moves and writes every package's files; returns the lines of their %files sections."""
    contents: dict[str, list[str]] = {}
    for package in packages:
        own = dict.fromkeys(package.directories, "%dir ")
        for debian in package.payload:
            for source, target in payload_files(root, debian, unpacked):
                place = root.tree / target.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(source, place)
                own[target] = "%config(noreplace) " if target.startswith("/etc/") else ""
        for target, origin in package.copies.items():
            shutil.copy2(next(path for path in (root.tree / origin.lstrip("/"), root.at(origin)) if path.exists()), root.tree / target.lstrip("/"))
            own[target] = ""
        for target, text in package.written_files().items():
            place = root.tree / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
            own[target] = "%config(noreplace) " if target.startswith("/etc/") else ""
        for target, link in package.symlinks().items():
            place = root.tree / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(link)
            own[target] = ""
        for directory in package.directories:
            (root.tree / directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
        contents[package.name] = [f'{kind}"{path}"' for path, kind in own.items()]
    return contents


def use_platform_python(directory: Path) -> None:
    """Debian's own Python programs (dnf, firewalld) keep the interpreter that their libraries are built for."""
    for name in ("usr/bin", "usr/sbin", "usr/share", "usr/lib/systemd"):
        for path in (directory / name).rglob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as stream:
                first = stream.readline(200)
            match = DEBIAN_PYTHON.match(first)
            if match:
                path.write_bytes(b"#!" + PLATFORM_PYTHON.encode() + match["options"] + path.read_bytes()[len(first.rstrip(b"\n")) :])


def build_repository(root: Root, packages: list[Package], contents: dict[str, list[str]]) -> None:
    root.at(f"{WORK}/el9.spec").write_text(spec_text(packages, contents, f"{WORK}/tree"), encoding="utf-8")
    root.run("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {WORK}/build", "--define", f"_rpmdir {REPOSITORY}", f"{WORK}/el9.spec")
    root.run("createrepo_c", "--quiet", "--no-database", REPOSITORY)
    base = [f"{REPOSITORY}/x86_64/{package.name}-{package.version}-{RELEASE}.x86_64.rpm" for package in packages if package.base]
    root.run("sh", "-c", f"rpm --force-debian -i {' '.join(base)}")


def swap_python(root: Root) -> None:
    """Ansible's modules run under 3.9; the 3.11 of dnf and firewalld stands where nothing looks for a Python but Ansible's modules for them."""
    root.at(PLATFORM_PYTHON).parent.mkdir(exist_ok=True)
    root.at(OLD_PYTHON).rename(root.at(f"{PLATFORM_PYTHON}3.11"))
    root.at(PLATFORM_PYTHON).symlink_to("platform-python3.11")
    root.at(PLATFORM_PYTHON_OF_POSIX).parent.mkdir()
    root.at(PLATFORM_PYTHON_OF_POSIX).symlink_to(PLATFORM_PYTHON)
    for name, target in {"python3": "python3.9", "python": "python3"}.items():
        root.at(f"/usr/bin/{name}").unlink(missing_ok=True)
        root.at(f"/usr/bin/{name}").symlink_to(target)
    root.at(SITE).mkdir(parents=True, exist_ok=True)
    root.at("/usr/lib/python3.9/dist-packages").mkdir(exist_ok=True)
    root.at("/usr/lib/python3.9/dist-packages/el9.pth").write_text(f"{SITE}\n", encoding="ascii")
    # Debian's 3.9 would look there too, and find halves of modules: their compiled parts are for 3.11.
    customize = root.at("/usr/lib/python3.9/sitecustomize.py")
    customize.unlink(missing_ok=True)
    customize.write_text("import sys\n\nsys.path[:] = [path for path in sys.path if path != '/usr/lib/python3/dist-packages']\n", encoding="ascii")


def write_identity(root: Root, packages: list[Package]) -> None:
    """:param packages: those of EPEL stand in the one repository too, but the host's own file of it leaves them out"""
    texts = dict(IDENTITY)
    texts[STOCK] += f"excludepkgs={','.join(package.name for package in packages if package.epel)}\n"
    for name, text in texts.items():
        place = root.at(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_text(text, encoding="utf-8")
    root.at("/etc/os-release").unlink(missing_ok=True)
    root.at("/etc/os-release").symlink_to("../usr/lib/os-release")
    for path in root.at("/usr/lib/systemd/system-preset").glob("90-*"):
        path.unlink()


def hide_debian(root: Root) -> None:
    for pattern in HIDDEN:
        for path in root.path.glob(pattern.lstrip("/")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for directory in KEPT_DIRECTORIES:
        root.at(directory).mkdir(parents=True)
    shutil.rmtree(root.at(WORK))
    # What pointed at files that are now in packages.
    for name in ("/etc/systemd/system", "/usr/bin", "/usr/sbin", "/usr/lib/systemd/system"):
        for path in root.at(name).rglob("*"):
            if path.is_symlink() and not resolves(root, path):
                path.unlink()


def resolves(root: Root, link: Path) -> bool:
    """Whether a symbolic link inside the root leads to something there; one to /dev/null masks a unit and does."""
    for _attempt in range(10):
        target = str(link.readlink())
        if target == "/dev/null":
            return True
        link = root.at(target) if target.startswith("/") else link.parent / target
        if not link.is_symlink():
            return link.exists()
    return False


def assemble(root: Root, packages: list[Package], debian: dict[str, Any]) -> None:
    unpacked = unpack(root, debian["unpack"])
    contents = fill_tree(root, packages, unpacked)
    use_platform_python(root.tree)
    build_repository(root, packages, contents)
    use_platform_python(root.path)
    swap_python(root)
    write_identity(root, packages)
    hide_debian(root)


def read_yaml(name: str) -> Any:
    return yaml.safe_load((HERE / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    assemble(Root(Path(sys.argv[1])), parse_packages(read_yaml("packages.yml")), read_yaml("debian.yml"))

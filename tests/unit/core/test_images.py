# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.image_format import HEADER_BYTES, check_header, check_info, read_qcow2
from ansible_collections.hybridlab.platform.plugins.module_utils.core.images import (
    BaseVolume,
    Fetch,
    Image,
    Remove,
    Sweep,
    check_sources,
    declare_images,
    mask_url,
    plan_images,
    shell,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

SUM = "sha256:" + "0123456789abcdef" * 4
ENTRY: dict[str, Any] = {"name": "debian-12", "url": "https://images.example/d.qcow2", "path": None, "checksum": SUM, "format": "qcow2", "pool": "fast"}
LOCAL: dict[str, Any] = {**ENTRY, "url": None, "path": "/images/d.qcow2"}
IMAGE = Image("debian-12", "fast", "/pool", "qcow2", SUM, url="https://images.example/d.qcow2")
HERE = BaseVolume("debian-12", "fast", IMAGE.target, "qcow2", 10)
OLD = BaseVolume("debian-12", "fast", "/pool/image-debian-12-ba9876543210.qcow2", "qcow2", 10)
OTHER = BaseVolume("small", "fast", "/pool/image-small-ba9876543210.raw", "raw", 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "-x"}, r"config\[-x\]\.name: found '-x'"),
        ({"path": "/images/d"}, r"config\[debian-12\]: found both of url and path"),
        ({"url": None}, r"config\[debian-12\]: found neither of url and path"),
        ({"url": "ftp://images.example/d"}, r"\.url: found 'ftp://images\.example/d'"),
        ({"url": "https:///d"}, r"\.url: found"),
        ({"checksum": None}, r"\.checksum: found nothing, but the image comes from https://images\.example/d\.qcow2"),
        ({"checksum": "md5:" + "0" * 32}, r"\.checksum: found 'md5:"),
        ({"checksum": "sha512:" + "0" * 64}, r"\.checksum: found 'sha512:"),
        ({"url": None, "path": "images/d"}, r"\.path: found 'images/d'"),
        ({"pool": None}, r"\.pool: found None"),
        ({"format": "vmdk"}, r"\.format: found 'vmdk'"),
    ],
)
def test_bad_declarations(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        check_sources([{**ENTRY, **changes}])


def test_an_unknown_pool_names_those_that_there_are() -> None:
    with pytest.raises(ResourceError, match=r"config\[debian-12\]\.pool: found 'fast', but libvirt has no such pool of type dir \(it has: large\)"):
        declare_images([ENTRY], {"large": "/large"}, {})


def test_declarations_become_volumes() -> None:
    check_sources([{**ENTRY, "checksum": SUM.upper()}, {**LOCAL, "name": "x", "checksum": None}])
    first, second = declare_images(
        [{**ENTRY, "checksum": SUM.upper()}, {**LOCAL, "name": "x", "checksum": None}], {"fast": "/pool"}, {"x": "sha256:" + "f" * 64}
    )
    assert first == IMAGE
    assert first.target == "/pool/image-debian-12-0123456789ab.qcow2"
    assert second.target == "/pool/image-x-ffffffffffff.qcow2"


def test_merged_only_brings_what_is_missing() -> None:
    plan = plan_images("merged", [IMAGE], ["debian-12"], [OLD, OTHER], [Sweep("/pool/x.part", "fast")])
    assert plan.operations == (Sweep("/pool/x.part", "fast"), Fetch(IMAGE))
    assert plan.fetched == ["debian-12"]
    assert [entry["path"] for entry in plan.after] == [HERE.path, OLD.path, OTHER.path]
    again = plan_images("merged", [IMAGE], ["debian-12"], [HERE, OLD, OTHER])
    assert again.operations == ()
    assert again.before == again.after == plan.after


def test_overridden_removes_former_contents_and_others() -> None:
    plan = plan_images("overridden", [IMAGE], ["debian-12"], [HERE, OLD, OTHER])
    assert plan.operations == (Remove(OLD), Remove(OTHER))
    assert [entry["path"] for entry in plan.after] == [HERE.path]


def test_what_is_read_from_stays() -> None:
    used = BaseVolume("small", "fast", OTHER.path, "raw", 10, used_by=("web",))
    for state in ("overridden", "deleted"):
        plan = plan_images(state, [], [], [OLD, used])
        assert plan.operations == (Remove(OLD),)
        assert plan.kept == (used,)
        assert [entry["path"] for entry in plan.after] == [used.path]


def test_deleted_removes_the_named_ones() -> None:
    assert plan_images("deleted", [], ["debian-12"], [HERE, OLD, OTHER]).operations == (Remove(HERE), Remove(OLD))
    assert plan_images("deleted", [], [], [HERE, OTHER]).operations == (Remove(HERE), Remove(OTHER))


def test_a_damaged_volume_is_made_anew_unless_something_reads_from_it() -> None:
    damaged = BaseVolume("debian-12", "fast", IMAGE.target, "qcow2", 9, damage="it has 9 bytes")
    plan = plan_images("merged", [IMAGE], ["debian-12"], [damaged])
    assert plan.operations == (Fetch(IMAGE),)
    assert plan.before == plan.after
    used = BaseVolume("debian-12", "fast", IMAGE.target, "qcow2", 9, damage="it has 9 bytes", used_by=("web",))
    with pytest.raises(ResourceError, match=r"is damaged \(it has 9 bytes\), and web read from it\. Nothing was changed"):
        plan_images("merged", [IMAGE], ["debian-12"], [used])


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://images.example/d.qcow2", "https://images.example/d.qcow2"),
        ("https://me:s3cret@images.example:8443/d.qcow2", "https://***@images.example:8443/d.qcow2"),
        ("https://token@images.example/d", "https://***@images.example/d"),
        ("https://images.example/d?X-Signature=s3cret&b=c#s3cret", "https://images.example/d?***"),
    ],
)
def test_credentials_in_addresses_are_masked(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_the_shell_lines_make_the_same_file(tmp_path: Path) -> None:
    source = tmp_path / "my image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(source), "1M"], check=True)
    digits = subprocess.run(["sha256sum", str(source)], check=True, capture_output=True, text=True).stdout.split()[0]
    pool = tmp_path / "a pool"
    pool.mkdir()
    image = Image("x", "fast", str(pool), "qcow2", f"sha256:{digits}", path=str(source))
    *lines, refresh = shell(Fetch(image), "qemu:///system").rsplit(" && ", 1)
    subprocess.run(["bash", "-e", "-c", lines[0]], check=True, capture_output=True)
    assert refresh == "virsh -c qemu:///system pool-refresh fast"
    assert [path.name for path in pool.iterdir()] == [image.volume]
    assert Path(image.target).read_bytes() == source.read_bytes()
    volume = BaseVolume("x", "fast", image.target, "qcow2", 1)
    subprocess.run(["bash", "-c", shell(Remove(volume), "qemu:///system").split(" && ", maxsplit=1)[0]], check=True)
    assert list(pool.iterdir()) == []


def test_the_shell_line_of_a_download() -> None:
    line = shell(Fetch(Image("x", "fast", "/pool", "raw", SUM, url="https://me:s3cret@images.example/x")), "qemu:///system")
    assert shlex.split(line.split(" && ", maxsplit=1)[0])[-2:] == [f"/pool/image-x-{SUM[7:19]}.raw.part", "https://***@images.example/x"]
    assert "s3cret" not in line
    assert shell(Sweep("/pool/a b.part", "fast"), "qemu:///system") == "rm -f '/pool/a b.part'"


def qcow2(tmp_path: Path, *options: str) -> bytes:
    path = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "3M"], check=True)
    return path.read_bytes()[:HEADER_BYTES]


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_qcow2_of_both_versions(tmp_path: Path, compat: str) -> None:
    header = qcow2(tmp_path, "-o", f"compat={compat}")
    found = read_qcow2(header)
    assert found is not None
    assert (found.virtual_size, found.backing, found.data_file, found.encrypted, found.corrupt) == (3 * 2**20, None, False, False, False)
    check_header("config[x]", "qcow2", header)
    with pytest.raises(ResourceError, match=r"config\[x\]\.format: found 'raw', but the image is a qcow2 file"):
        check_header("config[x]", "raw", header)


def test_an_image_that_reads_from_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(b"\0" * 2**20)
    backed = qcow2(tmp_path, "-F", "raw", "-b", str(tmp_path / "base"))
    with pytest.raises(ResourceError, match=r"reads from the backing file '.*/base'"):
        check_header("config[x]", "qcow2", backed)
    data_file = qcow2(tmp_path, "-o", f"data_file={tmp_path / 'data'}")
    with pytest.raises(ResourceError, match="reads from an external data file"):
        check_header("config[x]", "qcow2", data_file)


def test_an_encrypted_or_corrupt_image_is_refused(tmp_path: Path) -> None:
    encrypted = bytearray(qcow2(tmp_path))
    # crypt_method of docs/interop/qcow2.txt: LUKS. qemu-img itself refuses to make one on a machine too busy to measure a key's strength.
    encrypted[32:36] = (2).to_bytes(4, "big")
    with pytest.raises(ResourceError, match="is encrypted"):
        check_header("config[x]", "qcow2", bytes(encrypted))
    corrupt = bytearray(qcow2(tmp_path))
    corrupt[79] |= 2
    with pytest.raises(ResourceError, match="is marked as corrupt"):
        check_header("config[x]", "qcow2", bytes(corrupt))


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"QFI\xfb", b"\x1f\x8b" * 600])
@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_what_is_no_image(content: bytes, image_format: str) -> None:
    with pytest.raises(ResourceError, match="begins with"):
        check_header("config[x]", image_format, content)


@pytest.mark.parametrize(
    "program",
    [
        "printf 'label: dos\\n,1M,83\\n' | sfdisk -q",
        "printf 'label: gpt\\n,1M\\n' | sfdisk -q",
        "mkfs.ext4 -q -F",
    ],
)
def test_raw_images_that_real_programs_made(tmp_path: Path, program: str) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as stream:
        stream.truncate(8 * 2**20)
    subprocess.run(["bash", "-c", f"{program} {shlex.quote(str(path))}"], check=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, capture_output=True)
    check_header("config[x]", "raw", path.read_bytes()[:HEADER_BYTES])


def test_what_qemu_img_says_must_fit() -> None:
    check_info("config[x]", "raw", '{"format": "raw", "virtual-size": 512}')
    for text in ('{"format": "qcow2", "virtual-size": 512}', '{"format": "raw", "virtual-size": 0}'):
        with pytest.raises(ResourceError, match="declared is 'raw'"):
            check_info("config[x]", "raw", text)

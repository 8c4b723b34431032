# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import errno
import hashlib
import json
import multiprocessing.process
import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.hybridlab.platform.plugins.module_utils.core.images import Image
from ansible_collections.hybridlab.platform.plugins.module_utils.core.pools import Pool, write_pool_xml
from ansible_collections.hybridlab.platform.plugins.module_utils.host import images as host_images
from ansible_collections.hybridlab.platform.plugins.module_utils.host import libvirt as host_libvirt
from ansible_collections.hybridlab.platform.plugins.modules import libvirt_images
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import URI, define_guest
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module

Call = Callable[..., dict[str, Any]]


class Server:
    """A server on a free port of the loopback. Each address is answered by the function of that name."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[str] = []
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/").partition("?")[0]
                outer.asked.append(name)
                getattr(outer, name)(self)

            def log_message(self, *_args: Any) -> None:
                """Nothing on the screen."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def stop(self) -> None:
        self.release.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def url(self, name: str, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.http.server_address[1]}/{name}"

    def whole(self, request: BaseHTTPRequestHandler) -> None:
        self._head(request, length=len(self.content))
        request.wfile.write(self.content)

    def unsized(self, request: BaseHTTPRequestHandler) -> None:
        self._head(request)
        request.wfile.write(self.content)

    def short(self, request: BaseHTTPRequestHandler) -> None:
        self._head(request, length=len(self.content))
        request.wfile.write(self.content[:1000])

    def stalls(self, request: BaseHTTPRequestHandler) -> None:
        self.short(request)
        request.wfile.flush()
        self.release.wait(30)

    def huge(self, request: BaseHTTPRequestHandler) -> None:
        self._head(request, length=2**60)

    def missing(self, request: BaseHTTPRequestHandler) -> None:
        request.send_error(404)

    def moved(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", self.url("whole"))
        request.end_headers()

    def private(self, request: BaseHTTPRequestHandler) -> None:
        if request.headers.get("Authorization") == "Basic " + base64.b64encode(b"me:s3cret").decode():
            return self.whole(request)
        request.send_response(401)
        request.send_header("WWW-Authenticate", 'Basic realm="images"')
        return request.end_headers()

    def _head(self, request: BaseHTTPRequestHandler, length: int | None = None) -> None:
        request.send_response(200)
        if length is not None:
            request.send_header("Content-Length", str(length))
        request.end_headers()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A qcow2 image."""
    path = tmp_path_factory.mktemp("images") / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "3M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 7 0 2M", str(path)], check=True, capture_output=True)
    return path.read_bytes()


@pytest.fixture
def server(content: bytes) -> Iterator[Server]:
    started = Server(content)
    yield started
    started.stop()


@pytest.fixture
def pool(conn: Any, tmp_path: Path) -> Path:
    """The directory of an active pool of ours named fast."""
    directory = tmp_path / "fast"
    directory.mkdir()
    made = conn.storagePoolDefineXML(write_pool_xml(Pool("fast", str(directory), "0711", True, True)))
    made.create()
    return directory


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    def run(config: Any = (), check: bool = False, **params: Any) -> dict[str, Any]:
        args = {"config": list(config), "uri": URI, "_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(tmp_path), **params}
        return call_module(libvirt_images, args, capsys)

    return run


@pytest.fixture
def same_in_check_mode(call: Call) -> Call:
    def run(config: Any = (), **params: Any) -> dict[str, Any]:
        """The result of a real run, which a check before it has foretold, and after which nothing is left to do."""
        foretold = call(config, check=True, **params)
        done = call(config, **params)
        assert not done.get("failed"), done
        assert done == foretold
        again = call(config, **params)
        assert (again["changed"], again["commands"]) == (False, [])
        assert again["before"] == again["after"] == done["after"]
        return done

    return run


def checksum(content: bytes, kind: str = "sha256") -> str:
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"


def entry(server: Server, answer: str = "whole", **changes: Any) -> dict[str, Any]:
    return {"name": "debian-12", "url": server.url(answer), "checksum": checksum(server.content), "pool": "fast", **changes}


def local(path: Path, content: bytes, **changes: Any) -> dict[str, Any]:
    path.write_bytes(content)
    return {"name": "small", "path": str(path), "pool": "fast", **changes}


def overlay(base: str, path: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, str(path)], check=True)


def test_fetched_once(server: Server, pool: Path, same_in_check_mode: Call) -> None:
    done = same_in_check_mode([entry(server)])
    assert done["fetched"] == ["debian-12"]
    (row,) = done["after"]
    path = Path(row["path"])
    assert row == {
        "name": "debian-12",
        "pool": "fast",
        "format": "qcow2",
        "volume": f"image-debian-12-{checksum(server.content)[7:19]}.qcow2",
        "path": str(pool / row["volume"]),
    }
    assert path.read_bytes() == server.content
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert list(pool.iterdir()) == [path]
    # Neither check mode nor the second run asked the server.
    assert server.asked == ["whole"]


@pytest.mark.parametrize("name", ["unsized", "moved"])
def test_other_ways_of_a_server(server: Server, pool: Path, call: Call, name: str) -> None:
    done = call([entry(server, name, checksum=checksum(server.content, "sha512"))])
    assert Path(done["after"][0]["path"]).read_bytes() == server.content


def test_a_file_of_the_host(server: Server, pool: Path, tmp_path: Path, same_in_check_mode: Call, call: Call) -> None:
    raw = bytearray(server.content[:2048])
    raw[0:4] = b"\0" * 4
    raw[510:512] = b"\x55\xaa"
    small = local(tmp_path / "small.raw", bytes(raw), format="raw")
    done = same_in_check_mode([small])
    assert Path(done["after"][0]["path"]).read_bytes() == raw
    # With the checksum the file isn't needed any more.
    (tmp_path / "small.raw").unlink()
    assert call([{**small, "checksum": checksum(bytes(raw))}])["changed"] is False
    assert "small.raw': No such file or directory" in call([small])["msg"]
    (found,) = call(state="gathered")["gathered"]
    assert (found["size"], found["virtual_size"], found["checksum"], found["damage"], found["used_by"]) == (2048, 2048, checksum(bytes(raw)), None, [])


def test_check_mode_before_the_file_is_there(pool: Path, call: Call) -> None:
    config = [{"name": "small", "path": "/nowhere/small.qcow2", "checksum": checksum(b"x"), "pool": "fast"}]
    assert call(config, check=True)["fetched"] == ["small"]
    failed = call(config)
    assert "config[small].path: found '/nowhere/small.qcow2': there is no such file" in failed["msg"]
    assert list(pool.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("whole", {"checksum": "sha256:" + "0" * 64}, "config[debian-12].checksum: found sha256:" + "0" * 64 + ", but {url} has {checksum}."),
        ("short", {}, "{url} ended after 1000 bytes of"),
        ("missing", {}, "config[debian-12].url: found '{url}': the server answered 404 Not Found."),
        ("stalls", {"timeout": 1}, "timed out"),
        ("huge", {}, "config[debian-12].pool: found 'fast', but the image is 1073741824.0 GiB long, and"),
        ("whole", {"format": "raw"}, "config[debian-12].format: found 'raw', but the image is a qcow2 file."),
    ],
)
def test_what_goes_wrong_leaves_nothing(server: Server, pool: Path, call: Call, name: str, changes: dict[str, Any], message: str) -> None:
    params = {"timeout": changes["timeout"]} if "timeout" in changes else {}
    failed = call([entry(server, name, **{key: value for key, value in changes.items() if key != "timeout"})], **params)
    assert failed["failed"] is True
    assert message.format(url=server.url(name), checksum=checksum(server.content)) in failed["msg"]
    assert list(pool.iterdir()) == []


def test_nobody_answers(server: Server, pool: Path, call: Call) -> None:
    config = [entry(server)]
    server.stop()
    failed = call(config)
    assert "Connection refused" in failed["msg"]
    assert "build an image (docs/guest-images.md) and name it with the key file in platform_images" in failed["msg"]
    assert list(pool.iterdir()) == []


def test_half_an_image_is_refused(server: Server, pool: Path, tmp_path: Path, call: Call) -> None:
    failed = call([local(tmp_path / "half.qcow2", server.content[: len(server.content) // 2])])
    assert "config[small]: qemu-img check finds the image damaged (ERROR" in failed["msg"]
    assert list(pool.iterdir()) == []


def test_a_fetched_image_must_stand_alone(pool: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 2**20)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(tmp_path / "secret"), str(tmp_path / "trap.qcow2")], check=True)
    failed = call([{"name": "trap", "path": str(tmp_path / "trap.qcow2"), "pool": "fast"}])
    assert "reads from the backing file" in failed["msg"]
    assert list(pool.iterdir()) == []


def test_no_room(server: Server, pool: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_images, "_HEADROOM", 2**60)
    for name, size in (("whole", f"is {len(server.content) / 2**20:.1f} MiB long"), ("unsized", "does not fit")):
        failed = call([entry(server, name)])
        assert f"config[debian-12].pool: found 'fast', but the image {size}, and {pool} has" in failed["msg"]
        assert list(pool.iterdir()) == []


def test_the_disk_runs_full(server: Server, pool: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    failed = call([entry(server)])
    assert "Make room, or choose another pool" in failed["msg"]
    assert list(pool.iterdir()) == []


def test_credentials_are_in_no_output(server: Server, pool: Path, call: Call, same_in_check_mode: Call) -> None:
    secret = server.url("private?token=t0ken", user="me:s3cret@")
    done = same_in_check_mode([entry(server, url=secret)])
    assert f"http://***@127.0.0.1:{server.http.server_address[1]}/private?***" in done["commands"][0]
    server.stop()
    failed = call([entry(server, url=secret, name="other")])
    assert "Connection refused" in failed["msg"]
    for text in (json.dumps(done), json.dumps(failed)):
        assert "s3cret" not in text
        assert "t0ken" not in text


def test_credentials_are_not_among_the_arguments_in_the_result(server: Server, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = {"config": [entry(server, url=server.url("whole?token=t0ken", user="me:s3cret@"))], "uri": URI, "_ansible_remote_tmp": str(tmp_path)}
    with patch_module_args(args), pytest.raises(SystemExit):
        libvirt_images.main()
    text = capsys.readouterr().out
    assert json.loads(text)["invocation"]["module_args"]["config"][0]["name"] == "debian-12"
    assert "s3cret" not in text
    assert "t0ken" not in text


def start_fetch(server: Server, pool: Path) -> tuple[multiprocessing.process.BaseProcess, Path]:
    """Another process that fetches from a server which stops in the middle, and the file that it writes to."""
    image = Image("debian-12", "fast", str(pool), "qcow2", checksum(server.content), url=server.url("stalls"))
    process = multiprocessing.get_context("fork").Process(target=host_images.fetch_image, args=(image, 60))
    process.start()
    deadline = time.monotonic() + 30
    while "stalls" not in server.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    return process, Path(image.target + ".part")


def test_two_runs_at_once_and_a_killed_one(server: Server, pool: Path, call: Call, same_in_check_mode: Call) -> None:
    process, part = start_fetch(server, pool)
    try:
        failed = call([entry(server)])
        assert f"{part}: another run is making that base volume" in failed["msg"]
        assert part.exists()
    finally:
        process.kill()
        process.join()
    assert part.exists()
    done = same_in_check_mode([entry(server)])
    assert done["commands"][0] == f"rm -f {part}"
    assert [path.suffix for path in pool.iterdir()] == [".qcow2"]


def test_a_leftover_of_an_image_that_is_not_declared_any_more(pool: Path, same_in_check_mode: Call) -> None:
    part = pool / "image-old-0123456789ab.qcow2.part"
    part.write_bytes(b"half")
    (pool / "notes.part").write_bytes(b"of somebody else")
    assert same_in_check_mode()["commands"] == [f"rm -f {part}"]
    assert [path.name for path in pool.iterdir()] == ["notes.part"]


def test_overridden_and_deleted_spare_what_is_read_from(server: Server, conn: Any, pool: Path, tmp_path: Path, call: Call, same_in_check_mode: Call) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "other.qcow2"), "1M"], check=True)
    config = [entry(server), {"name": "other", "path": str(tmp_path / "other.qcow2"), "pool": "fast"}]
    base, unused = (row["path"] for row in call(config)["after"])
    overlay(base, pool / "web-root.qcow2")
    overlay(str(pool / "web-root.qcow2"), pool / "web-root@before.qcow2")
    define_guest(conn, "web", disk=f"<disk type='file' device='disk'><source file='{pool}/web-root@before.qcow2'/><target dev='vda'/></disk>")
    done = same_in_check_mode(state="overridden")
    assert not Path(unused).exists()
    assert Path(base).read_bytes() == server.content
    assert done["kept"] == [{"name": "debian-12", "path": base, "used_by": [str(pool / "web-root.qcow2")]}]
    assert "stays because" in done["warnings"][0]
    assert same_in_check_mode([{"name": "debian-12"}], state="deleted")["after"] == done["after"]
    for name in ("web-root.qcow2", "web-root@before.qcow2"):
        (pool / name).unlink()
    assert same_in_check_mode(state="deleted")["after"] == []
    assert list(pool.iterdir()) == []


def test_a_guest_that_reads_from_the_base_is_named(server: Server, conn: Any, pool: Path, tmp_path: Path, call: Call) -> None:
    base = call([entry(server)])["after"][0]["path"]
    # A disk outside of all pools counts too.
    overlay(base, tmp_path / "web.qcow2")
    define_guest(conn, "web", disk=f"<disk type='file' device='disk'><source file='{tmp_path}/web.qcow2'/><target dev='vda'/></disk>")
    define_guest(conn, "cd", disk=f"<disk type='file' device='disk'><source file='{base}'/><target dev='vda'/><readonly/></disk>")
    (found,) = call([{"name": "debian-12"}], state="gathered")["gathered"]
    assert found["used_by"] == ["cd", "web"]
    assert call([{"name": "none"}], state="gathered")["gathered"] == []


def test_another_content_is_another_volume(server: Server, pool: Path, call: Call, same_in_check_mode: Call, tmp_path: Path) -> None:
    old = call([entry(server)])["after"][0]["path"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "new.qcow2"), "1M"], check=True)
    renewed = {"name": "debian-12", "path": str(tmp_path / "new.qcow2"), "pool": "fast"}
    assert len(same_in_check_mode([renewed])["after"]) == 2
    (row,) = same_in_check_mode([renewed], state="overridden")["after"]
    assert row["path"] != old
    assert not Path(old).exists()


def test_a_damaged_volume_is_made_anew(server: Server, pool: Path, call: Call, same_in_check_mode: Call) -> None:
    path = Path(call([entry(server)])["after"][0]["path"])
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.truncate(len(server.content) - 1)
    assert same_in_check_mode([entry(server)])["fetched"] == ["debian-12"]
    assert path.read_bytes() == server.content
    with path.open("r+b") as stream:
        stream.seek(len(server.content) - 1)
        stream.write(b"\xff")
    # The size is right, so only a look at the content can tell.
    assert call([entry(server)])["changed"] is False
    assert same_in_check_mode([entry(server)], verify=True)["fetched"] == ["debian-12"]
    assert path.read_bytes() == server.content


def test_a_damaged_volume_in_use_stops_the_run(server: Server, pool: Path, call: Call) -> None:
    path = Path(call([entry(server)])["after"][0]["path"])
    overlay(str(path), pool / "web-root.qcow2")
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.truncate(len(server.content) - 1)
    failed = call([entry(server)])
    assert f"had {len(server.content)} when it was made), and {pool / 'web-root.qcow2'} read from it" in failed["msg"]
    assert path.stat().st_size == len(server.content) - 1


def test_a_failure_in_the_middle_names_what_was_done(server: Server, pool: Path, call: Call) -> None:
    config = [entry(server), entry(server, "missing", name="second"), entry(server, name="third")]
    failed = call(config)
    assert failed["msg"].endswith("Done before it: debian-12. Not begun: third.")
    assert len(list(pool.iterdir())) == 1
    config[1]["url"] = server.url("whole")
    assert call(config)["fetched"] == ["second", "third"]


def test_pools_that_cannot_be_used(server: Server, conn: Any, pool: Path, call: Call) -> None:
    assert "libvirt has no such pool of type dir (it has: fast)" in call([entry(server, pool="large")])["msg"]
    conn.storagePoolLookupByName("fast").destroy()
    assert "pool fast: it is not active" in call([entry(server)])["msg"]
    assert server.asked == []


def test_pools_of_others_are_looked_into_when_they_are_named(conn: Any, tmp_path: Path, call: Call) -> None:
    directory = tmp_path / "theirs"
    directory.mkdir()
    volume = directory / "image-old-0123456789ab.raw"
    volume.write_bytes(b"old")
    conn.storagePoolCreateXML(f"<pool type='dir'><name>theirs</name><target><path>{directory}</path></target></pool>")
    assert call(state="deleted")["changed"] is False
    assert call(state="deleted", pools=[{"name": "theirs", "path": str(directory)}])["changed"] is True
    assert not volume.exists()


def test_qemu_img_is_missing(server: Server, pool: Path, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install qemu-utils (Debian) or qemu-img (Red Hat)" in call([entry(server)])["msg"]
    assert server.asked == []


def test_a_host_without_libvirt_or_pool(server: Server, pool: Path, call: Call, monkeypatch: pytest.MonkeyPatch, conn: Any) -> None:
    pools = [{"name": "fast", "path": str(pool)}]
    usual = call([entry(server)], check=True, pools=pools)
    made = conn.storagePoolLookupByName("fast")
    made.destroy()
    made.undefine()
    without_pool = call([entry(server)], check=True, pools=pools)
    monkeypatch.setattr(host_libvirt, "libvirt", None)
    without_libvirt = call([entry(server)], check=True, pools=pools)
    for key in ("before", "after", "commands", "diff", "fetched"):
        assert without_pool[key] == without_libvirt[key] == usual[key]
    assert "python3-libvirt" in call([entry(server)], pools=pools)["msg"]
    assert call(state="deleted")["changed"] is False


def test_rendered_touches_nothing(server: Server, tmp_path: Path, call: Call) -> None:
    pools = [{"name": "fast", "path": str(tmp_path / "none")}]
    answer = call([entry(server)], state="rendered", uri="none:///", pools=pools)
    assert [row["volume"] for row in answer["rendered"]] == [f"image-debian-12-{checksum(server.content)[7:19]}.qcow2"]
    assert answer["commands"][0].startswith("curl --fail --location --output")
    failed = call([{"name": "x", "path": "/x", "pool": "fast"}], state="rendered", uri="none:///", pools=pools)
    assert "config[x].checksum: found nothing" in failed["msg"]

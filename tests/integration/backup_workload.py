# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the test of the backup saves: a Swarm service that writes files and rows without pause, and a container with files of every kind."""

from __future__ import annotations

import json
import shlex
from typing import Any

# Python and SQLite out of the host's own files, as an image that no registry has.
IMAGE = r"""
root=/root/app; mkdir -p $root/usr/bin $root/usr/lib $root/tmp
cp -a /usr/bin/python3.11 $root/usr/bin/python3
cp -aL /bin/sh /bin/sleep $root/usr/bin/
cp -a /usr/lib/python3.11 $root/usr/lib/
ln -s usr/lib $root/lib; ln -s usr/lib64 $root/lib64; ln -s usr/bin $root/bin
for file in /usr/bin/python3.11 /bin/sh /bin/sleep /usr/lib/python3.11/lib-dynload/*.so; do ldd $file; done |
    grep -o '/[^ ]*' | sort -u | while read -r file; do mkdir -p $root/usr/${file%/*}; cp -L $file $root$file; done
cp /root/app.py $root/app.py
tar -C $root -c . | docker import - hybridlab/app:1 >/dev/null
"""

# Each number gets a file first and its row after that: a dump that was made before the files were copied names files that are all there.
APP = r"""
import hashlib, pathlib, sqlite3, sys, time
FILES, GO = pathlib.Path("/files"), pathlib.Path("/files/go")

def base():
    found = sqlite3.connect("/db/app.db", timeout=60)
    found.execute("PRAGMA journal_mode=WAL")
    return found

def write():
    rows = base()
    rows.execute("CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY, sum TEXT)")
    while True:
        if not GO.exists():
            time.sleep(0.1)
            continue
        number = rows.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM notes").fetchone()[0]
        content = hashlib.sha512(str(number).encode()).digest() * 64
        FILES.joinpath(str(number)).write_bytes(content)
        with rows:
            rows.execute("INSERT INTO notes VALUES (?, ?)", (number, hashlib.sha256(content).hexdigest()))
        time.sleep(0.005)

def dump():
    rows = base()
    rows.execute("BEGIN")
    for line in rows.iterdump():
        print(line)

def restore():
    rows = base()
    # In one transaction: the service writes while its rows are replaced.
    rows.executescript(sys.stdin.read().replace("BEGIN TRANSACTION;", "BEGIN IMMEDIATE; DROP TABLE IF EXISTS notes;", 1))

def judge():
    rows = base().execute("SELECT number, sum FROM notes").fetchall()
    bad = [number for number, found in rows if hashlib.sha256(FILES.joinpath(str(number)).read_bytes()).hexdigest() != found]
    print(len(rows), len(bad))

globals()[sys.argv[1]]()
"""

SERVICE = r"""
docker swarm init --default-addr-pool 172.20.0.0/16 --advertise-addr 127.0.0.1 >/dev/null
docker service create --detach --name demo_app --no-resolve-image --mount type=volume,source=demo_files,target=/files \
    --mount type=volume,source=demo_db,target=/db --health-cmd 'python3 -c 1' --health-interval 1s --health-retries 60 --stop-grace-period 1s \
    hybridlab/app:1 python3 /app.py write >/dev/null
"""

# What a file can carry, as a container leaves it behind.
PLAIN = r"""
docker volume create --label keep=me plain >/dev/null
docker run --detach --name plain --init --volume plain:/data hybridlab/app:1 python3 -c '
import os, time
os.chdir("/data")
if not os.path.exists("ready"):
    open("owned", "w").write("mine"); os.chown("owned", 1234, 4321); os.chmod("owned", 0o4640)
    os.link("owned", "second"); os.symlink("nowhere", "soft"); os.mkfifo("pipe"); open("new\nline", "w").close()
    f = open("sparse", "wb"); f.seek(64 << 20); f.write(b"end"); f.close()
    os.setxattr("owned", "user.note", b"kept")
    open("ready", "w").close()
time.sleep(1e6)
' >/dev/null
while ! test -e "$(docker volume inspect --format '{{.Mountpoint}}' plain)/ready"; do sleep 0.1; done
"""


def _in_app(verb: str) -> list[str]:
    return ["python3", "/app.py", verb]


BACKUP: dict[str, Any] = {
    "mount": "/mnt/backup",
    "target": "/mnt/backup/docker",
    "keep": 3,
    "reserve_gb": 0,
    "reserve_percent": 1,
    "paths": ["/srv/compose"],
    "services": [
        {
            "name": "app",
            "workload": "app",
            "quiesce": "pause",
            "dump": {"command": _in_app("dump"), "volumes": ["demo_db"]},
            "restore": {"command": _in_app("restore"), "ready": ["python3", "-c", "1"]},
        },
        {"name": "plain", "container": "plain", "volumes": ["plain"], "quiesce": "stop", "stop_seconds": 20},
    ],
}

MODEL = {
    "platform_backup": BACKUP,
    "platform_container_images": [{"name": "app", "reference": f"app@sha256:{'0' * 64}"}],
    "platform_workloads": [
        {
            "name": "app",
            "stack": "demo",
            "image": "app",
            "volumes": [{"name": "files", "target": "/files"}, {"name": "db", "target": "/db"}],
        }
    ],
}
ARGUMENTS = ("-e", json.dumps(MODEL))


def write_app() -> str:
    return f"printf %s {shlex.quote(APP)} >/root/app.py"

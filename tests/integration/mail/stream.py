# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A steady stream of mails, each with a subject of its own, to a mail server at 127.0.0.1. The subjects of those that it took are written, a line each.

python3 stream.py COUNT PER_SECOND RECIPIENT FILE
"""

from __future__ import annotations

import smtplib
import sys
import time
from pathlib import Path

SENDER = "stream@sender.example"
BODY = "".join(f"This is line {number} of a letter that tells how the week was, and what is planned for the next one.\r\n" for number in range(18))


def main(count: int, per_second: float, recipient: str, path: str) -> None:
    begin = time.monotonic()
    with Path(path).open("w", encoding="ascii") as taken, smtplib.SMTP("127.0.0.1", 25, timeout=60) as session:
        for number in range(count):
            time.sleep(max(0.0, begin + number / per_second - time.monotonic()))
            subject = f"stream-{number:05d}"
            head = f"From: {SENDER}\r\nTo: {recipient}\r\nSubject: {subject}\r\nDate: {time.strftime('%a, %d %b %Y %H:%M:%S +0000', time.gmtime())}\r\n"
            session.sendmail(SENDER, [recipient], f"{head}Message-ID: <{subject}@sender.example>\r\n\r\n{BODY}")
            taken.write(subject + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4])

# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether KVM really runs a processor here. A /dev/kvm that can be opened proves nothing in a host that is a guest itself."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import struct
import time

# linux/kvm.h: _IO, _IOW and _IOR of type 0xAE.
_CREATE_VM, _VCPU_MMAP_SIZE, _CREATE_VCPU, _RUN = 0xAE01, 0xAE04, 0xAE41, 0xAE80
_SET_USER_MEMORY_REGION, _SET_REGS, _GET_SREGS, _SET_SREGS = 0x4020AE46, 0x4090AE82, 0x8138AE83, 0x4138AE84
_EXIT_HLT = 5
_SREGS_SIZE, _REGS_COUNT = 312, 18
_LIMIT_S = 5.0

# A page: code at 0, a descriptor table at 0x100 (null, flat 32-bit code, flat data), the stack below 0x800.
_GDT_AT, _STACK_AT = 0x100, 0x800
_CODE_SELECTOR, _DATA_SELECTOR = 8, 16
_GDT = struct.pack("<QQQ", 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
# pushf; push cs; push 9; iret; nop; hlt. The return from an interrupt is what a KVM inside a virtual machine that only half passes it on fails at.
_CODE = b"\x9c\x0e\x68\x09\x00\x00\x00\xcf\x90\xf4"


def kvm_works(device: str = "/dev/kvm") -> bool:
    """Runs a few instructions, as every firmware has them, in a virtual machine, in a process of its own that may hang or die."""
    if not os.access(device, os.R_OK | os.W_OK):
        return False
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if _halts(device) else 1
        except OSError:
            pass
        finally:
            os._exit(code)
    end = time.monotonic() + _LIMIT_S
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _halts(device: str) -> bool:
    kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory[: len(_CODE)] = _CODE
    memory[_GDT_AT : _GDT_AT + len(_GDT)] = _GDT
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, struct.pack("=IIQQQ", 0, 0, 0, mmap.PAGESIZE, start))
    processor = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    shared = mmap.mmap(processor, fcntl.ioctl(kvm, _VCPU_MMAP_SIZE, 0))
    special = bytearray(_SREGS_SIZE)
    fcntl.ioctl(processor, _GET_SREGS, special)
    for place, selector, kind in ((0, _CODE_SELECTOR, 0xB), *((offset, _DATA_SELECTOR, 0x3) for offset in (24, 48, 72, 96, 120))):
        special[place : place + 24] = _flat(selector, kind)
    # struct kvm_sregs: cs, ds, es, fs, gs, ss, tr and ldt of 24 bytes each, then gdt (base, limit), idt, and cr0.
    special[192:202] = struct.pack("=QH", _GDT_AT, len(_GDT) - 1)
    special[224:232] = struct.pack("=Q", struct.unpack_from("=Q", special, 224)[0] | 1)  # protection enabled
    fcntl.ioctl(processor, _SET_SREGS, bytes(special))
    registers = [0] * _REGS_COUNT
    registers[6], registers[-1] = _STACK_AT, 2  # rsp, and rflags with its one bit that is always set
    fcntl.ioctl(processor, _SET_REGS, struct.pack(f"={_REGS_COUNT}Q", *registers))
    fcntl.ioctl(processor, _RUN, 0)
    # struct kvm_run: exit_reason follows 8 bytes of flags.
    return bool(struct.unpack_from("=I", shared, 8)[0] == _EXIT_HLT)


def _flat(selector: int, kind: int) -> bytes:
    """struct kvm_segment of all 4 GiB: base, limit, selector, type, present, dpl, db, s, l, g, avl, unusable, padding."""
    return struct.pack("=QIH10B", 0, 0xFFFFFFFF, selector, kind, 1, 0, 1, 1, 0, 1, 0, 0, 0)

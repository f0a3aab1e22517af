"""Keep oneDNN from AMX tiles that a virtual machine announces and does not describe.

oneDNN believes the announcement, sets the tiles up with the sizes it reads (none), and meets an illegal instruction at the first
product in bfloat16: the process dies without a word. Where tiles work they double the speed of training on a processor.
"""

import ctypes
import mmap
import os
import platform
import sys

BELOW_TILES = "AVX512_CORE_FP16"  # no less than what processors without tiles have
PALETTES = 0x1D  # CPUID leaf: eax is the number of palettes, and of subleaf 1 the sizes of the first; of leaf 0, the last leaf
ASK = bytes.fromhex("53 89f8 89f1 0fa2 5b c3")  # push rbx; eax, ecx = arguments; cpuid; pop rbx; return eax


def guard(environment=os.environ):
    """Choose before oneDNN's first operation, which reads the variable; what a reader set stays."""
    if not described():
        environment.setdefault("ONEDNN_MAX_CPU_ISA", BELOW_TILES)


def described(cpuid=None):
    """Whether the processor tells the sizes of its tiles; False where that cannot be asked."""
    try:
        ask = cpuid or cpuid_eax()
    except (OSError, ValueError):  # another processor, or a system that lets no program write code
        return False
    return ask(0, 0) >= PALETTES and ask(PALETTES, 0) > 0 and ask(PALETTES, 1) > 0


def cpuid_eax():
    """(leaf, subleaf) -> eax, as the processor answers; on x86-64 under Linux."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ValueError("expected x86-64 under Linux, found another machine; its processor is not asked.")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(ASK)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    ask = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32)(address)
    return lambda leaf, subleaf, page=page: ask(leaf, subleaf)

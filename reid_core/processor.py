"""What must be settled before torch and matplotlib are loaded: how threads wait for each other, what oneDNN
may use of the processor, and a backend that does not exist.

OpenMP's threads spin while they wait for each other. Alone on a machine that saves a little; beside another
busy program each thread burns the time slice that the one it waits for needs, and training may fall to a
fiftieth of its pace. What a bounded spin costs alone differs between machines: `python -m reid_core bench
contention` shows both. The library reads the variable when it is loaded: import this project before torch.

A virtual machine may announce AMX tiles and not describe them. oneDNN believes the announcement, sets the
tiles up with the sizes it reads (none), and meets an illegal instruction at the first product in bfloat16:
the process dies without a word. Where tiles work they double the speed of training on a processor.
"""

import ctypes
import importlib.util
import mmap
import os
import platform
import sys
import warnings
from pathlib import Path

SPINS = "1000"  # turns before a waiting thread sleeps; the library's own default is hundreds of thousands
OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # a user who set one of these has chosen
SINGLE = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}


def bound_spinning(environment=os.environ):
    """Bound the spinning unless the user chose otherwise."""
    if not any(name in environment for name in OWN):
        environment["GOMP_SPINCOUNT"] = SPINS


def single(environment=os.environ):
    """The environment of a process that computes with one thread beside others."""
    return {**environment, **SINGLE}


def use_threads(number):
    """Compute with `number` threads from now on; None leaves all cores."""
    if number is None:
        return
    most = os.cpu_count()
    if not 1 <= number <= most:
        raise ValueError(
            f"expected from 1 to {most} threads, one per core, found {number}; correct --threads."
        )
    import torch  # not before the variable above is set

    torch.set_num_threads(number)


BELOW_TILES = "AVX512_CORE_FP16"  # no less than what processors without tiles have
# CPUID leaf: eax is the number of palettes, and of subleaf 1 the sizes of the first; of leaf 0, the last leaf
PALETTES = 0x1D
ASK = bytes.fromhex("53 89f8 89f1 0fa2 5b c3")  # push rbx; eax, ecx = arguments; cpuid; pop rbx; return eax


def guard_tiles(environment=os.environ):
    """Choose before oneDNN's first operation, which reads the variable; what a reader set stays."""
    if not tiles_described():
        environment.setdefault("ONEDNN_MAX_CPU_ISA", BELOW_TILES)


def tiles_described(cpuid=None):
    """Whether the processor tells the sizes of its tiles; False where that cannot be asked."""
    try:
        ask = cpuid or cpuid_eax()
    except (OSError, ValueError):  # another processor, or a system that lets no program write code
        return False
    return ask(0, 0) >= PALETTES and ask(PALETTES, 0) > 0 and ask(PALETTES, 1) > 0


PLUGINS = ("module://", "inline", "notebook", "widget", "ipympl")  # backends that other packages bring


def guard_backend(environment=os.environ):
    """Ignore a backend of matplotlib's that does not exist, with a word: matplotlib would end every command
    with a traceback when it is imported, and no page needs another than its own."""
    named = environment.get("MPLBACKEND", "")
    found = importlib.util.find_spec("matplotlib")  # where it lies: it is not imported
    if not named or found is None or named.lower().startswith(PLUGINS):
        return
    if not (Path(found.origin).parent / "backends" / f"backend_{named.lower()}.py").exists():
        del environment["MPLBACKEND"]
        warnings.warn(
            f"expected a backend of matplotlib in MPLBACKEND, found {named!r}; it is ignored: unset it.",
            stacklevel=3,
        )


def cpuid_eax():
    """(leaf, subleaf) -> eax, as the processor answers; on x86-64 under Linux."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ValueError("expected x86-64 under Linux, found another machine; its processor is not asked.")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(ASK)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    ask = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32)(address)
    return lambda leaf, subleaf, page=page: ask(leaf, subleaf)

"""How many threads compute, and how they wait.

OpenMP's threads spin while they wait for each other. Alone on a machine that saves a little; beside another busy program each
thread burns the time slice that the one it waits for needs, and training may fall to a fiftieth of its pace. What a bounded spin
costs alone differs between machines: `python -m reid_core bench contention` shows both. The library reads the variable when it is loaded: import this project before torch.
"""

import os

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


def use(number):
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

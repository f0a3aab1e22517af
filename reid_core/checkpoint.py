"""Training state on disk: written whole or not at all, verified when read, the last two kept."""

import fcntl
import glob
import hashlib
import io
import itertools
import os
import threading
from contextlib import contextmanager
from pathlib import Path

import torch

KEPT = 2


def save(folder, number, state):
    """Write `state` (dicts of tensors, numbers and strings) as state-<number>-<digest>.pt under a temporary
    name, then rename it. A process killed at any moment leaves the previous ones intact."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()  # the bytes themselves, not a copy
    name = f"state-{number:09d}-{hashlib.sha256(data).hexdigest()[:16]}.pt"
    write(Path(folder) / name, data)
    for path in saved(folder)[:-KEPT]:
        path.unlink()


def write(path, data):
    """Put bytes under `path`, atomically and durably."""
    # a name of its own: another process may be writing the same file
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        remove_if_dead(left)
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # on disk before the name is
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ValueError(
            f"expected room for {len(data) / 1e6:.0f} MB in {path.parent}, found {error.strerror}; free "
            "some and run the same command again."
        ) from error


def remove_if_dead(part):
    """Remove a half-written file whose process was killed."""
    owner = part.name.removesuffix(".part").rpartition(".")[2].partition("-")[0]
    if owner.isdigit() and not is_alive(int(owner)):
        part.unlink(missing_ok=True)


def is_alive(process):
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)  # no signal: only whether one could be sent
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def saved(folder):
    """Paths of the states in `folder`, oldest first."""
    return sorted(Path(folder).glob("state-*.pt"))


def latest(folder, log=print):
    """The newest state that is whole, or None. A truncated or altered one is reported and passed over."""
    for path in reversed(saved(folder)):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest()[:16] == path.stem.rpartition("-")[2]:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        log(
            f"expected a whole checkpoint, found {path.name} truncated or altered; going back to the one "
            "before."
        )
    return None


def set_aside_other_run(folder, key, log=print):
    """Make room for a run of this key where another one was interrupted: its folder gets another name, and
    nothing is lost."""
    state = latest(folder, log)
    if state is None or state["key"] == key:
        return
    names = (folder.with_name(f"{folder.name}-interrupted-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    folder.rename(aside)
    log(
        f"expected an interrupted run of {key} in {folder.name}, found one of {state['key']}; it now lies "
        f"in {aside.name}."
    )


@contextmanager
def alone(folder, does):
    """Hold a folder for one program; another that `does` the same there is refused. The kernel gives the lock
    back, whatever happens to the program."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ValueError(
            f"expected nobody else here who {does} {folder}, found another program that does; wait for it, "
            "or work in a second worktree."
        ) from None
    try:
        yield
    finally:
        os.close(handle)


def clear(folder):
    """Remove the states of a run that is complete; its weights and its log stay."""
    for path in saved(folder):
        path.unlink()

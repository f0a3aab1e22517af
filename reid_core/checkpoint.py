"""Training state and trained weights on disk: written whole or not at all, verified when read; of states the
last two are kept."""

import errno
import fcntl
import hashlib
import io
import itertools
import os
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes

from data_prep import unfinished
from data_prep.catalogue import build_folder

KEPT = 2
FULL = (errno.ENOSPC, errno.EDQUOT)


def save(folder, number, state):
    """Write `state` (dicts of tensors, numbers and strings) as state-<number>-<digest>.pt under a temporary
    name, then rename it. A process killed at any moment leaves the previous ones intact."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()  # the bytes themselves, not a copy
    name = f"state-{number:09d}-{hashlib.sha256(data).hexdigest()[:16]}.pt"
    write(Path(folder) / name, data)
    for path in saved(folder)[:-KEPT]:
        path.unlink(missing_ok=True)


def write(path, data):
    """Put bytes under `path`, atomically and durably."""
    part = unfinished.beside(path)  # another process may be writing the same file
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # on disk before the name is
        os.replace(part, path)
    except OSError as error:
        remedy = "free some" if error.errno in FULL else "clear the way"
        raise ValueError(
            f"expected room for {len(data) / 1e6:.0f} MB at {path}, found {error.strerror}; {remedy} and run "
            "the same command again."
        ) from error
    finally:
        unfinished.remove(part)


def saved(folder):
    """Paths of the states in `folder`, oldest first."""
    return sorted(Path(folder).glob("state-*.pt"))


def latest(folder, log=print):
    """The newest state that is whole, or None. A truncated or altered one is reported and passed over."""
    for path in reversed(saved(folder)):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest()[:16] == path.stem.rpartition("-")[2]:
            return loaded(data, path)
        log(
            f"expected a whole checkpoint, found {path.name} truncated or altered; going back to the one "
            "before."
        )
    return None


def loaded(data, path):
    """The state in the bytes of a whole checkpoint; ValueError where torch finds none in them."""
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"expected a checkpoint in {path}, found a file that torch refuses ({type(error).__name__}); "
            "remove it and run the same command again."
        ) from error
    if not isinstance(state, dict):
        raise ValueError(
            f"expected a checkpoint in {path}, found a {type(state).__name__}; remove it and run the same "
            "command again."
        )
    return state


def save_tensors(path, tensors, key=""):
    """Put named tensors under `path` as safetensors, with the key of their run and a digest of them."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # in one entry: safetensors writes several in no particular order
    write(path, safetensors_bytes(tensors, {"run": f"{digest(tensors)} {key}"}))


def read_tensors(path):
    """(named tensors, key of their run) of what `save_tensors` wrote; ValueError where the file is missing,
    cut or altered."""
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ValueError(
            f"expected trained weights in {path}, found a file that cannot be read ({error}); remove it and "
            "train again."
        ) from error
    if "run" not in about:  # written before weights had a digest
        return tensors, about.get("key", "")
    mark, _, key = about["run"].partition(" ")
    if mark != digest(tensors):
        raise ValueError(
            f"expected the weights that a training left in {path}, found others: the file was altered; "
            "remove it and train again."
        )
    return tensors, key


def digest(tensors):
    """Sixteen digits of the names, kinds, shapes and bytes of some tensors on the CPU."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def set_aside_other_run(folder, key, log=print):
    """Make room for a run of this key where another one was interrupted: its folder gets another name, and
    nothing is lost."""
    state = latest(folder, log)
    if state is None or state.get("key") == key:
        return
    names = (folder.with_name(f"{folder.name}-interrupted-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    folder.rename(aside)
    log(
        f"expected an interrupted run of {key} in {folder.name}, found one of "
        f"{state.get('key')}; it now lies in {aside.name}."
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


@contextmanager
def turn_at(path, log=lambda text: None):
    """Wait for a turn at a file or folder that several programs change, and hold it for the block. The kernel
    gives it back, whatever happens to a program. A wait is told to `log`."""
    mark = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    folder = locks()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{path.name}-{mark}", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"waits for another program that works on {path.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def locks():
    """Where programs wait for each other."""
    return build_folder() / "locks"


def clear(folder):
    """Remove the states of a run that is complete; its weights and its log stay."""
    for path in saved(folder):
        path.unlink()

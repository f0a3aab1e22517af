"""Half-made files and folders: each has a name of its maker's own until it is whole, and those of makers that
were killed are swept."""

import contextlib
import glob
import os
import platform
import shutil
import threading
import time

OLD = 86400  # seconds (a day) after which another machine's part is taken for one that was interrupted


def beside(path):
    """A hidden name beside `path` for what this thread is making. What others left there in the middle is
    removed first, if they are dead."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(FileNotFoundError):  # just now, by its maker
            if is_left(left, path.name):
                remove(left)
    maker = f"{platform.node()}-{os.getpid()}-{threading.get_ident()}"
    return path.with_name(f".{path.name}.{maker}.part")


def is_left(part, name):
    """Whether nobody makes this part of `name` any more."""
    maker = part.name.removeprefix(f".{name}.").removesuffix(".part")
    machine, process, _ = (["", ""] + maker.rsplit("-", 2))[-3:]
    if machine == platform.node() and process.isdigit():
        return not is_alive(int(process))
    return time.time() - part.stat().st_mtime > OLD


def is_alive(process):
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)  # no signal: only whether one could be sent
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def remove(part):
    """Remove a file or a folder; where somebody just did, or nothing can lie there, that is no matter."""
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        part.unlink()

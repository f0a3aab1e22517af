"""Make the virtual environment that the Makefile uses: `python3 .ci/setup.py FOLDER`. Stops with one
sentence."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

NEEDED_GB = 10


def stop(sentence):
    sys.exit("set-up stopped: " + sentence)


def has_pip(venv):
    """Whether the virtual environment is there, and whole."""
    python = venv / "bin" / "python"
    if not python.exists():
        return False
    return subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True).returncode == 0


def main(venv):
    if sys.version_info < (3, 11):  # noqa: UP036 - any Python may start this file
        stop(
            f"expected Python 3.11 or newer, found {sys.version.split()[0]}; run make with PYTHON=python3.11."
        )
    free = shutil.disk_usage(venv.parent).free / 1e9
    fresh = not has_pip(venv)
    if fresh and free < NEEDED_GB:
        stop(
            f"expected {NEEDED_GB} GB of free disk, found {free:.1f} GB in {venv.parent}; free some and run "
            "again."
        )
    if fresh:
        # also over the folder of an interrupted set-up, without pip; nothing is removed
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", "constraints.txt", "-e", ".[test]"], check=True)
    quiet_kernels(venv)
    (venv / "ready").touch()


def quiet_kernels(venv):
    """Kernels say nothing but errors: of one on this machine, ipykernel warns that its traffic is not
    encrypted, on every page."""
    folder = venv / "etc" / "ipython"
    folder.mkdir(parents=True, exist_ok=True)
    told = json.dumps({"IPKernelApp": {"log_level": "ERROR"}})
    (folder / "ipython_kernel_config.json").write_text(told)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

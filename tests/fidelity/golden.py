"""Golden arrays of published code: where they are, how they are read, and which of them a test covers.

The files lie in tests/parity, or in $PARITY_DIR if that is set: same names and keys, other seeds, shapes and
settings. So a test reads every size and setting from its file.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(os.environ.get("PARITY_DIR", Path(__file__).parent / "parity"))
COVERED = {}  # file name without suffix -> names of the tests that read it
WORST = {}  # file name -> largest relative difference seen

LOSS, OUTPUT, GRADIENT, EXACT64 = 2e-6, 2e-5, 5e-5, 1e-7


class Golden(dict):
    """A file's arrays by key; `tensor` and `tensors` give them to torch."""

    def tensor(self, key):
        return torch.from_numpy(np.array(self[key]))

    def tensors(self, prefix):
        """{rest of the key: tensor} of all keys that begin with `prefix`."""
        return {key.removeprefix(prefix): self.tensor(key) for key in self if key.startswith(prefix)}

    def number(self, key):
        return self[key].item()

    def leaf(self, key):
        """A tensor that collects a gradient."""
        return self.tensor(key).requires_grad_()


def golden(*names):
    """Mark a test as the reader of these files; it receives one Golden (or parsed JSON) after the other."""

    def mark(test):
        for name in names:
            COVERED.setdefault(name, []).append(test.__name__)
        return pytest.mark.parametrize("file", [load_later(name) for name in names], ids=names)(test)

    return mark


class load_later:
    """Reads its file when it is called: collection must not read all arrays."""

    def __init__(self, name):
        self.name = name

    def __call__(self):
        path = FOLDER / f"{self.name}.npz"
        if not path.exists():
            path = path.with_suffix(".json")
        if not path.exists():
            pytest.skip(f"{self.name} is not in {FOLDER}")
        if path.suffix == ".json":
            return json.loads(path.read_text())
        with np.load(path, allow_pickle=False) as arrays:
            return Golden({key: arrays[key] for key in arrays.files})


def close(found, wanted, tolerance, name=""):
    """Largest difference over max(1, largest magnitude of what is wanted) within the tolerance; remembered in
    WORST."""
    found, wanted = (
        np.asarray(a.detach() if isinstance(a, torch.Tensor) else a, dtype=np.float64)
        for a in (found, wanted)
    )
    assert found.shape == wanted.shape, f"{name}: shape {found.shape} instead of {wanted.shape}"
    difference = np.abs(found - wanted).max(initial=0) / max(1.0, np.abs(wanted).max(initial=0))
    if name:
        WORST[name] = max(WORST.get(name, 0.0), float(difference))
    assert difference <= tolerance, f"{name}: differs by {difference:.2e}, more than {tolerance:.0e}"


def matching(file, pattern):
    """(key, match) of all keys that match; there must be some."""
    found = [(key, match) for key in file for match in [re.fullmatch(pattern, key)] if match]
    assert found, f"no key like {pattern}"
    return found


NOT_COVERED_A = {  # file name without suffix -> why no test reads it
    "irra__mlm_masking": "Outside the methods being rebuilt: none of them masks words.",
    "pad__resume_keys": "What the next domain keeps comes with PAD's method file.",
    "pad__va_pool": "The pool's allocation and freezing come with PAD's method file.",
}


def not_covered():
    """{file: reason} of both sets."""
    from golden_b import NOT_COVERED_B

    return {**NOT_COVERED_A, **NOT_COVERED_B}

"""Golden arrays of published code: where they are, how they are read, how results are compared with them, and
which of them a test covers.

The files lie in tests/parity, or in $PARITY_DIR if that is set: same names and keys, other seeds, shapes and
settings, so a test reads every size and setting from its file. What another file lacks, its test skips with a
word; in tests/parity nothing may be lacking.
"""

import json
import os
import re
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pytest
import torch

ARRAYS = Path(__file__).parents[1] / "parity"
FOLDER = Path(os.environ.get("PARITY_DIR", ARRAYS))
COVERED = {}  # file name without suffix -> names of the tests that read it
WORST = {}  # file name -> largest relative difference seen

LOSS, OUTPUT, GRADIENT, EXACT64 = 2e-6, 2e-5, 5e-5, 1e-7  # for `close`
SAME, TOWER, FLOAT64, GRADIENT64 = 1e-5, 1e-4, 1e-9, 1e-4  # for `agree`
NUMBER = r"(-?\d*\.?\d+(?:e-?\d+)?)"  # in keys and in prose

NOT_COVERED = {  # file name without suffix -> why no test reads it
    "htt__data_facts": "facts about HTT's own loader, which we do not follow",
    "irra__mlm_masking": "Outside the methods being rebuilt: none of them masks words.",
    "topreid__angular_distance": "the library ranks by cosine, which gives the same order, and has no "
    "angular distance",
    "topreid__tpm_crm_missing": "TOP-ReID's permutation and reconstruction are outside the methods being "
    "rebuilt",
}


# Reading


class Golden(dict):
    """A file's arrays or facts by key, and its `name`; `tensor` and `tensors` give the arrays to torch."""

    name = ""

    def __missing__(self, key):
        lacks(self, f"key {key!r}")

    @cached_property
    def settings(self):
        """What the file's string `meta` holds, if it has one."""
        return facts(self.name, str(self["meta"]))

    def tensor(self, key):
        return torch.from_numpy(np.array(self[key]))

    def tensors(self, prefix):
        """{rest of the key: tensor} of all keys that begin with `prefix`; there must be some."""
        found = {key.removeprefix(prefix): self.tensor(key) for key in self if key.startswith(prefix)}
        return found or lacks(self, f"key under {prefix}")

    def number(self, key):
        return self[key].item()

    def leaf(self, key):
        """A tensor that collects a gradient."""
        return self.tensor(key).requires_grad_()


def lacks(file, what):
    """Skip the test with a word; where the committed file lacks it, the test is wrong and fails."""
    name = getattr(file, "name", "") or "the file"
    say = pytest.fail if FOLDER == ARRAYS else pytest.skip
    say(f"{name} in {FOLDER} has no {what}")


def named(name, found):
    """`found`, a dict, as the Golden of that name."""
    found = Golden(found)
    found.name = name
    return found


def facts(name, text):
    """Parsed JSON, whose objects are Golden, so that none lacks a key in silence."""
    return json.loads(text, object_hook=partial(named, name))


def golden(*names):
    """Mark a test as the reader of these files; it receives one Golden after the other."""

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
            return facts(self.name, path.read_text())
        with np.load(path, allow_pickle=False) as arrays:
            return named(self.name, {key: arrays[key] for key in arrays.files})


def matching(file, pattern):
    """(key, match) of all keys that match; where there is none, the file lacks it."""
    found = [(key, match) for key in file for match in [re.fullmatch(pattern, key)] if match]
    return found or lacks(file, f"key like {pattern}")


def said(file, text, *names):
    """The numbers that follow `names` in a sentence of the file."""
    found = [re.search(rf"{re.escape(name)}\D*?{NUMBER}", text) for name in names]
    return [float(match[1]) if match else lacks(file, f"{n} in {text!r}") for n, match in zip(names, found)]


def leaves(file, *keys, dtype=torch.float32):
    """{key: input or weight of that name}, collecting gradients."""
    found = {key: file.tensor(f"in/{key}" if f"in/{key}" in file else f"w/{key}") for key in keys}
    return {key: value.to(dtype).requires_grad_() for key, value in found.items()}


def spectra(file, name, dtype=torch.float32):
    """Leaves name_r, name_n, ... of the spectra in the file's order, and all of them stacked: (B, M, D)."""
    keys = [match[1] for _, match in matching(file, rf"in/{name}_(\w+)")]
    order = file.settings.get("order", keys)
    found = leaves(file, *(f"{name}_{spectrum}" for spectrum in order), dtype=dtype)
    return found, torch.stack(list(found.values()), 1)


def temperatures(file):
    """The temperatures for which a file holds results."""
    return sorted({match[1] for _, match in matching(file, rf"out/tau{NUMBER}/.+")})


# Comparing


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


def in_proportion(name, found, wanted, tolerance=EXACT64):
    """Each of `found` is `wanted` in proportion, since rates are far below one; an exact zero is compared
    absolutely, in units of the largest."""
    wanted = np.asarray(wanted, dtype=np.float64)
    scale = np.where(wanted == 0, np.abs(wanted).max(initial=0) or 1.0, np.abs(wanted))
    close(np.asarray(found, dtype=np.float64) / scale, wanted / scale, tolerance, name)


def same_values(name, found, wanted):
    """Rates, whatever their order and however many groups share one."""
    found, wanted = np.ravel(found), np.ravel(wanted)
    for one, others in ((found, wanted), (wanted, found)):
        in_proportion(name, one, others[np.abs(one[:, None] - others).argmin(1)])


def loss_close(name, loss, wanted, inputs=(), gradients=()):
    """Value and gradients of a loss against the published ones.

    Equal rows are interchangeable, so their gradients are compared as sums: at a tie, published mining gives
    all of the gradient to one row and ours divides it.
    """
    close(loss, wanted, LOSS, name)
    if inputs:
        for leaf, found, gradient in zip(inputs, torch.autograd.grad(loss, inputs), gradients, strict=True):
            equal = (leaf[:, None] == leaf).all(2).to(found)
            close(equal @ found, equal @ torch.from_numpy(gradient).to(found), GRADIENT, name)


def agree(file, key, found, tolerance, where=...):
    """`found` is the stored array (`where` it counts) up to `tolerance` times its largest magnitude."""
    wanted = np.asarray(file[key], dtype=np.float64)[where]
    scale = np.abs(wanted).max(initial=0) or 1.0
    found = (
        found.detach().double().numpy()
        if isinstance(found, torch.Tensor)
        else np.asarray(found, dtype=np.float64)
    )
    close(found / scale, wanted / scale, tolerance, file.name)


def gradients_agree(file, prefix, scalar, named, tolerance):
    """The gradients of `scalar` for {name: tensor} are those stored under `prefix`name."""
    if not named:
        lacks(file, f"key under {prefix}")
    for name, gradient in zip(named, torch.autograd.grad(scalar, list(named.values()), retain_graph=True)):
        agree(file, prefix + name, gradient.reshape(file[prefix + name].shape), tolerance)

"""Initial weights from a finished run: `--init-from RUN`. Such a training has them in the name of its row, so
that it is never taken for one that begins as its recipe says."""

import hashlib
import re
from collections import Counter
from pathlib import Path

from reid_core import checkpoint, train
from reid_core.layers import Head
from reid_core.prompts import GrowingTable
from reid_core.runs.run import INITIAL, training_folder
from reid_core.towers import CameraEmbedding

DIGITS = 16  # of the weights' SHA-256, in the name of a row
TOLD = re.compile(rf"(.+)@([0-9a-f]{{{DIGITS}}})")
BASELINE = "clip_reid/baseline/"  # every paper builds on it


def change_for(name):
    """The change of a row that starts a training from the weights of a run, with the first digits of their
    SHA-256; ValueError where that run left none."""
    return f"{INITIAL}{name}@{sha(weights_of(name))[:DIGITS]}"


def weights_of(name):
    """The file of weights that the training of a run left; ValueError where there is none."""
    path = training_folder(name) / train.WEIGHTS
    if not path.exists():
        raise ValueError(
            f"expected the weights of {name} in {path.parent}, found none; train it again with python -m "
            "reid_core train."
        )
    return path


def sha(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def fill(method, spec, data, log=print):
    """Give a new method the weights that its spec starts from; returns what provenance keeps of it: {} where
    the spec names none. What is made for other identities or cameras keeps its initial values. ValueError for
    weights of another paper or tower, or other ones than the row was named for."""
    if not spec.initial:
        return {}
    name, digits = told(spec.initial)
    refuse_other_paper(name, spec)
    path = weights_of(name)
    refuse_later_weights(path, name, digits)
    state, key = checkpoint.read_tensors(path)
    mine = train.stored(method)
    tied = bound(method)
    refuse_other_tower({n: value for n, value in mine.items() if n not in tied}, state, name)
    if data.manifest.fingerprint not in key.split(" "):  # `measure.run_key` tells that of the data set
        state = {n: value for n, value in state.items() if n not in tied}
    taken = {n: value for n, value in state.items() if n in mine and value.shape == mine[n].shape}
    method.load_state_dict(taken, strict=False)
    left = parts(mine.keys() - taken.keys())
    log(f"starts from {name}: taken {parts(taken)}; at their initial values {left}")
    return {"initial weights": {"run": name, "sha256": sha(path), "tensors": len(taken)}}


def told(initial):
    """(name, digits) of what stands behind `init_from=`; ValueError unless both do."""
    found = TOLD.fullmatch(initial)
    if not found:
        raise ValueError(
            f"expected a run and digits of its weights behind init_from, found {initial!r:.60}; name the run "
            "with --init-from, which adds them."
        )
    return found.groups()


def refuse_other_paper(name, spec):
    if not name.startswith((BASELINE, f"{spec.method}/")):
        raise ValueError(
            f"expected weights of {spec.method} or of the baseline for --init-from, found those of {name}; "
            "choose another run."
        )


def refuse_later_weights(path, name, digits):
    found = sha(path)[:DIGITS]
    if found != digits:
        raise ValueError(
            f"expected the weights {digits} of {name}, found others ({found}), which a later training left; "
            "pass --init-from again, which starts another run."
        )


def refuse_other_tower(mine, state, name):
    """ValueError unless the file has the whole image tower, with the same shapes."""
    shapes = {tensor: tuple(value.shape) for tensor, value in state.items()}
    for tensor, value in mine.items():
        if tensor.startswith("image.") and shapes.get(tensor) != tuple(value.shape):
            raise ValueError(
                f"expected this recipe's image tower, with {tensor} of shape {tuple(value.shape)}, found "
                f"{shapes.get(tensor, 'no such tensor')} in the weights of {name}; choose a run with the "
                "same backbone and image size."
            )


def bound(method):
    """Names of the tensors that mean the identities and cameras of one data set."""
    found = set()
    for prefix, module in method.named_modules():
        if isinstance(module, (GrowingTable, CameraEmbedding)):
            found |= {f"{prefix}.{name}" for name in module.state_dict()}
        if isinstance(module, Head):
            found.add(f"{prefix}.classifier.weight")
    return found


def parts(names):
    """Names of tensors by the part that holds them: "image (62), heads (8)"."""
    counts = Counter(name.partition(".")[0] for name in sorted(names))
    return ", ".join(f"{part} ({count})" for part, count in counts.items()) or "nothing"

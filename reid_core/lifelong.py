"""One data set after the other: training in an order, tests after each, and how much was forgotten.

    T domains of an order, D of them tested (usually the same); row s of a score matrix is the model after s

The measures are those of the lifelong literature; where papers differ, the convention is named.
"""

import hashlib
import itertools
import json
import time
from pathlib import Path

import numpy as np

from reid_core import checkpoint, train

HISTORY = "history.json"


def learn(
    method, domains, folder, *, tests, tested="", seed=0, key="", first=None, spent=None, log=print, **how
):
    """Train a `LifelongMethod` on `domains` (ReidData) in their order; returns (records, history).

    After each domain `tests(method, number)` gives a list of records, a dict each; `tested` names what it
    tests. What a prefix of the order has left behind lies under a name of its own in `folder`: an order that
    begins alike takes it up there, and so does a run that was interrupted, between two domains or within one.
    `first` (folder, key): where the first domain lies, if others share no more than that. `spent` gets the
    seconds of training, and of waiting for others who train the same; `how` is passed on to `train.fit`.
    """
    records = []
    history = []
    spent = [] if spent is None else spent
    for number, domain in enumerate(domains, 1):
        home, mark = first if first and number == 1 else (folder, key)
        place = prefix_folder(home, mark, domains[:number])
        train.seed_all(seed)  # new heads and tables begin alike, however the run came here
        method.begin_domain(domain, number)
        asked = time.monotonic()
        with checkpoint.turn_at(place, log):  # another run may be training what this one begins with
            spent.append(time.monotonic() - asked)
            if not (place / HISTORY).exists():
                learn_one(method, place, seed=seed, key=mark, log=log, spent=spent, **how)
            told = take_up(method, place)
            history += [{**line, "domain": number} for line in told]
            records += kept_records(place, tested, lambda number=number: tests(method, number))
    return records, history


def learn_one(method, place, *, key, log, **how):
    """Train on the domain that has begun, consolidate, and write down what is left behind; the history
    last."""
    history = train.fit(method, method.data, place, key=key, log=log, **how)
    method.end_domain()
    train.save_weights(method, place, key)
    checkpoint.write(place / HISTORY, json.dumps(history).encode())
    checkpoint.clear(place)  # not before the history is there: it says that this domain is done


def take_up(method, place):
    """Bring a method to where a prefix of an order has left it, and give its history; heads and tables take
    the file's size."""
    state, _ = checkpoint.read_tensors(place / train.WEIGHTS)
    device = next(method.parameters()).device
    train.load_state(method, {name: value.to(device) for name, value in state.items()}, place)
    return json.loads((place / HISTORY).read_text(encoding="utf-8"))


def kept_records(place, tested, test):
    """The records of a prefix: those that an earlier run kept of the same tests, or those that `test` gives
    now. Orders that begin alike may be tested on different sets."""
    path = place / f"records-{hashlib.sha256(tested.encode()).hexdigest()[:12]}.json"
    if not path.exists():
        checkpoint.write(path, json.dumps(test()).encode())
    return json.loads(path.read_text(encoding="utf-8"))


def prefix_folder(folder, key, domains):
    """Where a prefix of an order lies: its name changes with the run's key and with every domain of it."""
    prints = " ".join([key, *(domain.manifest.fingerprint for domain in domains)])
    return Path(folder) / f"{len(domains)}-{hashlib.sha256(prints.encode()).hexdigest()[:12]}"


def score_matrix(records, order, tested=None, task=None, metric="mAP"):
    """(T, D) scores of the first task, or of `task`: row s after domain s of `order`, a column for each
    set of `tested` (the order itself unless told), in per cent."""
    wanted = task or records[0]["task"]
    found = {
        (record["after"], record["data"]): record["summary"][metric]
        for record in records
        if record["task"] == wanted
    }
    cells = itertools.product(order, tested or order)  # row by row
    try:
        return np.array([found[cell] for cell in cells]).reshape(len(order), -1)
    except KeyError as missing:
        after, data = missing.args[0]
        raise ValueError(
            f"expected a score on {data} after {after} in the records, found none; test every domain after "
            "each."
        ) from None


def seen_averages(matrix):
    """(T,) mean over the domains seen so far, after each."""
    return np.array([matrix[s, : s + 1].mean() for s in range(len(matrix))])


def average_incremental_score(matrix):
    """Mean over stages of the mean over the domains seen so far."""
    return float(seen_averages(matrix).mean())


def forgetting(matrix):
    """(T - 1,) for each domain but the last: its best score since it was learned, before the last stage,
    minus its score at the end. Negative where later domains helped (the usual convention; PAD also
    counts scores from before it was learned)."""
    last = len(matrix) - 1  # T - 1
    return np.array([matrix[d:last, d].max() - matrix[last, d] for d in range(last)])


def running_forgetting(matrix):
    """(T,) mean `forgetting` as it stands after each stage; NaN after the first."""
    means = [forgetting(matrix[: s + 1, : s + 1]).mean() for s in range(1, len(matrix))]
    return np.array([np.nan, *means])


def backward_transfer(matrix):
    """(T - 1,) for each domain but the last: its score at the end minus its score right after it was
    learned."""
    last = len(matrix) - 1
    return np.array([matrix[last, d] - matrix[d, d] for d in range(last)])


def forward_transfer(matrix, start):
    """(T - 1,) for each domain but the first: its score just before it is learned minus that of the model
    before any training, `start` (T,)."""
    return np.array([matrix[d - 1, d] - start[d] for d in range(1, len(matrix))])

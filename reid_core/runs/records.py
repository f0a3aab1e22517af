"""What files of results hold, checked when they are read: JSON without NaN, and summaries that the queries of
a run give."""

import json
import math
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from data_prep import texts
from reid_core import checkpoint

DIGITS = 1e-3  # per cent; average precisions are kept to 1e-5 of one
FIELDS = {  # of a run -> their type
    "data": dict,
    "recipe": dict,
    "changes": dict,
    "scores": list,
    "history": list,
    "cost": dict,
    "provenance": dict,
    "fingerprint": dict,
}


def read_object(path, remedy="put back what git keeps of it, or move it away and measure again"):
    """{name: value} of a JSON file, empty where there is none; ValueError that names the file and the
    `remedy` if it holds another thing."""
    return texts.read_object(path, remedy) if Path(path).exists() else {}


@contextmanager
def changing(path):
    """The object in a JSON file, to be changed in the block and then written, whole or not at all: each
    program adds to what the others wrote."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint.turn_at(path):
        found = read_object(path)
        yield found
        checkpoint.write(path, (json.dumps(found, indent=1) + "\n").encode())


def parse(data):
    """The value in bytes of JSON in UTF-8; ValueError for NaN and infinity, which are no JSON."""
    return json.loads(data.decode("utf-8"), parse_constant=texts.refuse)


def reason(error):
    """An error in one clause, without the name of its file."""
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"


def check_run(kept):
    """ValueError unless the fields of a run are what they should be, and each summary follows from the
    record's own queries."""
    for name, kind in FIELDS.items():
        if not isinstance(kept.get(name, kind()), kind):
            raise ValueError(f"{name} is no {kind.__name__}")
    texts = {**kept["spec"], "name": kept["data"]["name"], "origin": kept["data"]["origin"]}
    for name, value in texts.items():
        if type(value) is not (int if name == "seed" else str):
            raise ValueError(f"its {name} is {value!r:.60}")
    if not all(isinstance(line, dict) for line in kept["history"]):
        raise ValueError("its history holds other things than epochs")
    for record in kept["scores"]:
        check_record(record)


def check_record(record):
    """ValueError unless a record's summary follows from its queries; a brief one, of `Task.brief`, has
    none."""
    if not {"ap", "pids"} & set(record):
        return check_summary(record)
    ap = numbers(record, "ap", 1.0)  # (queries,)
    first = numbers(record, "first", math.inf) if "first" in record else None  # not in made-up runs
    inp = numbers(record, "inp", 1.0) if "inp" in record else None  # not in older runs
    for name, values in {"first": first, "inp": inp}.items():
        if values is not None and len(values) != len(ap):
            raise ValueError(f"{len(ap)} average precisions, where {name} has {len(values)} numbers")
    pids = record["pids"]
    if not all(type(pid) is int for pid in pids) or len(pids) != len(ap):
        raise ValueError(f"{len(ap)} average precisions, where pids are {len(pids)} or no whole numbers")
    for name, told in record["summary"].items():
        low, high = bounds(name, ap, first, inp)
        if not low - DIGITS <= told <= high + DIGITS:
            raise ValueError(f"a {name} of {told}, where its queries give {low:.3f} to {high:.3f}")


def check_summary(record):
    """ValueError unless a summary holds per cent."""
    for name, told in record["summary"].items():
        if type(told) not in (int, float) or not 0 <= told <= 100:
            raise ValueError(f"a {name} of {told!r:.60}, which is no per cent")


def numbers(record, name, most):
    """A list of numbers from 0 to `most`, one per query, as an array."""
    values = record[name]
    if not values or any(type(value) not in (int, float) or not 0 <= value <= most for value in values):
        raise ValueError(f"{name} is no list of numbers from 0 to {most:g}")
    return np.array(values, float)


def bounds(name, ap, first, inp=None):
    """(lowest, highest) value in per cent that a summary may give under a name: one value where the queries
    tell it."""
    if name == "mAP":
        return (100 * ap.mean(),) * 2
    if name == "mINP" and inp is not None:
        return (100 * inp.mean(),) * 2
    if name[0] == "R" and name[1:].isdecimal() and first is not None:
        return (100 * (first <= int(name[1:])).mean(),) * 2
    return 0.0, 100.0  # trapezoidal, or of an older run: not kept per query


def key_of(file):
    """The key of the run that a file of visuals (a path or open file) belongs to; ValueError if it cannot be
    read."""
    try:
        with np.load(file, allow_pickle=False) as kept:  # a pickle could run anything
            return str(kept["key"])
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError) as error:
        raise ValueError(f"no visuals ({reason(error)})") from error

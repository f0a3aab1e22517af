"""Random splits of the unseen sets, shipped as splits.json. THEY ARE OURS: the published ones exist only on
their authors' machines, so averages over unseen sets are comparable in size, not in digits.

    python -m data_prep.splits    writes splits.json anew; the same bytes on every machine
"""

import functools
import hashlib
import json
from pathlib import Path

SPLITS = 10
SEED = 0
PEOPLE = {  # data set -> the identities that a split is drawn from, and how many are tested
    "cuhk01": (range(1, 972), 486),
    "viper": (range(1, 633), 316),
    "prid": (range(1, 201), 100),
    "ilids": (range(1, 120), 60),
}
PATH = Path(__file__).with_name("splits.json")


@functools.cache
def ours():
    """{data set: ten lists of tested identities}; those of i-LIDS are numbers in the order of names."""
    return json.loads(PATH.read_text(encoding="utf-8"))["splits"]


def drawn(name, split):
    """The identities that come first in the order of a hash: no generator's version can change them."""
    people, tested = PEOPLE[name]

    def place(pid):
        return hashlib.sha256(f"{SEED} {name} {split} {pid}".encode()).hexdigest()

    first = sorted(people, key=place)[:tested]
    return sorted(first)


def text():
    """What splits.json holds."""
    splits = {}
    for name in PEOPLE:
        splits[name] = [drawn(name, split) for split in range(SPLITS)]
    return json.dumps({"whose": "ours, not published by anybody else", "seed": SEED, "splits": splits}) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")

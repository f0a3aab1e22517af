"""How many identities, images, cameras and captions each data set should have, and how well that is known.

counts.csv has a row per data set, variant ("any" where all agree) and split. An image is a moment: its three
spectra count as one. An empty cell is not known. `status` says where the numbers come from:

    stated      printed by the data set's authors or in a paper that uses it
    recounted   counted by us in published lists of the files
    recalled    customary in the literature; nobody here has checked it
"""

import functools
from pathlib import Path

import pandas as pd

QUANTITIES = ("identities", "images", "cameras", "captions")
STATUSES = ("stated", "recounted", "recalled")


@functools.cache
def expected():
    """The whole table; numbers are nullable integers."""
    table = pd.read_csv(Path(__file__).with_name("counts.csv"), keep_default_na=False, encoding="utf-8")
    for column in QUANTITIES:
        numbers = pd.to_numeric(table[column], errors="coerce")  # an empty cell becomes NaN
        table[column] = numbers.astype("Int64")  # whole numbers, or NA
    return table


def expected_of(name, variant=""):
    """The rows of a data set, as tuples; none where nothing is known."""
    table = expected()
    rows = table[(table.dataset == name) & table.variant.isin([variant, "any"])]
    return list(rows.itertuples(index=False))


def count(rows):
    """{quantity: number} of the rows of one split."""
    moments = rows.drop_duplicates("shot") if "shot" in rows else rows  # three spectra are one moment
    captions = moments.captions.map(len).sum() if "captions" in moments else 0
    return {
        "identities": moments.pid.nunique(),
        "images": len(moments),
        "cameras": moments.camid.nunique(),
        "captions": int(captions),
    }


def check_counts(name, variant, root, table, allow_mismatch=False):
    """Compare with what is expected: a mismatch is a ValueError, or a list of notes where it is allowed."""
    wrong = []
    for row in expected_of(name, variant):
        wrong += differences(name, root, table, row)
    if wrong and not allow_mismatch:  # one sentence: where an archive is incomplete, most numbers differ
        more = f" (and {len(wrong) - 1} other numbers differ)" if len(wrong) > 1 else ""
        raise ValueError(
            f"{wrong[0]}{more}; unpack the whole archive, or pass --allow-count-mismatch if you know why."
        )
    return [f"{sentence}: allowed" for sentence in wrong]


def differences(name, root, table, row):
    """Sentences about the quantities of one split that are not those of `row`."""
    found = count(table[table.split == row.split])
    for quantity in QUANTITIES:
        number = getattr(row, quantity)
        if not pd.isna(number) and found[quantity] != number:
            yield (
                f"{name}: expected {number} {row.split} {quantity} ({row.status}: {row.where}), found "
                f"{found[quantity]} in {root}"
            )


def check_shots(name, root, table, expected):
    """Compare {split: number of shots} of a world with what was read; a mismatch is a ValueError."""
    shots = table.drop_duplicates(["split", "shot"]) if "shot" in table else table
    found = shots.split.value_counts().to_dict()
    for split, number in expected.items():  # of shots, as `count` has it: three spectra are one
        if found.get(split, 0) != number:
            raise ValueError(
                f"{name}: expected {number} {split} images, found {found.get(split, 0)} in {root}; remove "
                "the folder and make the world again."
            )

"""What the papers print: their numbers, and the settings that they state, release or leave to be assumed."""

import functools

import pandas as pd

from data_prep.catalogue import ROOT

PLACE = ("dataset", "protocol")  # the columns that say what was tested


def place_of(data):
    """The columns of reported.csv that say where a number was measured; of an order it is the mean over its
    seen domains."""
    order = data.removeprefix("lifelong:")
    if order == data:
        return {"dataset": data}
    number, _, other = order.removeprefix("order ").partition(" with ")  # "order 1 with LPW"
    family = f"{other.lower()}_" if other else ""
    return {"dataset": "seen_avg", "protocol": f"lifelong_{family}order{number}"}


def numbers(**wanted):
    """The lines of results/reported.csv, every number that the papers print, filtered by column values."""
    return matching(read("reported.csv"), wanted)


def printed(rows, metrics=("mAP", "R1")):
    """{(label, metric): value} for {label: column values that pick its lines of reported.csv}; nothing for a
    data set on which the paper prints nothing. ValueError if the other columns match no line."""
    found = {}
    for label, wanted in rows.items():
        anywhere = {column: value for column, value in wanted.items() if column not in PLACE}
        if numbers(**anywhere).empty:  # a wrong word, not a data set that the paper leaves out
            raise ValueError(f"expected rows of reported.csv with {wanted}, found none; correct the words.")
        for row in numbers(**wanted).itertuples():
            if row.metric in metrics:
                found[label, row.metric] = float(row.value)
    return found


def hyperparameters(**wanted):
    """The lines of results/hyperparameters.csv, every setting as stated, released or assumed, filtered by
    column values."""
    return matching(read("hyperparameters.csv"), wanted)


def read(name):
    """A committed table of text and numbers; ValueError where the file holds none."""
    path = ROOT / "results" / name
    try:
        return parsed(path, path.stat().st_mtime_ns)
    except (ValueError, OSError) as error:  # pandas' own are ValueErrors
        found = f"{type(error).__name__} ({str(error).strip()})"
        raise ValueError(f"expected a table in {path}, found {found}; restore the file.") from error


@functools.lru_cache(maxsize=4)  # a page asks for a hundred filters of the same table
def parsed(path, changed):
    """The table of a file that was `changed` at this time; nobody changes it in memory."""
    return pd.read_csv(path, keep_default_na=False, encoding="utf-8")


def matching(table, wanted):
    """The lines of a table whose columns have the `wanted` values."""
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table.reset_index(drop=True)

"""The table that a reproduction opens with: whole methods, as printed and as measured, on every data set."""

from data_prep import catalogue
from reid_core.report import ablations
from reid_core.report.tables import Head, ours, printed, ranked_how, table

METRICS = ("mAP", "R1")
LUCK = "intervals count the luck of so few seeds and who is searched for"


def overall(specs, theirs, shelf):
    """A row per method of `specs` {method: {data set: [Spec per seed]}}, and one for a reader's own runs of
    it; `theirs` {data set: {(method, metric): printed value}} stands before ours."""
    found = {name: each(ablations.found, places, shelf) for name, places in specs.items()}
    every = [some for places in found.values() for some in places.values()]
    wanted = [some for places in specs.values() for some in places.values()]
    seeds, few = ablations.seeds_told(wanted, every)
    rows = []
    for name, places in specs.items():
        told = [printed(values.get((name, metric))) for values in theirs.values() for metric in METRICS]
        rows.append([name, *told, *cells(found[name], seeds)])
        own = each(ablations.yours, places, shelf)
        if any(own.values()):
            nothing = [printed(None)] * len(told)
            rows.append([f"{name}, {ablations.YOURS}", *nothing, *map(ablations.as_own, cells(own))])
    protocols = dict.fromkeys(run.protocol() for some in every for run in some)  # each once, as they come
    caption = f"As printed, and ours; {LUCK}{few}{ranked_how(protocols)}"
    return table(["method", *heads("Paper", theirs, 1), *heads("Ours", places, len(places))], rows, caption)


def each(find, places, shelf):
    """{data set: runs} that `find` finds for {data set: specs}."""
    return {data: find(some, shelf) for data, some in places.items()}


def cells(runs, wanted=None):
    """Our numbers of {data set: runs}, a cell per metric."""
    return [ours(some, metric, wanted=wanted) for some in runs.values() for metric in METRICS]


def heads(whose, names, shown):
    """A Head per data set and metric; a phone has the mAP of the first `shown` data sets."""
    made = []
    for k, data in enumerate(names):
        group = f"{whose}, {catalogue.title(data)}"
        made += [Head(metric, group, best=True, minor=metric != "mAP" or k >= shown) for metric in METRICS]
    return made

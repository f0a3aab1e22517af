"""The table that a reproduction opens with: whole methods, as printed and as measured, on every data set."""

from reid_core.report import ablations
from reid_core.report.tables import Head, ours, printed, ranked_how, table

METRICS = ("mAP", "R1")
LUCK = "intervals count the luck of so few seeds and who is searched for"


def overall(methods, theirs, shelf):
    """A row per method of `methods` {method: {place: ablations.Row}}, and one for a reader's own runs of it;
    `theirs` {place: {(method, metric): printed value}} stands before ours. A place is a data set as pages
    call it, with the task where there are several."""
    found = {name: each(ablations.found, places, shelf) for name, places in methods.items()}
    tasks = {place: row.task for places in methods.values() for place, row in places.items()}
    every = [some for places in found.values() for some in places.values()]
    wanted = [row.specs for places in methods.values() for row in places.values()]
    seeds, few = ablations.seeds_told(wanted, every)
    rows = []
    for name, places in methods.items():
        told = [printed(values.get((name, metric))) for values in theirs.values() for metric in METRICS]
        rows.append([name, *told, *cells(found[name], tasks, seeds)])
        own = each(ablations.yours, places, shelf)
        if any(own.values()):
            nothing = [printed(None)] * len(told)
            rows.append([f"{name}, {ablations.YOURS}", *nothing, *map(ablations.as_own, cells(own, tasks))])
    protocols = {}  # a dictionary for its order: each once, as they come
    for places in found.values():
        for place, some in places.items():
            protocols |= dict.fromkeys(run.protocol(tasks[place]) for run in some)
    caption = f"As printed, and ours; {LUCK}{few}{ranked_how(protocols)}"
    return table(["method", *heads("Paper", theirs, 1), *heads("Ours", places, len(places))], rows, caption)


def each(find, places, shelf):
    """{place: runs} that `find` finds for {place: Row}."""
    return {place: find(row.specs, shelf, row.task) for place, row in places.items()}


def cells(runs, tasks, wanted=None):
    """Our numbers of {place: runs} in {place: test}, a cell per metric."""
    return [ours(some, metric, tasks[place], wanted) for place, some in runs.items() for metric in METRICS]


def heads(whose, places, shown):
    """A Head per place and metric; a phone has the mAP of the first `shown` places."""
    made = []
    for k, place in enumerate(places):
        group = f"{whose}, {place}"
        made += [Head(metric, group, best=True, minor=metric != "mAP" or k >= shown) for metric in METRICS]
    return made

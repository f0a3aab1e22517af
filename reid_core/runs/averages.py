"""What a page asks of a lifelong run: averages over its domains after the last one, as records of tests.

A record of an average holds the queries of all its domains. Each query weighs one over the number of queries
in its domain, so that its mean is the mean of the domains' means, as papers average, whatever their sizes.
"""

import numpy as np

SEEN = "seen average"  # names of tests, as `Run.record` takes them
UNSEEN = "unseen average"
BY_QUERY = ("ap", "inp", "first")  # columns of a record that averages keep


def final(scores):
    """The records of an order that were made after its last domain, and none that were made before."""
    return [record for record in scores if record["after"] == scores[-1]["after"]]


def of_order(scores, name):
    """The records that stand for a run of the order `name`: both averages, and every set after the last
    domain."""
    met = {record["after"] for record in scores}
    last = [record for record in final(scores) if record["task"] == scores[0]["task"]]
    seen = [record for record in last if record["data"] in met]
    unseen = [record for record in last if record["data"] not in met]
    sides = ((SEEN, seen), (UNSEEN, unseen))
    return [*(average(test, name, some) for test, some in sides if some), *last]


def average(test, name, several):
    """One record of several, on the queries of all."""
    sizes = [len(record["pids"]) for record in several]
    kept = [column for column in BY_QUERY if all(column in record for record in several)]
    people = [[f"{record['data']} {pid}" for pid in record["pids"]] for record in several]
    metrics = several[0]["summary"]
    return {
        "data": name,
        "task": test,
        "after": several[0]["after"],
        "summary": {key: float(np.mean([one["summary"][key] for one in several])) for key in metrics},
        **{column: np.concatenate([record[column] for record in several]) for column in kept},
        "pids": np.concatenate(people),
        "weights": np.concatenate([np.full(size, 1 / (size * len(sizes))) for size in sizes]),
        "skipped": sum(record["skipped"] for record in several),
        "protocol": several[0].get("protocol", ""),
    }

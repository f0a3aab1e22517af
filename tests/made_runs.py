"""Runs that tests make up: `run` of given precisions, `noisy` ones of one method over seeds."""

import numpy as np

from reid_core.runs.run import Run, Spec


def run(seed, ap, pids=None, row="full", origin="world"):
    pids = list(range(len(ap))) if pids is None else pids
    record = {
        "data": "toy",
        "task": "image to image",
        "after": "",
        "summary": {"mAP": 100 * float(np.mean(ap))},
        "ap": list(ap),
        "pids": pids,
        "skipped": 0,
    }
    return Run(
        spec=Spec("clip_reid", "baseline", row, seed=seed),
        data={"origin": origin, "name": "toy"},
        recipe={},
        changes={},
        scores=[record],
        history=[],
        cost={},
        provenance={},
    )


def noisy(seed, shift=0.0, people=150, spread=0.05):
    hard = np.random.default_rng(7).uniform(0.2, 0.8, people)
    return run(seed, np.clip(hard + shift + np.random.default_rng(seed).normal(0, spread, people), 0, 1))

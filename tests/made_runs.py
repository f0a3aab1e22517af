"""Runs that tests make up: `run` of given precisions, `noisy` ones of one method over seeds."""

import numpy as np

from reid_core.runs.run import Run, Spec

MACHINE = {
    "device": "x86_64, 2 cores",
    "processor": "a processor",
    "instructions": "AVX512",
    "threads": 2,
    "precision": "fp32",
}


def run(seed, ap, pids=None, row="full", origin="world", first=None, inp=None):
    """A run of given precisions, of first ranks and of inverse negative penalties where given."""
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
    if first is not None:
        record["first"] = list(first)
        for k in (1, 5, 10):
            record["summary"][f"R{k}"] = 100 * float(np.mean(np.array(first) <= k))
    if inp is not None:
        record["inp"] = list(inp)
        record["summary"]["mINP"] = 100 * float(np.mean(inp))
    return Run(
        spec=Spec("clip_reid", "baseline", row, seed=seed),
        data={"origin": origin, "name": "toy"},
        recipe={},
        changes={},
        scores=[record],
        history=[],
        cost={},
        provenance=dict(MACHINE),
    )


def noisy(seed, shift=0.0, people=150, spread=0.05):
    hard = np.random.default_rng(7).uniform(0.2, 0.8, people)
    return run(seed, np.clip(hard + shift + np.random.default_rng(seed).normal(0, spread, people), 0, 1))

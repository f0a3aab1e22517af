"""The two factors on the learning rates of the laptop profile: chosen for the fine-tuned baselines on the
development world, used unchanged by every method and row.

    python -m reid_core gates --rates 64,64 128,64
"""

import numpy as np

from reid_core import loading
from reid_core.calibrate import gates
from reid_core.methods import baseline, clip_reid
from reid_core.recipe import PROFILES
from reid_core.report import tables

TRIED = {  # what a pair of factors is tried on: baseline, data set, score
    "images": (clip_reid.Baseline, "world_market", "mAP"),
    "sentences": (baseline.TextBaseline, "world_text", "R1"),
    "heat": (baseline.HeatBaseline, "world_rgbnt201", "mAP"),
}


def measure(factors, seed=gates.DEVELOPMENT, profile="laptop", log=print):
    """Measure the scores of TRIED for pairs of learning-rate factors (pretrained, new); a pair whose
    measurement is not stale is skipped."""
    done, world, lr = gates.kept(profile), gates.World(seed, profile, log), clip_reid.RECIPE.stage2_lr
    for pair in factors:
        if list(pair) in [one["factors"] for one in tried(done, profile)]:
            continue
        world.recipe = world.recipe.but(stage2_lr=lr * pair[0], stage2_head_lr=lr * pair[1])
        found = {name: try_on(world, name, *what) for name, what in TRIED.items()}
        log(f"pretrained x {pair[0]}, new x {pair[1]}: {found}")
        line = {"factors": list(pair), "scores": found, **basis(profile)}
        done.setdefault("rates", []).append(line | gates.made_with())
        gates.write(done, profile)


def try_on(world, name, Kind, data, score):
    """The score of one baseline trained with the world's present recipe."""
    data = world.data(data)
    pace = f"{world.recipe.stage2_lr:g} {world.recipe.stage2_head_lr:g}"
    return gates.summary(world.trained(Kind, data, f"rates {name} {pace}"), data)[score]


def basis(profile):
    """What a measurement depends on besides its factors."""
    sets = tuple(data for _, data, _ in TRIED.values())
    told = PROFILES[profile]
    return {
        "weights": loading.fingerprint("tiny"),
        "scenes": gates.scenes(profile, sets),
        "length": [told.time, told.epoch_images],
    }


def tried(done, profile="laptop"):
    """The measurements that are not stale, the best mean score first."""
    found = [one for one in done.get("rates", []) if basis(profile).items() <= one.items()]
    return sorted(found, key=lambda one: -np.mean(list(one["scores"].values())))


def as_table(done):
    """A table of every pair of factors that was tried; the one in the laptop profile is marked."""
    used = [PROFILES["laptop"].pretrained_lr, PROFILES["laptop"].new_lr]
    lines = [
        [
            tables.Cell(
                f"{one['factors'][0]:g}, {one['factors'][1]:g}", "changed" if one["factors"] == used else ""
            ),
            *(f"{value:.1f}" for value in one["scores"].values()),
            f"{np.mean(list(one['scores'].values())):.1f}",
        ]
        for one in tried(done)
    ]
    headings = [
        "factors: pretrained, new",
        *(f"{name}, {score}" for name, (_, _, score) in TRIED.items()),
        "mean",
    ]
    return tables.table(
        headings,
        lines,
        f"World seed {gates.DEVELOPMENT}: {len(lines)} pairs of factors were tried; {used[0]:g} and "
        f"{used[1]:g} are used by every method and row, and raise no rate above "
        f"{PROFILES['laptop'].highest_lr:g}",
    )

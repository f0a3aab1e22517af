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
from reid_core.runs import records

TRIED = {  # what a pair of factors is tried on: baseline, data set, score
    "images": (clip_reid.Baseline, "world_market", "mAP"),
    "sentences": (baseline.TextBaseline, "world_text", "R1"),
    "heat": (baseline.HeatBaseline, "world_rgbnt201", "mAP"),
}


def measure(factors, seed=gates.DEVELOPMENT, profile="laptop", log=print):
    """Measure the scores of TRIED for pairs of learning-rate factors (pretrained, new); a pair whose
    measurement is not stale is skipped."""
    done = gates.kept(profile)
    world = gates.World(seed, profile, log)
    lr = clip_reid.RECIPE.stage2_lr  # as published: factors do not add up from pair to pair
    for pretrained, new in factors:
        pair = [pretrained, new]  # a list, as JSON gives it back
        if pair in [one["factors"] for one in tried(done, profile)]:
            continue
        made = gates.made_with()
        world.recipe = world.recipe.but(stage2_lr=lr * pretrained, stage2_head_lr=lr * new)
        found = {name: try_on(world, name, *what) for name, what in TRIED.items()}
        log(f"pretrained x {pretrained}, new x {new}: {found}")
        line = {"factors": pair, "scores": found, **basis(profile), **made}
        with records.changing(gates.place(profile)) as done:  # after every pair: an interruption loses one
            done.setdefault("rates", []).append(line)


def try_on(world, name, Kind, data, score):
    """The score of one baseline trained with the world's present recipe."""
    data = world.data(data)
    pace = f"{world.recipe.stage2_lr:g} {world.recipe.stage2_head_lr:g}"
    method = world.trained(Kind, data, f"rates {name} {pace}")
    return gates.summary(method, data)[score]


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
    now = basis(profile).items()
    found = [one for one in done.get("rates", []) if now <= one.items()]
    return sorted(found, key=mean_score, reverse=True)


def mean_score(one):
    """The mean of a measurement's scores, in per cent, over all of TRIED."""
    return np.mean(list(one["scores"].values()))


def as_table(done):
    """A table of every pair of factors that was tried; the one in the laptop profile is marked."""
    profile = PROFILES["laptop"]
    used = [profile.pretrained_lr, profile.new_lr]
    lines = []
    for one in tried(done):
        pretrained, new = one["factors"]
        mark = "changed" if one["factors"] == used else ""
        scores = [f"{value:.1f}" for value in one["scores"].values()]
        pair = tables.Cell(f"{pretrained:g}, {new:g}", mark)
        lines.append([pair, *scores, f"{mean_score(one):.1f}"])
    columns = [f"{name}, {score}" for name, (_, _, score) in TRIED.items()]
    headings = ["factors: pretrained, new", *columns, "mean"]
    caption = (
        f"World seed {gates.DEVELOPMENT}: {len(lines)} pairs of factors were tried; {used[0]:g} and "
        f"{used[1]:g} are used by every method and row, and raise no rate above {profile.highest_lr:g}"
    )
    return tables.table(headings, lines, caption)

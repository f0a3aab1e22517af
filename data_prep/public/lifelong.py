"""Lifelong re-identification: CUHK-SYSU as a seen domain, and the seven unseen ones with every protocol in
circulation.

Market-1501, DukeMTMC-reID, MSMT17, CUHK03 and LPW stand in people.py. An unseen set is tested as a mean over
draws:

    standard   ten random halves of the people, the first camera asks (GRID: its ten official folds). The
    halves are ours split0     the first of them alone, as VLADR's table pad_jul    PAD's loaders since July:
    halves drawn by Python's generator from 123 on, both directions where two cameras
               are alike, one image per camera for CUHK02 and i-LIDS
    pad_jun    PAD's first loaders: everybody, no halves

Nothing that is published says which of PAD's two gave the printed averages.
"""

import random
from collections import defaultdict
from dataclasses import replace

from scipy.io import loadmat

from data_prep import splits
from data_prep.manifest import Trials
from data_prep.public.files import find_root, finish, images, parse, table_of
from data_prep.public.places import PLACES

ORDERS = {  # of the seen domains; LPW stands in for Duke, which was withdrawn
    "order 1": ("market1501", "cuhk_sysu", "dukemtmc", "msmt17", "cuhk03#detected"),
    "order 2": ("dukemtmc", "msmt17", "market1501", "cuhk_sysu", "cuhk03#detected"),
    "order 1 with LPW": ("market1501", "cuhk_sysu", "lpw", "msmt17", "cuhk03"),
    "order 2 with LPW": ("lpw", "msmt17", "market1501", "cuhk_sysu", "cuhk03"),
}
UNSEEN = ("cuhk01", "cuhk02", "grid", "sensereid", "viper", "ilids", "prid")
PROTOCOLS = ("standard", "split0", "pad_jul", "pad_jun")
WORDS = {
    "standard": "{n} draws, first camera asks (our halves)",
    "split0": "one draw, first camera asks (the first of our halves)",
    "pad_jul": "{n} draws of PAD's loaders of July",
    "pad_jun": "PAD's loaders of June: everybody in one draw",
}
OWN_WORDS = {  # where no half of the people is ours
    ("cuhk02", "standard"): "one draw: everybody of the fifth pair, first camera asks",
    ("cuhk02", "split0"): "one draw: everybody of the fifth pair, first camera asks",
    ("grid", "standard"): "{n} official folds, the probe asks",
    ("grid", "split0"): "the first official fold, the probe asks",
}
PAD_SEED = 123
SYSU_CAMERAS = {"train": 0, "gallery": 1, "query": 2}


def cuhk_sysu(root, **options):
    """CUHK-SYSU as crops: train, query, gallery (or Market-1501's folders), names beginning with the pid. Its
    scenes have no camera: query and gallery get different ones, or the camera filter would remove every
    match."""
    root, number = find_root(root, "cuhk_sysu")
    rows = []
    for split, folder in PLACES["cuhk_sysu"][number].folders.items():
        for path in images(root / folder):
            (pid,) = parse(r"^(\d+)_", path, "<pid>_..., as in 00042_s1234.jpg_0000007_0.jpg")
            rows.append((f"{folder}/{path.name}", pid, SYSU_CAMERAS[split], split))
    return finish("cuhk_sysu", root, table_of(rows), **options)


def cuhk01(root, variant="standard", **options):
    """CUHK01: campus/<pid 4><image 3>.png; images 1 and 2 are of the first view, 3 and 4 of the second."""
    root, _ = find_root(root, "cuhk01")
    shots = []
    for path in images(root / "campus"):
        pid, image = parse(r"^(\d{4})(\d{3,4})", path, "<pid 4><image 3>, as in 0001002.png")
        shots.append((f"campus/{path.name}", pid, (image - 1) // 2))
    return tested("cuhk01", root, shots, halves("cuhk01", shots, variant), variant, **options)


def cuhk02(root, variant="standard", **options):
    """CUHK02: the fifth pair of cameras, P5/cam1 against P5/cam2; <pid>_<image>.png."""
    root, _ = find_root(root, "cuhk02")
    shots = [
        (f"P5/cam{view + 1}/{path.name}", parse(r"^(\d+)", path, "<pid>_<image>, as in 001_01.png")[0], view)
        for view in (0, 1)
        for path in images(root / f"P5/cam{view + 1}")
    ]
    draws = [one_of_each(shots, random.Random(PAD_SEED))] if variant == "pad_jul" else [against(shots)]
    return tested("cuhk02", root, shots, draws, variant, **options)


def viper(root, variant="standard", **options):
    """VIPeR: cam_a and cam_b; the n-th files of both, in name order, show one person."""
    root, _ = find_root(root, "viper")
    sides = {folder: images(root / folder) for folder in ("cam_a", "cam_b")}
    if len(sides["cam_a"]) != len(sides["cam_b"]):
        raise ValueError(
            f"viper: expected as many images in cam_a as in cam_b, found {len(sides['cam_a'])} and "
            f"{len(sides['cam_b'])} in {root}; people go by their place in the folder: restore it."
        )
    shots = [
        (f"{folder}/{path.name}", k + 1, view)
        for view, (folder, paths) in enumerate(sides.items())
        for k, path in enumerate(paths)
    ]
    return tested("viper", root, shots, halves("viper", shots, variant), variant, **options)


def prid(root, variant="standard", **options):
    """PRID 2011, one image per person and camera: cam_a and cam_b, person_<number>.png. Numbers 1 to 200 are
    the same people in both; beyond, equal numbers are different people - whom PAD takes for one."""
    root, _ = find_root(root, "prid")
    shots = []
    for view, folder in enumerate(("cam_a", "cam_b")):
        for path in images(root / folder):
            (number,) = parse(r"^person_(\d+)", path, "person_<number>, as in person_0001.png")
            alone = number > 200 and not variant.startswith("pad")
            shots.append((f"{folder}/{path.name}", number + 1000 * (1 + view) if alone else number, view))
    return tested("prid", root, shots, prid_draws(shots, variant), variant, **options)


def grid(root, variant="standard", **options):
    """GRID: probe and gallery, <pid 4>_<camera>_....jpeg, pid 0 a distractor; ten official folds of 125
    training people."""
    root, _ = find_root(root, "grid")
    shots = []
    for view, folder in enumerate(("probe", "gallery")):
        for path in images(root / folder):
            pid, camid = parse(
                r"^(\d{4})_(\d+)_", path, "<pid 4>_<camera>_..., as in 0001_1_25004_107_32_106_221.jpeg"
            )
            shots.append((f"{folder}/{path.name}", pid, camid + 100 * view))
    shots = [shot for shot in shots if shot[1] or shot[2] > 100]
    folds = [set()] if variant == "pad_jun" else folds_of(root / "features_and_partitions.mat")
    draws = [against(shots, lambda pid, fold=fold: pid not in fold, border=100) for fold in folds]
    return tested("grid", root, shots, draws[:1] if variant == "split0" else draws, variant, **options)


def ilids(root, variant="standard", **options):
    """i-LIDS: Persons/<pid 4><image 3>.jpg, two to eight images a person. There is no camera: every image
    counts as one."""
    root, _ = find_root(root, "ilids")
    shots = []
    for path in images(root / "Persons"):
        pid, image = parse(r"^(\d{4})(\d{3})", path, "<pid 4><image 3>, as in 0001001.jpg")
        shots.append((f"Persons/{path.name}", pid, image))
    return tested("ilids", root, shots, ilids_draws(shots, variant), variant, **options)


def sensereid(root, variant="standard", **options):
    """SenseReID: test_probe and test_gallery as released, <pid>_<camera>.jpg; every protocol is the same."""
    root, _ = find_root(root, "sensereid")
    rows = []
    for split, folder in PLACES["sensereid"][0].folders.items():
        for path in images(root / folder):
            pid, camid = parse(r"^(\d+)_(\d+)", path, "<pid>_<camera>, as in 00001_00000.jpg")
            rows.append((f"{folder}/{path.name}", pid, camid, split))
    return finish("sensereid", root, table_of(rows), variant, **options)


def tested(name, root, shots, draws, variant, **options):
    """A manifest whose query and gallery are all images, and whose trials say who asks whom."""
    rows = [(*shot, split) for split in ("query", "gallery") for shot in shots]
    words = OWN_WORDS.get((name, variant), WORDS[variant]).format(n=len(draws))
    trials = Trials(words, tuple(draws))
    return finish(name, root, table_of(rows), variant, trials=trials, **options)


def against(shots, chosen=lambda pid: True, backwards=False, border=1):
    """One draw: the images of a first camera (numbers below `border`) ask those of the second; a distractor
    always stays."""
    sides = ([], [])
    for k, (_, pid, camid) in enumerate(shots):
        if chosen(pid) or not pid:
            sides[camid >= border].append(k)
    return tuple(map(tuple, sides[::-1] if backwards else sides))


def halves(name, shots, variant):
    """The draws of a set with two views and as many images in each."""
    if variant == "pad_jun":
        return [against(shots)]
    if variant == "pad_jul":
        people = sorted({pid for _, pid, _ in shots})
        return [
            against(shots, pad_half(people, k // 2).__contains__, k % 2 == 1)
            for k in range(2 * splits.SPLITS)
        ]
    return [against(shots, set(people).__contains__) for people in ours(name, variant)]


def ours(name, variant):
    return splits.ours()[name][: 1 if variant == "split0" else splits.SPLITS]


def pad_half(people, split):
    """The second half of the people as PAD's loaders of July shuffle them."""
    return set(pad_order(people, random.Random(PAD_SEED + split))[len(people) // 2 :])


def pad_order(people, rng):
    shuffled = list(people)
    rng.shuffle(shuffled)
    return shuffled


def one_of_each(shots, rng):
    """One draw with one image per person and camera, drawn as PAD does for CUHK02: person by person, in
    order."""
    by_view = [gathered(shot for shot in enumerate(shots) if shot[1][2] == view) for view in (0, 1)]
    both = sorted(set(by_view[0]) & set(by_view[1]))
    picked = [(rng.choice(by_view[0][pid]), rng.choice(by_view[1][pid])) for pid in both]
    return tuple(q for q, _ in picked), tuple(g for _, g in picked)


def gathered(numbered):
    """{pid: numbers of its images} of (number, shot) pairs, in order."""
    found = defaultdict(list)
    for number, (_, pid, _) in numbered:
        found[pid].append(number)
    return found


def prid_draws(shots, variant):
    """A hundred of the 200 people of both cameras ask; everybody whom only the second camera saw is a
    distractor."""
    first, second = ({pid for _, pid, camid in shots if camid == view} for view in (0, 1))
    both, alone = sorted(first & second), second - first
    if variant == "pad_jun":
        chosen = [set(both)]
    elif variant == "pad_jul":
        pool = both[:200]
        orders = [pad_order(pool, random.Random(PAD_SEED + k)) for k in range(splits.SPLITS)]
        chosen = [set(order[len(pool) // 2 : 2 * (len(pool) // 2)]) for order in orders]
    else:
        chosen = [set(people) & set(both) for people in ours("prid", variant)]
    return [between(shots, people, people | alone) for people in chosen]


def between(shots, asking, shown):
    """One draw: people `asking` from the first camera, people `shown` from the second."""
    return (
        tuple(k for k, (_, pid, camid) in enumerate(shots) if camid == 0 and pid in asking),
        tuple(k for k, (_, pid, camid) in enumerate(shots) if camid == 1 and pid in shown),
    )


def folds_of(path):
    """Ten sets of training people, from the file that comes with GRID."""
    try:
        return [{int(pid) for pid in fold[0][0][2][0]} for fold in loadmat(path)["trainIdxAll"][0]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected the folds of GRID in {path}, found another content ({error}); use the file of the "
            "release."
        ) from None


def ilids_draws(shots, variant):
    """One image of each tested person asks and another answers; PAD's first loaders let the first image ask
    all others."""
    by_pid = {pid: found for pid, found in sorted(gathered(enumerate(shots)).items()) if len(found) > 1}
    if variant == "pad_jun":
        return [
            (
                tuple(found[0] for found in by_pid.values()),
                tuple(k for found in by_pid.values() for k in found[1:]),
            )
        ]
    if variant == "pad_jul":
        return [pad_pairs(shots, random.Random(PAD_SEED + k)) for k in range(splits.SPLITS)]
    names = sorted({pid for _, pid, _ in shots})
    people = [[names[rank - 1] for rank in ranks if rank <= len(names)] for ranks in ours("ilids", variant)]
    return [pairs_of(by_pid, some, split) for split, some in enumerate(people)]


def pad_pairs(shots, rng):
    by_pid = gathered(enumerate(shots))
    order = pad_order(sorted(by_pid), rng)
    picked = [rng.sample(by_pid[pid], 2) for pid in order[len(order) // 2 :] if len(by_pid[pid]) > 1]
    return tuple(q for q, _ in picked), tuple(g for _, g in picked)


def pairs_of(by_pid, people, split):
    """Query and gallery of our splits: neighbours in the person's images, another pair in every split."""
    found = [by_pid[pid] for pid in people if pid in by_pid]
    return (tuple(k[split % len(k)] for k in found), tuple(k[(split + 1) % len(k)] for k in found))


def first_identities(manifest, number=500, least=1):
    """The data with a cap on training: the first `number` identities, in order, that have at least `least`
    images. VLADR and the methods beside it train on 500 a domain (CUHK-SYSU: of those with four images)."""
    table = manifest.table
    sizes = table[table.split == "train"].groupby("pid").size()
    kept = set(sizes[sizes >= least].index[:number])
    rows = table[(table.split != "train") | table.pid.isin(kept)].reset_index(drop=True)
    return replace(
        manifest, table=rows, notes=(*manifest.notes, f"training is cut to {len(kept)} identities")
    )

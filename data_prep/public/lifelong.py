"""Lifelong re-identification: CUHK-SYSU as a seen domain, and the seven unseen ones with every protocol in
circulation. Market-1501, DukeMTMC-reID, MSMT17, CUHK03 and LPW stand in people.py.

An unseen set is tested as a mean over draws:

    standard  ten random halves of the people, the first camera asks (GRID: its ten official folds);
              the halves are ours
    split0    the first of them alone, as VLADR's table
    pad_jul   PAD's loaders since July: halves drawn by Python's generator from 123 on, both directions where
              two cameras are alike, one image per camera for CUHK02 and i-LIDS
    pad_jun   PAD's first loaders: everybody, no halves

Nothing that is published says which of PAD's two gave the printed averages.

In this file a shot is (path, pid, camera); a draw is (numbers of the shots that ask, numbers of those that
are shown), the query and the gallery of one test.
"""

import random
from collections import defaultdict
from dataclasses import replace

from data_prep import splits
from data_prep.manifest import Trials
from data_prep.public.files import find_root, finish, images, parse, read_mat, table_of
from data_prep.public.folders import PLACES

ORDERS = {  # of the seen domains; LPW stands in for Duke, which was withdrawn
    "order 1": ("market1501", "cuhk_sysu", "dukemtmc", "msmt17", "cuhk03#detected"),
    "order 2": ("dukemtmc", "msmt17", "market1501", "cuhk_sysu", "cuhk03#detected"),
    "order 1 with LPW": ("market1501", "cuhk_sysu", "lpw", "msmt17", "cuhk03"),
    "order 2 with LPW": ("lpw", "msmt17", "market1501", "cuhk_sysu", "cuhk03"),
}
UNSEEN = ("cuhk01", "cuhk02", "grid", "sensereid", "viper", "ilids", "prid")
PROTOCOLS = ("standard", "split0", "pad_jul", "pad_jun")
WORDS = {  # how a manifest tells of its draws
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
PAD_SEED = 123  # of the first draw of PAD's loaders of July; the k-th takes 123 + k
SYSU_CAMERAS = {"train": 0, "gallery": 1, "query": 2}  # ours: see `cuhk_sysu`


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
        pid, image = parse(r"^(\d{4})(\d{3,4})(?!\d)", path, "<pid 4><image 3>, as in 0001002.png")
        shots.append((f"campus/{path.name}", pid, (image - 1) // 2))
    draws = halves("cuhk01", shots, variant)
    return tested("cuhk01", root, shots, draws, variant, **options)


def cuhk02(root, variant="standard", **options):
    """CUHK02: the fifth pair of cameras, P5/cam1 against P5/cam2; <pid>_<image>.png."""
    root, _ = find_root(root, "cuhk02")
    shots = []
    for view in (0, 1):
        folder = f"P5/cam{view + 1}"
        for path in images(root / folder):
            (pid,) = parse(r"^(\d+)", path, "<pid>_<image>, as in 001_01.png")
            shots.append((f"{folder}/{path.name}", pid, view))
    if variant == "pad_jul":
        draw = one_of_each(shots, random.Random(PAD_SEED))
    else:
        draw = against(shots)
    return tested("cuhk02", root, shots, [draw], variant, **options)


def viper(root, variant="standard", **options):
    """VIPeR: cam_a and cam_b; the n-th files of both, in name order, show one person."""
    root, _ = find_root(root, "viper")
    first = images(root / "cam_a")
    second = images(root / "cam_b")
    if len(first) != len(second):
        raise ValueError(
            f"viper: expected as many images in cam_a as in cam_b, found {len(first)} and {len(second)} in "
            f"{root}; people go by their place in the folder: restore it."
        )
    shots = [(f"cam_a/{path.name}", k, 0) for k, path in enumerate(first, 1)]
    shots += [(f"cam_b/{path.name}", k, 1) for k, path in enumerate(second, 1)]
    draws = halves("viper", shots, variant)
    return tested("viper", root, shots, draws, variant, **options)


def prid(root, variant="standard", **options):
    """PRID 2011, one image per person and camera: cam_a and cam_b, person_<number>.png. Numbers 1 to 200 are
    the same people in both; beyond, equal numbers are different people - whom PAD takes for one."""
    root, _ = find_root(root, "prid")
    shots = []
    for view, folder in enumerate(("cam_a", "cam_b")):
        for path in images(root / folder):
            (pid,) = parse(r"^person_(\d+)", path, "person_<number>, as in person_0001.png")
            # PAD's loaders do not tell these people apart, and its numbers are to be met
            if pid > 200 and not variant.startswith("pad"):
                pid += 1000 * (1 + view)  # beyond every number of the other camera
            shots.append((f"{folder}/{path.name}", pid, view))
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
            camid += 100 * view  # those of the gallery count from 101
            if pid or camid > 100:  # a distractor is shown, and asks nothing
                shots.append((f"{folder}/{path.name}", pid, camid))
    if variant == "pad_jun":
        folds = [set()]  # nobody is trained on
    else:
        folds = folds_of(root / "features_and_partitions.mat")
    if variant == "split0":
        folds = folds[:1]
    everybody = {pid for _, pid, _ in shots}
    draws = [against(shots, everybody - fold, border=100) for fold in folds]
    return tested("grid", root, shots, draws, variant, **options)


def ilids(root, variant="standard", **options):
    """i-LIDS: Persons/<pid 4><image 3>.jpg, two to eight images a person. There is no camera: every image
    counts as one."""
    root, _ = find_root(root, "ilids")
    shots = []
    for path in images(root / "Persons"):
        pid, image = parse(r"^(\d{4})(\d{3})(?!\d)", path, "<pid 4><image 3>, as in 0001001.jpg")
        shots.append((f"Persons/{path.name}", pid, image))  # each a camera, or the filter removes matches
    draws = ilids_draws(shots, variant)
    return tested("ilids", root, shots, draws, variant, **options)


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
    # both splits hold every shot in the same order, so a shot has one number in either
    rows = [(*shot, "query") for shot in shots]
    rows += [(*shot, "gallery") for shot in shots]
    words = OWN_WORDS.get((name, variant), WORDS[variant])
    trials = Trials(words.format(n=len(draws)), tuple(draws))
    return finish(name, root, table_of(rows), variant, trials=trials, **options)


def against(shots, people=None, backwards=False, border=1):
    """One draw: the images of a first camera (numbers below `border`) ask those of the second, or
    `backwards`. Only `people` are in it (everybody unless told), and every distractor (pid 0)."""
    first = []
    second = []
    for k, (_, pid, camid) in enumerate(shots):
        if people is None or pid in people or not pid:
            side = first if camid < border else second
            side.append(k)
    if backwards:
        return tuple(second), tuple(first)
    return tuple(first), tuple(second)


def halves(name, shots, variant):
    """The draws of a set with two views and as many images in each."""
    if variant == "pad_jun":
        return [against(shots)]
    if variant == "pad_jul":
        everybody = sorted({pid for _, pid, _ in shots})
        draws = []
        for k in range(splits.SPLITS):
            half = pad_half(everybody, k)
            draws += [against(shots, half), against(shots, half, backwards=True)]
        return draws
    return [against(shots, set(people)) for people in ours(name, variant)]


def ours(name, variant):
    """Our splits, as lists of tested identities: ten, or the first alone."""
    number = 1 if variant == "split0" else splits.SPLITS
    return splits.ours()[name][:number]


def pad_half(people, split):
    """The second half of the people as PAD's loaders of July shuffle them."""
    order = pad_order(people, random.Random(PAD_SEED + split))
    return set(order[len(people) // 2 :])


def pad_order(people, rng):
    """The people as `rng`, a generator of Python, shuffles them."""
    shuffled = list(people)  # a copy: `shuffle` works in place
    rng.shuffle(shuffled)
    return shuffled


def one_of_each(shots, rng):
    """One draw with one image per person and camera, drawn as PAD does for CUHK02: person by person, in
    order."""
    first = numbers_by_pid(shots, view=0)
    second = numbers_by_pid(shots, view=1)
    pairs = []
    for pid in sorted(set(first) & set(second)):  # watch out: the order decides what is drawn
        asking = rng.choice(first[pid])
        pairs.append((asking, rng.choice(second[pid])))
    return draw_of(pairs)


def draw_of(pairs):
    """The draw in which the first of each pair of numbers asks, and the second is shown."""
    asking = tuple(pair[0] for pair in pairs)
    shown = tuple(pair[1] for pair in pairs)
    return asking, shown


def numbers_by_pid(shots, view=None):
    """{pid: numbers of its shots}, in order; of one camera, if `view` is told."""
    found = defaultdict(list)
    for number, (_, pid, camid) in enumerate(shots):
        if view is None or camid == view:
            found[pid].append(number)
    return found


def prid_draws(shots, variant):
    """A hundred of the 200 people of both cameras ask; everybody whom only the second camera saw is a
    distractor."""
    first = set(numbers_by_pid(shots, view=0))
    second = set(numbers_by_pid(shots, view=1))
    both = sorted(first & second)
    if variant == "pad_jun":
        chosen = [set(both)]
    elif variant == "pad_jul":
        pool = both[:200]  # PAD takes more people for shared, and draws from the first 200
        half = len(pool) // 2
        chosen = []
        for k in range(splits.SPLITS):
            order = pad_order(pool, random.Random(PAD_SEED + k))
            chosen.append(set(order[half : 2 * half]))
    else:
        chosen = [set(people) & set(both) for people in ours("prid", variant)]
    return [between(shots, people, people | (second - first)) for people in chosen]


def between(shots, asking, shown):
    """One draw: people `asking` from the first camera, people `shown` from the second."""
    query = []
    gallery = []
    for k, (_, pid, camid) in enumerate(shots):
        if camid == 0 and pid in asking:
            query.append(k)
        if camid == 1 and pid in shown:
            gallery.append(k)
    return tuple(query), tuple(gallery)


def folds_of(path):
    """Ten sets of training people, from the file that comes with GRID. ValueError for another content."""
    folds = []
    content = read_mat(path)
    try:
        for fold in content["trainIdxAll"][0]:
            pids = fold[0][0][2][0]  # the third entry of a structure: a row of pids
            folds.append(set(map(int, pids)))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected the folds of GRID in {path}, found another content ({error}); use the file of the "
            "release."
        ) from None
    return folds


def ilids_draws(shots, variant):
    """One image of each tested person asks and another answers; PAD's first loaders let the first image ask
    all others."""
    everybody = dict(sorted(numbers_by_pid(shots).items()))
    # who has one image has no match; our splits count such people all the same
    by_pid = {pid: numbers for pid, numbers in everybody.items() if len(numbers) > 1}
    if variant == "pad_jun":
        query = []
        gallery = []
        for first, *others in by_pid.values():
            query.append(first)
            gallery += others
        return [(tuple(query), tuple(gallery))]
    if variant == "pad_jul":
        return [pad_pairs(shots, random.Random(PAD_SEED + k)) for k in range(splits.SPLITS)]
    names = list(everybody)  # our splits count people in the order of names, from 1
    draws = []
    for split, ranks in enumerate(ours("ilids", variant)):
        people = [names[rank - 1] for rank in ranks if rank <= len(names)]
        draws.append(pairs_of(by_pid, people, split))
    return draws


def pad_pairs(shots, rng):
    """One draw: two images of each person in the second half of PAD's order."""
    by_pid = numbers_by_pid(shots)
    order = pad_order(sorted(by_pid), rng)
    pairs = []
    for pid in order[len(order) // 2 :]:
        if len(by_pid[pid]) > 1:
            pairs.append(rng.sample(by_pid[pid], 2))  # with the generator that shuffled, as PAD does
    return draw_of(pairs)


def pairs_of(by_pid, people, split):
    """Query and gallery of our splits: neighbours in the person's images, another pair in every split."""
    pairs = []
    for pid in people:
        if pid in by_pid:
            numbers = by_pid[pid]
            asking = numbers[split % len(numbers)]
            pairs.append((asking, numbers[(split + 1) % len(numbers)]))
    return draw_of(pairs)


def first_identities(manifest, number=500, least=1):
    """The data with a cap on training: the first `number` identities, in order, that have at least `least`
    images. VLADR and the methods beside it train on 500 a domain (CUHK-SYSU: of those with four images)."""
    table = manifest.table
    sizes = table[table.split == "train"].groupby("pid").size()  # pid -> images, in order of pids
    kept = set(sizes[sizes >= least].index[:number])
    rows = table[(table.split != "train") | table.pid.isin(kept)].reset_index(drop=True)
    notes = (*manifest.notes, f"training is cut to {len(kept)} identities")
    return replace(manifest, table=rows, notes=notes)

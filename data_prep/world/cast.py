"""Who appears in which data set, in which split, before which camera: plans, without a single pixel.

A plan is a list of shots. A shot is a dict of numbers and words: the attributes of the person or vehicle
("person") and of the image, where (domain, camera), when (day, dusk, night), split, pid and camid as the data
set counts them, and what names its random streams (who, index).
"""

import functools

from data_prep.world import people, places, vehicles, words
from data_prep.world.streams import between, stream

# How large each kind of set is; `plan` functions unpack the rows, in this order:
#   market   training people, images of each; tested people, query and gallery images of each;
#            distractors (pid 0) and junk images (pid -1) in the gallery
#   domain   training people, images of each; tested people, query and gallery images of each; strangers
#   unseen   the same without training
#   spectra  training people or vehicles, moments of each; tested ones, query and gallery moments of each
#   text     people and images of each: training, validation, test
#   pairs    images
SIZES = {
    "smoke": {
        "market": (16, 4, 12, 1, 3, 6, 2),
        "domain": (16, 4, 8, 1, 2, 0),
        "unseen": (8, 1, 2, 0),
        "spectra": (16, 4, 8, 1, 2),
        "text": (16, 3, 4, 2, 8, 2),
        "pairs": 96,
    },
    "laptop": {
        "market": (200, 7, 400, 2, 5, 1100, 30),
        "domain": (100, 6, 100, 1, 4, 300),
        "unseen": (60, 1, 3, 0),
        "spectra": (100, 8, 150, 1, 3),
        "text": (1000, 2, 20, 4, 240, 2),
        "pairs": 44000,
    },
    "full": {"market": (751, 17, 750, 4, 18, 2798, 3819)},  # people, distractors and junk of Market-1501
}
SHARED = 5  # one in five people of the text set is somebody of its partner, the market set


@functools.lru_cache(maxsize=4096)
def person(seed, who, wardrobe, bucket="evaluation"):
    return people.identity(seed, who, wardrobe, bucket)


@functools.lru_cache(maxsize=512)
def camera(seed, domain, camid):
    return places.camera(seed, domain, camid)


@functools.lru_cache(maxsize=2048)
def car(seed, who, bucket="evaluation"):
    return vehicles.identity(seed, who, bucket)


def shot(seed, kind, who, index, domain, camid, split, pid, when="day", bucket="evaluation"):
    """One moment of a `kind` ("person" or "vehicle"). `who` names the person or vehicle in its streams, as in
    "A:train3" (domain before the colon); `index` counts the moments of one."""
    cam = camera(seed, domain, camid)
    if kind == "person":
        home = places.DOMAINS[who.partition(":")[0]]  # not always the domain of the camera
        attributes = person(seed, who, home.wardrobe, bucket)
        image = people.instance(seed, (who, index), cam)
    else:
        attributes = car(seed, who, bucket)
        image = vehicles.instance(seed, (who, index), cam)
    return {
        "kind": kind,
        "who": who,
        "index": index,
        "domain": domain,
        "camid": camid,
        "split": split,
        "pid": pid,
        "when": when,
        "person": attributes,
        "image": image,
    }


def captions(seed, one, spectrum="rgb"):
    """Two sentences about a shot. Those of pretraining (domain P) also teach the words of descriptions."""
    say = words.lessons if one["domain"] == "P" else words.captions
    return say(seed, one["person"], one["image"], (one["who"], one["index"]), spectrum)


def rounds(seed, who, cameras, number):
    """Camera numbers (from 1) for `number` images of somebody, none twice before all were used."""
    order = []
    while len(order) < number:
        order += [int(c) + 1 for c in stream(seed, "cameras", who, len(order)).permutation(cameras)]
    return order[:number]


def all_day(seed, who, k):
    return "day"


def half_at_night(seed, who, k):
    return "night" if between(seed, 0, 1, "when", who, k) else "day"


def at_dusk(seed, who, k):
    return "dusk"


def appearances(seed, kind, who, domain, splits, pid, first=0, when=all_day):
    """Shots of one person or vehicle, one per entry of `splits`; their indices count from `first`."""
    cameras = rounds(seed, who, places.DOMAINS[domain].cameras, len(splits))
    return [
        shot(seed, kind, who, first + k, domain, camid, split, pid, when(seed, who, k))
        for k, (camid, split) in enumerate(zip(cameras, splits))
    ]


def market(seed, profile, domain="A"):
    """Training people (even pids) and tested people (odd pids), distractors (pid 0) and junk (pid -1), as
    Market-1501 has them."""
    train, views, test, queries, gallery, distractors, junk = SIZES[profile]["market"]
    plan = []
    for k in range(train):
        plan += appearances(seed, "person", f"{domain}:train{k}", domain, ["train"] * views, 2 * k + 2)
    for k in range(test):
        splits = ["query"] * queries + ["gallery"] * gallery
        plan += appearances(seed, "person", f"{domain}:test{k}", domain, splits, 2 * k + 1)
    for name, pid, number in (("distractor", 0, distractors), ("junk", -1, junk)):
        for k in range(number):
            camid = between(seed, 1, places.DOMAINS[domain].cameras, "alone", name, k)
            plan.append(shot(seed, "person", f"{domain}:{name}{k}", k, domain, camid, "gallery", pid))
    return plan


def lifelong(seed, profile, domain):
    """A seen domain (train and test) or an unseen one (test alone). Strangers are people of the gallery whom
    no query shows."""
    size = SIZES[profile]["domain"] if domain in places.SEEN else (0, 0, *SIZES[profile]["unseen"])
    train, views, test, queries, gallery, strangers = size
    plan = []
    for k in range(train):
        plan += appearances(seed, "person", f"{domain}:seen{k}", domain, ["train"] * views, 2 * k + 2)
    for k in range(test):
        splits = ["query"] * queries + ["gallery"] * gallery
        plan += appearances(seed, "person", f"{domain}:new{k}", domain, splits, 2 * k + 1)
    for k in range(strangers):
        plan += appearances(seed, "person", f"{domain}:stranger{k}", domain, ["gallery"], 2 * (test + k) + 1)
    return plan


def spectra(seed, profile, kind, domain, when, cast=""):
    """Shots in three spectra: people by day and night or at dusk, vehicles by day and night. Two sets of one
    domain have nobody in common if their `cast`, a part of the names, differs."""
    train, views, test, queries, gallery = SIZES[profile]["spectra"]
    plan = []
    for k in range(train):
        who = f"{domain}:{cast}three{k}"
        plan += appearances(seed, kind, who, domain, ["train"] * views, 2 * k + 2, when=when)
    for k in range(test):
        splits = ["query"] * queries + ["gallery"] * gallery
        plan += appearances(seed, kind, f"{domain}:{cast}tested{k}", domain, splits, 2 * k + 1, when=when)
    return plan


def text(seed, profile):
    """Images with sentences: people of the domain T, and one in SHARED from the market set. Of the shared,
    five in six stand on the same side (training or testing) in both sets, the sixth on the other: what joint
    training must not leak. pids count from 1, as in CUHK-PEDES; "market" is the pid in the market set, or
    0."""
    train, views, val, val_views, test, test_views = SIZES[profile]["text"]
    sizes = (("train", train, views), ("val", val, val_views), ("test", test, test_views))
    plan = []
    pid = 0
    for split, people_, images in sizes:
        for k in range(people_):
            pid += 1
            who = f"T:{split}{k}"
            market_pid = 0
            if split != "val" and k % SHARED == 0:
                number = k // SHARED  # of the person in the market set
                side = "train" if (split == "train") == bool(number % 6) else "test"
                who = f"A:{side}{number}"
                market_pid = 2 * number + (2 if side == "train" else 1)  # as `market` numbers them
            # indices from 100 on are no moments of the market set: the images differ
            found = appearances(seed, "person", who, who[0], [split] * images, pid, first=100)
            plan += [{**one, "market": market_pid} for one in found]
    return plan


def pairs(seed, profile):
    """Pretraining: one image each of people and vehicles that no evaluation set knows (pids from 0). One in
    ten is in another spectrum, one in nine shows a vehicle."""
    plan = []
    for k in range(SIZES[profile]["pairs"]):
        camid = between(seed, 1, places.DOMAINS["P"].cameras, "pretraining camera", k)
        spectrum = "rgb"
        if k % 10 == 9:
            spectrum = ("nir", "tir")[k // 10 % 2]
        when = "night" if spectrum != "rgb" and k // 20 % 2 else "day"
        kind = "vehicle" if k % 9 == 4 else "person"
        one = shot(seed, kind, f"P:{k}", 0, "P", camid, "train", k, when, "pretraining")
        plan.append({**one, "spectrum": spectrum})
    return plan


LIFELONG = {
    f"world_{d.lower()}": functools.partial(lifelong, domain=d) for d in (*places.SEEN, *places.UNSEEN)
}
SETS = {  # name of a data set -> plan(seed, profile); layouts.py says how each lies on disk
    "world_market": market,
    "world_msmt": functools.partial(lifelong, domain="D"),
    "world_text": text,
    "world_rgbnt201": functools.partial(spectra, kind="person", domain="N", when=half_at_night),
    "world_market_mm": functools.partial(spectra, kind="person", domain="A", when=at_dusk),
    "world_rgbnt100": functools.partial(spectra, kind="vehicle", domain="V", when=half_at_night),
    "world_msvr310": functools.partial(
        spectra, kind="vehicle", domain="V", when=half_at_night, cast="other "
    ),
    **LIFELONG,
    "world_pairs": pairs,
}


SIZED = {  # how a plan is made -> the entries of SIZES that it reads
    market: ("market",),
    lifelong: ("domain", "unseen"),
    spectra: ("spectra",),
    text: ("text",),
    pairs: ("pairs",),
}


def sizes(name, profile):
    """The numbers of SIZES that a data set depends on."""
    made = getattr(SETS[name], "func", SETS[name])  # without the options of a partial
    return [SIZES[profile][entry] for entry in SIZED[made]]


def plan(name, profile, seed):
    """The shots of a data set, in writing order. ValueError for a profile or a name that does not exist."""
    if profile not in SIZES:
        raise ValueError(f"expected a profile among {', '.join(SIZES)}, found {profile!r}; correct it.")
    if name not in SETS:
        raise ValueError(f"expected a data set among {', '.join(SETS)}, found {name!r}; correct the name.")
    if name != "world_market" and "domain" not in SIZES[profile]:
        raise ValueError(
            f"expected world_market in the profile {profile}, which has no other size, found {name!r}; "
            "choose laptop."
        )
    return SETS[name](seed, profile)

"""Sentences about an image, from the attributes of who is on it and of the moment, in varied grammar.

Captions name two to four attributes, coarsely, and one in twenty names one wrongly, as people do. Build, gait, exact hue
and what only the other spectra see are never named.
"""

from data_prep.world.people import COLOURS
from data_prep.world.streams import pick, stream

WRONG = 20  # one sentence in so many names a colour wrongly
GARMENTS = ("t-shirt", "shirt", "jacket", "coat", "trousers", "shorts", "skirt")
OPENINGS = {  # the sentences of the papers begin and end like some of these
    "a {noun}": 30, "the {noun}": 14, "there is a {noun}": 10, "this is a {noun}": 6, "a photo of a {noun}": 12,
    "a {kind}": 10, "a photo of a {kind}": 8, "a visible photo of a {kind}": 4, "a photo of a {one} {kind}": 4,
    "a photo of a {one} and {two} {kind}": 4,
}  # fmt: skip
SPECTRUM_OPENINGS = {
    "nir": "a near-infrared photo of a {noun}",
    "tir": "a thermal-infrared photo of a {noun}",
}


def captions(seed, who, image, key, spectrum="rgb"):
    """Two sentences about a person or a vehicle. `key` names the image."""
    return tuple(sentence(seed, who, image, (*key, k), spectrum) for k in range(2))


def lessons(seed, who, image, key, spectrum="rgb"):
    """What pretraining reads: captions, and now and then a part description in the words of a description file."""
    said = list(captions(seed, who, image, key, spectrum))
    if spectrum == "rgb" and "engine" not in image and not stream(seed, "lesson", *key).integers(3):
        said[1] = pick(seed, parts(who, image), "part", *key)
    return tuple(said)


def sentence(seed, who, image, key, spectrum="rgb"):
    """One caption: an opening, then two to four phrases in reading order."""
    who, vehicle = mistaken(seed, who, key) if spectrum == "rgb" else who, "engine" in image
    rng = stream(seed, "sentence", *key)
    said = [phrase for phrase in PHRASES[spectrum, vehicle](seed, who, image, key) if phrase]
    chosen = sorted(rng.permutation(len(said))[: rng.integers(2, 5)])
    opening = pick(seed, OPENINGS, "opening", *key) if spectrum == "rgb" else SPECTRUM_OPENINGS[spectrum]
    text = f"{opening.format(**opening_words(who, vehicle, spectrum))} {join([said[k] for k in chosen])}."
    return text[0].upper() + text[1:]


def opening_words(who, vehicle, spectrum):
    """What stands in the gaps of an opening."""
    if vehicle:
        kind = "vehicle" if spectrum != "rgb" else who["noun"]
        return {"noun": kind, "kind": "vehicle", "one": who["colour"], "two": kind}
    return {"noun": who["noun"], "kind": "person", "one": who["upper colour"], "two": who["lower colour"]}


def mistaken(seed, who, key):
    """The attributes as a careless witness has them: now and then one colour is another."""
    rng = stream(seed, "mistake", *key)
    if rng.integers(WRONG):
        return who
    name = pick(
        seed, [n for n in ("upper colour", "lower colour", "shoes", "colour") if n in who], "mistaken", *key
    )
    return {**who, name: pick(seed, [c for c in COLOURS if c != who[name]], "instead", *key)}


def seen_person(seed, person, image, key):
    """What could be said of a person, in reading order; an empty string where there is nothing to say."""
    wears = pick(seed, ("wearing", "in", "dressed in"), "verb", *key)
    pattern = "" if person["pattern"] == "plain" else person["pattern"] + " "
    lower = a(person["lower colour"]) if person["lower"] == "skirt" else person["lower colour"]
    hair = f"with {person['hair length']} {person['hair']} hair"
    return (
        pick(
            seed, (hair, f"with {person['hair']} hair", f"whose hair is {person['hair']}"), "hair words", *key
        ),
        f"{wears} {a(person['upper colour'])} {pattern}{person['upper']}",
        f"{wears} {lower} {person['lower']}",
        pick(seed, (f"with {person['shoes']} shoes", f"in {person['shoes']} shoes"), "shoe words", *key),
        f"with {a(person['backpack'])} backpack" if person["backpack"] else "",
        pick(seed, (f"with {a(person['hat'])} hat", f"wearing {a(person['hat'])} hat"), "hat words", *key)
        if person["hat"]
        else "",
        carrying(image),
        image["moving"],
    )


def carrying(image):
    told = {
        "nothing": "",
        "phone": "looking at a phone",
        "umbrella": f"under {a(image['carried colour'])} umbrella",
    }
    return told.get(image["carried"], f"carrying {a(image['carried colour'])} {image['carried']}")


def felt_person(seed, person, image, key):
    """What shows without colour."""
    things = {"nothing": "", "phone": "looking at a phone", "umbrella": "under an umbrella"}
    return (
        f"with {person['hair length']} hair",
        f"wearing a {person['upper']}",
        f"wearing {'a ' if person['lower'] == 'skirt' else ''}{person['lower']}",
        "with a backpack" if person["backpack"] else "",
        "with a hat" if person["hat"] else "",
        things.get(image["carried"], f"carrying a {image['carried']}"),
        image["moving"],
    )


def seen_vehicle(seed, car, image, key):
    """What could be said of a vehicle."""
    return (
        pick(
            seed,
            (f"painted {car['colour']}", f"of {car['colour']} colour", f"that is {car['colour']}"),
            "paint",
            *key,
        ),
        {"": "", "rack": "with a roof rack", "box": f"with {a(car['roof colour'])} box on the roof"}[
            car["roof"]
        ],
        f"with {a(car['stripe'])} stripe" if car["stripe"] else "",
        f"with {car['wheels']} wheels",
        "with a spoiler" if car["spoiler"] else "",
        "with its lights on" if image["lights"] == "on" else "",
    )


def felt_vehicle(seed, car, image, key):
    return (f"shaped like a {car['noun']}", "with a hot engine" if image["engine"] == "hot" else "with a cold engine",
            "with something on the roof" if car["roof"] else "", "with a spoiler" if car["spoiler"] else "")  # fmt: skip


PHRASES = {("rgb", False): seen_person, ("nir", False): felt_person, ("tir", False): felt_person,
           ("rgb", True): seen_vehicle, ("nir", True): felt_vehicle, ("tir", True): felt_vehicle}  # fmt: skip


def parts(person, image):
    """Head, upper, lower, foot: the four sentences of a description file, as VLADR's question answering assembles them."""
    accessory = f"a {person['hat']} hat" if person["hat"] else "nothing"
    activity = "looking at a phone" if image["carried"] == "phone" else image["moving"]
    return (
        f"A {person['noun']} with {person['hair']}, {person['hair length']} hair, wearing {accessory}.",
        f"Wearing {person['upper colour']} {person['upper']}, {activity}",
        f"Wearing {person['lower colour']} {person['lower']}",
        f"Wearing {person['shoes']} shoes",
    )


def a(word):
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"


def join(phrases):
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]

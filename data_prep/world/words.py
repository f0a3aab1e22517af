"""Sentences about an image, from the attributes of who is on it and of the moment, in varied grammar.

Captions name two to four attributes, coarsely, and some name a colour wrongly: one in twenty of what
pretraining reads, one in sixty of what is said of people who are looked for. Build, gait, exact hue and what
only the other spectra see are never named. Who looks for a person has words of his own for some things, and
names either the clothes and no colour, or the colours and more.
"""

import re
from typing import NamedTuple

from data_prep.world.people import COLOURS, is_held_out
from data_prep.world.streams import pick, stream

SHADES = {  # what a hasty witness says of a colour
    **dict.fromkeys(("black", "navy", "brown", "purple"), "dark"),
    **dict.fromkeys(("white", "grey", "pink", "yellow"), "light"),
    **dict.fromkeys(("red", "orange", "green", "blue"), "bright"),
    "blonde": "fair",
}


class Witness(NamedTuple):
    """How closely somebody describes a garment, in per cent, how many things are named, one number as likely
    as the next, whether clothes come to mind before all else, and how often a colour is mistaken, named or
    not: once in so many times."""

    detail: dict
    things: tuple
    clothes_first: bool
    mistaken: int


WITNESSES = {
    "hasty": Witness({"garment": 100}, (2, 2, 2, 2, 2), True, 20),
    "attentive": Witness({"colour": 50, "all": 50}, (3, 4, 4, 4, 4), True, 20),
    # who writes alt texts: pretraining
    "writer": Witness({"garment": 18, "shade": 18, "colour": 40, "all": 24}, (2, 2, 3, 3, 4), False, 7),
}
LOOKING = {
    "hasty": 55,
    "attentive": 45,
}  # who looks for a person, in per cent; clothes first, as in CUHK-PEDES
OWN_WORDS = {  # what witnesses also say, and alt texts do not: pretraining never read it
    "t-shirt": "tee",
    "shirt": "blouse",
    "jacket": "windbreaker",
    "coat": "parka",
    "trousers": "pants",
    "shorts": "bermudas",
    "skirt": "miniskirt",
    "shoes": "sneakers",
    "backpack": "rucksack",
    "hat": "cap",
}
OWN_SHARE = 4  # one in so many of the words that have such a twin
WORD = re.compile(r"[\w-]+")
PLAIN = {own: word for word, own in OWN_WORDS.items()}
GARMENTS = ("t-shirt", "shirt", "jacket", "coat", "trousers", "shorts", "skirt")
OPENINGS = {  # the sentences of the papers begin and end like some of these
    "a {noun}": 30,
    "the {noun}": 14,
    "there is a {noun}": 10,
    "this is a {noun}": 6,
    "a photo of a {noun}": 12,
    "a {kind}": 10,
    "a photo of a {kind}": 8,
    "a visible photo of a {kind}": 4,
    "a photo of a {one} {kind}": 4,
    "a photo of a {one} and {two} {kind}": 4,
}
SPECTRUM_OPENINGS = {
    "nir": "a near-infrared photo of a {noun}",
    "tir": "a thermal-infrared photo of a {noun}",
}


def captions(seed, who, image, key, spectrum="rgb"):
    """Two sentences about a person or a vehicle, each by a witness of its own. `key` names the image."""
    keys = [(*key, k) for k in range(2)]
    said = (sentence(seed, who, image, one, spectrum, witness(seed, one)) for one in keys)
    return tuple(in_own_words(seed, *one) for one in zip(said, keys))


def in_own_words(seed, said, key):
    """The sentence with everyday words for one in OWN_SHARE of the words that have one."""
    rng = stream(seed, "own words", *key)
    return WORD.sub(
        lambda found: found[0] if rng.integers(OWN_SHARE) else OWN_WORDS.get(found[0], found[0]), said
    )


def plain(sentence):
    """The sentence in the words of the attribute table: in_own_words() undone."""
    return WORD.sub(lambda found: PLAIN.get(found[0], found[0]), sentence)


def witness(seed, key):
    """Who says a sentence."""
    return WITNESSES[pick(seed, LOOKING, "witness", *key)]


def lessons(seed, who, image, key, spectrum="rgb"):
    """What pretraining reads: captions, and now and then a part description in the words of a description
    file."""
    said = [sentence(seed, who, image, (*key, k), spectrum, WITNESSES["writer"]) for k in range(2)]
    if spectrum == "rgb" and "engine" not in image and not stream(seed, "lesson", *key).integers(3):
        said[1] = pick(seed, parts(who, image), "part", *key)
    return tuple(said)


def sentence(seed, who, image, key, spectrum, witness):
    """One caption: an opening, then two to four phrases in reading order."""
    who, vehicle = mistaken(seed, who, key, witness) if spectrum == "rgb" else who, "engine" in image
    rng = stream(seed, "sentence", *key)
    said = [phrase for phrase in PHRASES[spectrum, vehicle](seed, who, image, key, witness) if phrase]
    order = sorted(
        rng.permutation(len(said)), key=lambda k: witness.clothes_first and not tells_of_clothes(said[k])
    )
    chosen = sorted(order[: witness.things[rng.integers(5)]])
    opening = pick(seed, OPENINGS, "opening", *key) if spectrum == "rgb" else SPECTRUM_OPENINGS[spectrum]
    begin = re.sub(
        r"\ba (?=[aeiou]|suv)", "an ", opening.format(**opening_words(who, image, vehicle, spectrum))
    )
    return f"{begin[0].upper()}{begin[1:]} {join([said[k] for k in chosen])}."


def tells_of_clothes(phrase):
    return any(garment in phrase for garment in GARMENTS)


def opening_words(who, image, vehicle, spectrum):
    """What stands in the gaps of an opening."""
    if vehicle:
        kind = "vehicle" if spectrum != "rgb" else who["noun"]
        return {"noun": kind, "kind": "vehicle", "one": who["colour"], "two": kind}
    return {
        "noun": who["noun"],
        "kind": "person",
        "one": f"{who['hair length']}-haired",
        "two": image["moving"],
    }


def mistaken(seed, who, key, witness):
    """The attributes as a careless witness has them: now and then one colour is another, but none that makes
    a pair of colour and garment which pretraining must not read."""
    rng = stream(seed, "mistake", *key)
    if rng.integers(witness.mistaken):
        return who
    name = pick(
        seed, [n for n in ("upper colour", "lower colour", "shoes", "colour") if n in who], "mistaken", *key
    )
    garment = who.get(name.partition(" ")[0], "")
    others = [c for c in COLOURS if c != who[name] and not is_held_out(c, garment)]
    return {**who, name: pick(seed, others, "instead", *key)}


def seen_person(seed, person, image, key, witness):
    """What could be said of a person, in reading order; an empty string where there is nothing to say."""
    wears = pick(seed, ("wearing", "in", "dressed in"), "verb", *key)
    hat = f"{a(person['hat'])} hat" if person["hat"] else ""
    return (
        pick(seed, hair_words(person), "hair words", *key),
        f"{wears} {garment(seed, person, 'upper', witness.detail, key)}",
        f"{wears} {garment(seed, person, 'lower', witness.detail, key)}",
        pick(seed, shoe_words(person["shoes"]), "shoe words", *key),
        carried_behind(seed, person, key),
        pick(seed, (f"with {hat}", f"wearing {hat}"), "hat words", *key) if hat else "",
        carrying(seed, image, key),
        image["moving"],
    )


def garment(seed, person, part, detail, key):
    """A garment as closely described as this witness does: a jacket, a dark jacket, a navy jacket, a navy
    striped jacket."""
    what, colour = person[part], person[f"{part} colour"]
    pattern = person["pattern"] if part == "upper" and person["pattern"] != "plain" else ""
    said = {
        "garment": what,
        "shade": f"{SHADES[colour]} {what}",
        "colour": f"{colour} {what}",
        "all": f"{colour} {pattern} {what}" if pattern else f"{colour} {what}",
    }
    words = said[pick(seed, detail, "detail", part, *key)]
    return words if what in ("trousers", "shorts") else a(words)


def hair_words(person):
    hair, length = person["hair"], person["hair length"]
    return (
        f"with {length} hair",
        f"with {SHADES.get(hair, hair)} hair",
        f"with {hair} hair",
        f"whose hair is {length}",
        f"with {length} {hair} hair",
    )


def shoe_words(colour):
    return tuple(f"{how} {what} shoes" for how in ("with", "in") for what in (colour, SHADES[colour]))


def carried_behind(seed, person, key):
    colour = person["backpack"]
    return (
        pick(seed, ("with a backpack", f"with {a(colour)} backpack"), "backpack words", *key)
        if colour
        else ""
    )


def carrying(seed, image, key):
    what = image["carried"]
    thing = pick(seed, (a(what), a(f"{image['carried colour']} {what}")), "carried words", *key)
    told = {"nothing": "", "phone": "looking at a phone", "umbrella": f"under {thing}"}
    return told.get(what, f"carrying {thing}")


def felt_person(seed, person, image, key, witness):
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


def seen_vehicle(seed, car, image, key, witness):
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


def grey_vehicle(seed, car, image, key, witness):
    """What shows without colour."""
    return (
        f"shaped like a {car['noun']}",
        "with something on the roof" if car["roof"] else "",
        "with a spoiler" if car["spoiler"] else "",
    )


def warm_vehicle(seed, car, image, key, witness):
    return (f"with a {image['engine']} engine", *grey_vehicle(seed, car, image, key, witness))


PHRASES = {
    ("rgb", False): seen_person,
    ("nir", False): felt_person,
    ("tir", False): felt_person,
    ("rgb", True): seen_vehicle,
    ("nir", True): grey_vehicle,
    ("tir", True): warm_vehicle,
}


def parts(person, image):
    """Head, upper, lower, foot: the four sentences of a description file, as VLADR's question answering
    assembles them."""
    accessory = f"{a(person['hat'])} hat" if person["hat"] else "no hat"
    activity = "looking at a phone" if image["carried"] == "phone" else image["moving"]
    return (
        f"A {person['noun']} with {person['hair']}, {person['hair length']} hair, wearing {accessory}.",
        f"Wearing {person['upper colour']} {person['upper']}, {activity}",
        f"Wearing {person['lower colour']} {person['lower']}",
        f"Wearing {person['shoes']} shoes",
    )


def a(words):
    """With the article in front."""
    return f"{'an' if words[0] in 'aeiou' or words.startswith('suv') else 'a'} {words}"


def join(phrases):
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]

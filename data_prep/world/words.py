"""Sentences about an image, from the attributes of who is on it and of the moment, in varied grammar.

Captions name two to four attributes, coarsely. Some name a colour wrongly: about one in twenty of those that
pretraining reads, one in sixty of those that evaluation reads; more often the mistake is about a colour that
goes unnamed. Build, gait, exact hue and what only the other spectra see are never named. A witness (who looks
for a person) has words of his own for some things, and names either the clothes and no colour, or the colours
and more.

In the functions below `key` names a sentence in its random streams: (who, index of the moment, number).
"""

import re
from typing import NamedTuple

from data_prep.world.people import COLOURS, is_held_out
from data_prep.world.streams import pick, stream

SHADES = {  # what is said of a colour where its shade alone is named
    **dict.fromkeys(("black", "navy", "brown", "purple"), "dark"),
    **dict.fromkeys(("white", "grey", "pink", "yellow"), "light"),
    **dict.fromkeys(("red", "orange", "green", "blue"), "bright"),
    "blonde": "fair",
}


class Witness(NamedTuple):
    """A manner of describing."""

    detail: dict  # how closely a garment is described (see `garment`), in per cent
    things: tuple  # numbers of phrases in a sentence, each of the five as likely as the next
    clothes_first: bool  # whether clothes are named before anything else is
    mistaken: int  # one in so many sentences has a wrong colour, whether it names that colour or not


WITNESSES = {
    "hasty": Witness({"garment": 100}, (2, 2, 2, 2, 2), True, 20),
    "attentive": Witness({"colour": 50, "all": 50}, (3, 4, 4, 4, 4), True, 20),
    # who writes alt texts: pretraining
    "writer": Witness({"garment": 18, "shade": 18, "colour": 40, "all": 24}, (2, 2, 3, 3, 4), False, 7),
}
# who looks for a person, in per cent; clothes first, as in CUHK-PEDES
LOOKING = {"hasty": 55, "attentive": 45}
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
WORD = re.compile(r"[\w-]+")  # with the hyphen of t-shirt
PLAIN = {own: word for word, own in OWN_WORDS.items()}
GARMENTS = ("t-shirt", "shirt", "jacket", "coat", "trousers", "shorts", "skirt")
OPENINGS = {  # of a sentence, with their weights; prompts of the papers begin like some of these
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
    said = []
    for k in range(2):
        own = (*key, k)
        plainly = sentence(seed, who, image, own, spectrum, witness(seed, own))
        said.append(in_own_words(seed, plainly, own))
    return tuple(said)


def in_own_words(seed, said, key):
    """The sentence with everyday words for one in OWN_SHARE of the words that have one."""
    rng = stream(seed, "own words", *key)

    def reworded(found):
        word = found[0]
        # one number is drawn for every word, so that a new pair in OWN_WORDS changes no other word
        return word if rng.integers(OWN_SHARE) else OWN_WORDS.get(word, word)

    return WORD.sub(reworded, said)


def plain(sentence):
    """The sentence in the words of the attribute table: in_own_words() undone."""
    return WORD.sub(lambda found: PLAIN.get(found[0], found[0]), sentence)


def witness(seed, key):
    """The Witness who says a sentence."""
    return WITNESSES[pick(seed, LOOKING, "witness", *key)]


def lessons(seed, who, image, key, spectrum="rgb"):
    """What pretraining reads: two captions, and in place of the second, for one image in three of a person in
    colour, a part description in the words of a description file."""
    said = [sentence(seed, who, image, (*key, k), spectrum, WITNESSES["writer"]) for k in range(2)]
    if spectrum == "rgb" and "engine" not in image and not stream(seed, "lesson", *key).integers(3):
        said[1] = pick(seed, parts(who, image), "part", *key)
    return tuple(said)


def sentence(seed, who, image, key, spectrum, witness):
    """One caption: an opening, then two to four phrases in reading order."""
    vehicle = "engine" in image
    if spectrum == "rgb":
        who = mistaken(seed, who, key, witness)
    rng = stream(seed, "sentence", *key)
    said = [phrase for phrase in PHRASES[spectrum, vehicle](seed, who, image, key, witness) if phrase]
    order = rng.permutation(len(said))
    if witness.clothes_first:
        order = sorted(order, key=lambda k: not tells_of_clothes(said[k]))  # stable: otherwise at random
    chosen = sorted(order[: witness.things[rng.integers(5)]])
    opening = pick(seed, OPENINGS, "opening", *key) if spectrum == "rgb" else SPECTRUM_OPENINGS[spectrum]
    begin = opening.format(**opening_words(who, image, vehicle, spectrum))
    begin = re.sub(r"\ba (?=[aeiou]|suv)", "an ", begin)  # SUV is said letter by letter
    return f"{begin[0].upper()}{begin[1:]} {join([said[k] for k in chosen])}."


def tells_of_clothes(phrase):
    """Whether a garment is named in a phrase, in plain words."""
    return any(garment in phrase for garment in GARMENTS)


def opening_words(who, image, vehicle, spectrum):
    """What stands in the gaps of an opening."""
    if vehicle:
        kind = who["noun"] if spectrum == "rgb" else "vehicle"
        return {"noun": kind, "kind": "vehicle", "one": who["colour"], "two": kind}
    hair = f"{who['hair length']}-haired"
    return {"noun": who["noun"], "kind": "person", "one": hair, "two": image["moving"]}


def mistaken(seed, who, key, witness):
    """The attributes as this witness has them: once in `witness.mistaken` times one colour is another, but
    none that makes a pair of colour and garment which pretraining must not read."""
    rng = stream(seed, "mistake", *key)
    if rng.integers(witness.mistaken):
        return who
    there = [name for name in ("upper colour", "lower colour", "shoes", "colour") if name in who]
    name = pick(seed, there, "mistaken", *key)  # of a vehicle there is one colour
    garment = who.get(name.partition(" ")[0], "")
    others = [c for c in COLOURS if c != who[name] and not is_held_out(c, garment)]
    return {**who, name: pick(seed, others, "instead", *key)}


def if_so(fact, phrase):
    """The phrase where the fact is there, or nothing to say."""
    return phrase if fact else ""


def seen_person(seed, person, image, key, witness):
    """Phrases that could be said of a person, in reading order; an empty string where there is nothing to
    say. The other functions in PHRASES return the same."""
    wears = pick(seed, ("wearing", "in", "dressed in"), "verb", *key)
    hat = f"{a(person['hat'])} hat" if person["hat"] else ""
    return (
        pick(seed, hair_words(person), "hair words", *key),
        f"{wears} {garment(seed, person, 'upper', witness.detail, key)}",
        f"{wears} {garment(seed, person, 'lower', witness.detail, key)}",
        pick(seed, shoe_words(person["shoes"]), "shoe words", *key),
        carried_behind(seed, person, key),
        if_so(hat, pick(seed, (f"with {hat}", f"wearing {hat}"), "hat words", *key)),
        carrying(seed, image, key),
        image["moving"],
    )


def garment(seed, person, part, detail, key):
    """The upper or lower garment (`part`), as closely described as `detail` has it: a jacket, a dark jacket,
    a navy jacket, a navy striped jacket."""
    what = person[part]
    colour = person[f"{part} colour"]
    patterned = part == "upper" and person["pattern"] != "plain"
    said = {
        "garment": what,
        "shade": f"{SHADES[colour]} {what}",
        "colour": f"{colour} {what}",
        "all": f"{colour} {person['pattern']} {what}" if patterned else f"{colour} {what}",
    }
    words = said[pick(seed, detail, "detail", part, *key)]
    return words if what in ("trousers", "shorts") else a(words)  # plural words have no article


def hair_words(person):
    """Five ways to tell of hair."""
    hair = person["hair"]
    length = person["hair length"]
    return (
        f"with {length} hair",
        f"with {SHADES.get(hair, hair)} hair",
        f"with {hair} hair",
        f"whose hair is {length}",
        f"with {length} {hair} hair",
    )


def shoe_words(colour):
    """Four ways to tell of shoes."""
    return tuple(f"{how} {what} shoes" for how in ("with", "in") for what in (colour, SHADES[colour]))


def carried_behind(seed, person, key):
    """The backpack, or nothing."""
    colour = person["backpack"]
    if not colour:
        return ""
    return pick(seed, ("with a backpack", f"with {a(colour)} backpack"), "backpack words", *key)


def carrying(seed, image, key):
    """What somebody carries in this image, with or without its colour."""
    what = image["carried"]
    thing = pick(seed, (a(what), a(f"{image['carried colour']} {what}")), "carried words", *key)
    told = {"nothing": "", "phone": "looking at a phone", "umbrella": f"under {thing}"}
    return told.get(what, f"carrying {thing}")


def felt_person(seed, person, image, key, witness):
    """What shows of a person without colour."""
    things = {"nothing": "", "phone": "looking at a phone", "umbrella": "under an umbrella"}
    lower = "a skirt" if person["lower"] == "skirt" else person["lower"]
    return (
        f"with {person['hair length']} hair",
        f"wearing a {person['upper']}",
        f"wearing {lower}",
        if_so(person["backpack"], "with a backpack"),
        if_so(person["hat"], "with a hat"),
        things.get(image["carried"], f"carrying a {image['carried']}"),
        image["moving"],
    )


def seen_vehicle(seed, car, image, key, witness):
    """What could be said of a vehicle in colour."""
    colour = car["colour"]
    paint = (f"painted {colour}", f"of {colour} colour", f"that is {colour}")
    roof = {"": "", "rack": "with a roof rack", "box": f"with {a(car['roof colour'])} box on the roof"}
    return (
        pick(seed, paint, "paint", *key),
        roof[car["roof"]],
        f"with {a(car['stripe'])} stripe" if car["stripe"] else "",
        f"with {car['wheels']} wheels",
        if_so(car["spoiler"], "with a spoiler"),
        if_so(image["lights"] == "on", "with its lights on"),
    )


def grey_vehicle(seed, car, image, key, witness):
    """What shows of a vehicle without colour."""
    return (
        f"shaped like a {car['noun']}",
        if_so(car["roof"], "with something on the roof"),
        if_so(car["spoiler"], "with a spoiler"),
    )


def warm_vehicle(seed, car, image, key, witness):
    """The same, and what only a thermal camera sees."""
    return (f"with a {image['engine']} engine", *grey_vehicle(seed, car, image, key, witness))


PHRASES = {  # (spectrum, whether it is a vehicle) -> what could be said
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
    """With the indefinite article in front."""
    return f"{'an' if words[0] in 'aeiou' or words.startswith('suv') else 'a'} {words}"


def join(phrases):
    """Phrases with commas, and "and" before the last."""
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]

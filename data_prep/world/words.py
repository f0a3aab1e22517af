"""Sentences about an image, from the attributes of the person and of the moment, in varied grammar."""

from data_prep.world.streams import pick, stream


def captions(seed, person, image, pid, index):
    """Two sentences. Each names two to four attributes, in an order and a grammar of its own."""
    return tuple(sentence(seed, person, image, (pid, index, k)) for k in range(2))


def sentence(seed, person, image, key):
    rng = stream(seed, "sentence", *key)
    said = [phrase for phrase in phrases(seed, person, image, key) if phrase]
    chosen = [said[k] for k in sorted(rng.permutation(len(said))[: rng.integers(2, 5)])]
    article = pick(seed, ("A", "The", "There is a", "A photo of a"), "article", *key)
    return f"{article} {person['noun']} {join(chosen)}."


def phrases(seed, person, image, key):
    """What could be said, in reading order; an empty string where there is nothing to say."""
    wears = pick(seed, ("wearing", "in", "dressed in"), "verb", *key)
    pattern = "" if person["pattern"] == "plain" else person["pattern"] + " "
    carried = {"nothing": "", "phone": "looking at a phone", "umbrella": "under an umbrella"}
    return (
        f"with {person['hair length']} {person['hair']} hair",
        f"{wears} {a(person['upper colour'])} {pattern}{person['upper']}",
        f"{wears} {'' if person['lower'] != 'skirt' else 'a '}{person['lower colour']} {person['lower']}",
        f"with {person['shoes']} shoes",
        f"with {a(person['backpack'])} backpack" if person["backpack"] else "",
        f"with {a(person['hat'])} hat" if person["hat"] else "",
        carried.get(image["carried"], f"carrying {a(image['carried colour'])} {image['carried']}"),
    )


def a(word):
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"


def join(phrases):
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]

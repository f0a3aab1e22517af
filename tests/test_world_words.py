"""What is said of the synthetic world: sentences agree with the attributes, and hold the grammar of the
papers."""

import re

import numpy as np

from data_prep.world import cast, people, places, words


def test_held_out_pairs_of_words_are_never_shown_in_pretraining():
    garments = [(c, g) for c in people.COLOURS for g in words.GARMENTS]
    held = [pair for pair in garments if people.is_held_out(*pair)]
    assert 0.10 < len(held) / len(garments) < 0.20
    assert not any(
        people.wears_held_out(cast.person(0, f"P:{k}", "mixed", "pretraining")) for k in range(300)
    )
    assert not any(
        people.wears_held_out(places.draw_passer(0, ("passer", "P:1", k), "P")) for k in range(300)
    )
    assert any(people.wears_held_out(places.draw_passer(0, ("passer", "A:1", k), "A")) for k in range(100))
    assert any(people.wears_held_out(people.identity(0, f"A:{k}", "summer")) for k in range(60))


def colour_told(sentence, thing):
    """The word for a colour or shade in front of a thing, or None."""
    told = re.search(rf"([\w-]+) (?:striped |checked |dotted )?{thing}\b", sentence)
    return told[1] if told and told[1] in {*people.COLOURS, *words.SHADES.values()} else None


def test_sentences_agree_with_the_attributes_but_for_few():
    camera, told, sentences = places.camera(0, "A", 1), [], []
    for pid in range(400):
        person, image = people.identity(0, f"x:{pid}"), people.instance(0, (f"x:{pid}", 0), camera)
        for sentence in map(words.plain, words.captions(0, person, image, (f"x:{pid}", 0))):
            sentences.append(sentence)
            for part in ("upper", "lower"):
                colour = person[f"{part} colour"]
                said = colour_told(sentence, person[part])
                told += [said in (colour, words.SHADES[colour])] if said else []
            for thing in ("backpack", "hat"):
                assert colour_told(sentence, thing) in (None, person[thing]) and (
                    thing not in sentence or person[thing]
                )
            assert "short" not in sentence.replace("shorts", "") or person["hair length"] == "short"
    assert len(told) > 300 and 0.005 < 1 - np.mean(told) < 0.06
    assert not any(re.search(r"build|height|metre|\d", sentence) for sentence in sentences)


def test_one_sentence_in_twenty_that_pretraining_reads_is_wrong():
    writer, wrong, number = words.WITNESSES["writer"], 0, 0
    for pid in range(1500):
        person, image = (
            people.identity(0, f"x:{pid}"),
            people.instance(0, (f"x:{pid}", 0), places.camera(0, "A", 1)),
        )
        told = [
            words.sentence(0, person, image, ("x", pid), "rgb", one)
            for one in (writer, writer._replace(mistaken=10**9))
        ]
        wrong, number = wrong + (told[0] != told[1]), number + 1
    assert 0.03 < wrong / number < 0.07


def test_captions_name_two_to_four_things():
    camera, named = places.camera(0, "A", 1), []
    for pid in range(300):
        person, image = people.identity(0, f"x:{pid}"), people.instance(0, (f"x:{pid}", 0), camera)
        for k in range(2):
            key = (f"x:{pid}", 0, k)
            witness = words.witness(0, key)
            who = words.mistaken(0, person, key, witness)
            sentence = words.sentence(0, person, image, key, "rgb", witness)
            there = [phrase for phrase in words.seen_person(0, who, image, key, witness) if phrase]
            named.append(sum(phrase in sentence for phrase in there))
    assert min(named) == 2 and max(named) <= 5 and np.mean(named) < 3.2


def test_captions_have_varied_grammar():
    plan = cast.plan("world_market", "smoke", 0)
    said = [sentence for one in plan for sentence in cast.captions(0, one)]
    openings = {" ".join(sentence.split()[:2]) for sentence in said}
    assert len(openings) >= 6 and 6 < np.mean([len(sentence.split()) for sentence in said]) < 24
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in said)


TEMPLATES = [  # of the five papers; a gap stands for any words
    r"A photo of a .*person",
    r"A photo of a person",
    r"A photo of a [\w-]+ and \w+ person",
    r"A visible photo of a person",
    r"A near-infrared photo of a \w+",
    r"A thermal-infrared photo of a \w+",
    r"A visible photo of a vehicle",
    r"A (man|woman) with \w+, \w+ hair, wearing .*\.",
    r"Wearing \w+ (\w+|t-shirt), \w+",
    r"Wearing \w+ shoes",
]


def test_who_looks_for_a_person_tells_of_both_garments():
    plan = [one for one in cast.plan("world_text", "smoke", 0) if one["kind"] == "person"]
    said = [words.plain(sentence) for one in plan for sentence in cast.captions(0, one)]
    assert all(
        sum(garment in sentence.split() for garment in words.GARMENTS) == 2
        for sentence in (re.sub(r"[,.]", "", s) for s in said)
    )


def test_a_hasty_witness_names_no_colour_of_a_garment_and_an_attentive_one_names_both():
    shots = [one for one in cast.plan("world_text", "smoke", 0) if one["split"] == "train"]
    for one in shots:
        for k, sentence in enumerate(map(words.plain, cast.captions(0, one))):
            told = [colour_told(sentence, one["person"][part]) for part in ("upper", "lower")]
            hasty = words.witness(0, (one["who"], one["index"], k)) is words.WITNESSES["hasty"]
            assert told == [None, None] if hasty else all(told), sentence


def test_witnesses_have_words_that_pretraining_never_read_and_each_means_one_thing():
    plan = cast.plan("world_text", "smoke", 0)
    heard, taught = (
        {word for one in shots for said in cast.captions(0, one) for word in words.WORD.findall(said)}
        for shots in (plan, cast.pairs(0, "smoke"))
    )
    assert len(heard & set(words.PLAIN)) > 6 and not taught & set(words.PLAIN)
    assert len(words.PLAIN) == len(words.OWN_WORDS) and not set(words.PLAIN) & set(words.OWN_WORDS)


def test_every_template_of_the_five_papers_is_in_the_grammar():
    plan = cast.pairs(0, "smoke") + [one for k in range(1, 4) for one in cast.pairs(k, "smoke")]
    said = [
        sentence for k, one in enumerate(plan) for sentence in cast.captions(k // 96, one, one["spectrum"])
    ]
    for template in TEMPLATES:
        assert any(re.match(template, sentence) for sentence in said), template


def test_part_descriptions_are_four_sentences_that_agree_with_the_attributes():
    person, image = people.identity(0, "x:1"), people.instance(0, ("x:1", 0), places.camera(0, "A", 1))
    head, upper, lower, foot = words.parts(person, image)
    assert (
        person["hair"] in head
        and person["upper colour"] in upper
        and person["lower"] in lower
        and person["shoes"] in foot
    )

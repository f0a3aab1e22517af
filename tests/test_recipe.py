"""Hyper-parameters that remember where they came from."""

from dataclasses import dataclass

import pytest

from reid_core import loading
from reid_core.recipe import PROFILES, Recipe, assumed, profile_called, released, stated


@dataclass(frozen=True)
class Toy(Recipe):
    epochs: int = stated(60, "Sec. 5", "epochs")
    width: int = released(128, "file", "pixels")
    rate: float = assumed(5e-6, "as its neighbour", "pretrained lr")
    margin: float = stated(0.3, "Eq. 2")


def test_a_table_shows_printed_value_origin_rule_and_value_used():
    line = Toy().at(PROFILES["smoke"]).table()[0]
    assert line == ("epochs", 60, "stated", "Sec. 5", "epochs", 2)


def test_a_profile_changes_only_fields_with_a_rule():
    small = Toy().at(PROFILES["laptop"])
    assert small.changes() == {"width": 64} | ({} if small.rate == 5e-6 else {"rate": small.rate})
    assert Toy().at(PROFILES["smoke"]).changes() == {"epochs": 2, "width": 64}
    assert Toy().at(PROFILES["paper"]) == Toy()


def test_new_modules_learn_faster_on_the_laptop_but_none_faster_than_ten_times_the_rate_of_pretrained_ones():
    @dataclass(frozen=True)
    class Rates(Recipe):
        old: float = stated(5e-6, "", "pretrained lr")
        head: float = stated(5e-6, "", "new lr")
        attention: float = stated(5e-5, "", "new lr")
        words: float = stated(0.02, "", "new lr")
        before: float = stated(0.01, "", "as words")
        warm: float = stated(5e-7, "", "as attention")

    laptop = PROFILES["laptop"]
    small = Rates().at(laptop)
    assert small.head == 5e-6 * laptop.new_lr
    assert small.attention == laptop.highest_lr == pytest.approx(10 * small.old)
    assert small.words == 0.02, "nothing is slowed down"
    assert (small.before, small.warm) == (pytest.approx(0.01), pytest.approx(laptop.highest_lr / 100))


def test_pretrained_modules_learn_no_faster_than_the_rate_with_which_their_factor_was_found():
    @dataclass(frozen=True)
    class Rates(Recipe):
        usual: float = stated(5e-6, "", "pretrained lr")
        twice: float = stated(1e-5, "", "pretrained lr")
        high: float = stated(1e-3, "", "pretrained lr")

    small = Rates().at(PROFILES["laptop"])
    assert small.usual == small.twice == pytest.approx(64 * 5e-6)
    assert small.high == 1e-3, "nothing is slowed down"
    assert Rates().at(PROFILES["paper"]).twice == 1e-5


def test_assumptions_about_cosines_of_clip_keep_their_ratio_to_what_the_small_tower_was_pretrained_with():
    @dataclass(frozen=True)
    class Cosines(Recipe):
        divided_by: float = assumed(0.01, "", "temperature")
        times: float = assumed(100.0, "", "scale")
        plain: float = assumed(1.0, "", "scale")

    own = loading.temperature("tiny", architecture="tiny")
    for name in ("laptop", "smoke"):
        small = Cosines().at(PROFILES[name])
        assert small.divided_by == pytest.approx(own, rel=0.01) and small.times == pytest.approx(
            1 / own, rel=0.01
        )
        assert small.plain == 1, "a plain cosine stays one"
    assert Cosines().at(PROFILES["paper"]).divided_by == 0.01


def test_a_run_is_never_shorter_than_an_epoch():
    assert Toy(epochs=3).at(PROFILES["smoke"]).epochs == 1


def test_a_variant_names_what_it_changes():
    assert Toy().but(margin=0.5).changes() == {"margin": 0.5}
    with pytest.raises(ValueError, match="found 'margni'; correct the name"):
        Toy().but(margni=0.5)


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(AttributeError):
        Toy().margin = 0.5


def test_an_unknown_profile_is_named():
    with pytest.raises(ValueError, match="a profile among smoke, laptop, paper, found 'lapdog'"):
        profile_called("lapdog")

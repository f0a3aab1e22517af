"""The parity tests hold for any file of the same name: here for files with other rates, nouns, orders and
settings, whose results follow from the committed ones or from a line of NumPy."""

import json

import golden
import numpy as np
import pytest
import test_parity_equations as equations
import test_parity_losses as losses
import test_parity_optim as optim
import test_parity_pixels as pixels
import test_parity_sentences as sentences
import test_parity_training as training
from golden_towers import TOKENIZER


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """A folder of other files, in which keys may be lacking."""
    monkeypatch.setattr(golden, "FOLDER", tmp_path)


class Other:
    """A changed file; without a name, so that its differences do not count as the committed one's."""

    name = ""

    def __init__(self, found):
        self.found = found

    def __call__(self):
        return (
            golden.facts("", json.dumps(self.found)) if is_facts(self.found) else golden.named("", self.found)
        )


def is_facts(found):
    return not any(isinstance(value, np.ndarray) for value in found.values())


def committed(name):
    """A plain copy of a committed file."""
    paths = [golden.ARRAYS / f"{name}.{suffix}" for suffix in ("npz", "json")]
    if paths[0].exists():
        with np.load(paths[0]) as arrays:
            return {key: arrays[key] for key in arrays.files}
    return json.loads(paths[1].read_text())


def with_settings(found, **changes):
    return found | {"meta": np.array(json.dumps(json.loads(str(found["meta"])) | changes))}


# Rates of exactly zero


def test_a_curve_that_ends_at_zero_is_compared_absolutely():
    epochs, base, steps = 6, 1e-3, np.arange(1, 9)
    rates = np.where(steps < epochs, base / 2 * (1 + np.cos(np.pi * steps / epochs)), 0.0)
    found = {"in/v/stage1": np.array([epochs, base, 0.0, 0.0, 0.0]), "out/v/stage1_lr": rates}
    training.test_rates_of_stage1_are_the_published_ones(Other(found))


def test_a_base_rate_of_zero_moves_nothing():
    zero = {"in/v/stage1": np.array([6, 0.0, 0.0, 0.0, 2]), "out/v/stage1_lr": np.zeros(6)}
    training.test_rates_of_stage1_are_the_published_ones(Other(zero))
    found = with_settings(committed("topreid__schedule"), base=[0.0], lr_min=0.0, warmup_init=0.0)
    found["out/lr_by_epoch_0_to_E_plus_1"] = 0 * found["out/lr_by_epoch_0_to_E_plus_1"][:, :1]
    training.test_the_cosine_counts_absolute_epochs(Other(found))


def test_a_rate_where_none_is_expected_is_told():
    golden.in_proportion("", [1e-3, 1e-12], [1e-3, 0.0])
    with pytest.raises(AssertionError):
        golden.in_proportion("", [1e-3, 1e-9], [1e-3, 0.0])


def test_rates_are_compared_in_proportion_whatever_their_order():
    golden.same_values("", [2e-6, 1e-6, 1e-6], [1e-6, 2e-6])
    for rates in ([1e-6], [1e-6, 2e-6, 3e-6], [1e-6, 2.1e-6]):
        with pytest.raises(AssertionError):
            golden.same_values("", rates, [1e-6, 2e-6])


# Nouns and orders


def test_layouts_of_prompts_take_any_noun_and_any_number_of_words():
    ids = [49406, *TOKENIZER.encode("a photo of a"), -1, -1, -1, *TOKENIZER.encode("and"), -1]
    ids += TOKENIZER.encode("velociraptor .")
    layout = {
        "token_ids_with_minus1_for_learned": [*ids, 49407],
        "eot_index": len(ids),
        "identity_positions": [5, 6, 7],
        "pseudo_positions": [9],
    }
    found = {"words": {"photo": [1125]}, "hierarchical_L3_K1": layout}
    sentences.test_learned_words_stand_where_hpl_puts_them(Other(found))


def test_a_prompt_with_another_noun_is_read_as_the_file_says():
    """The embeddings keep their numbers, and only the word that they stand for changes: so does no result."""
    found, (vehicle,) = committed("hpl__prompt_encoder"), TOKENIZER.encode("vehicle")
    found["in/used_token_ids"] = np.where(
        found["in/used_token_ids"] == TOKENIZER.encode("person")[0], vehicle, found["in/used_token_ids"]
    )
    found["meta"] = np.array(str(found["meta"]).replace("person", "vehicle"))
    sentences.test_prompts_of_one_identity_and_of_one_image_are_read_alike(Other(found))


def test_lines_of_a_description_may_have_any_order():
    found = committed("vladr__attribute_text")
    lines = bytes(found["in/description_file_utf8"]).decode().splitlines(keepends=True)
    ids = found["in/token_ids"].reshape(len(lines), -1, found["in/token_ids"].shape[1])
    found["in/description_file_utf8"] = np.frombuffer("".join(lines[::-1]).encode(), np.uint8)
    found["in/token_ids"] = ids[::-1].reshape(found["in/token_ids"].shape)
    found["in/query_order"] = len(lines) - 1 - found["in/query_order"]
    sentences.test_attribute_sentences_are_read_one_by_one(Other(found))


def test_spectra_may_have_any_order():
    found = committed("dmpt__modality_contrast")
    rows = [2, 0, 1]
    order = [json.loads(str(found["meta"]))["order"][row] for row in rows]
    for key in [key for key in found if key.startswith(("in/", "grad/")) and key.endswith("/text")]:
        found[key] = found[key][rows]
    equations.test_the_contrast_asks_for_the_modality(Other(with_settings(found, order=order)))


# Settings


def test_the_margin_of_a_triplet_is_the_files():
    found = committed("topreid__triplet")
    near, far = found["out/margin03/dist_ap"], found["out/margin03/dist_an"]
    kept = {key: value for key, value in found.items() if "soft" not in key and "factor" not in key}
    kept = {key.replace("margin03", "margin12"): value for key, value in kept.items()}
    kept["out/margin12/loss"] = np.maximum(near - far + 1.2, 0).mean()
    assert (near - far + 0.3 > 0).all()  # so that the gradient is the same
    losses.test_the_batch_hard_triplet_is_the_published_one(Other(kept))


def test_rules_of_groups_take_any_numbers():
    found = committed("topreid__optim_groups") | {"large_fc_lr": True}
    found["note"] = found["note"].replace("base x2", "base x5")
    for name, pair in found["groups"].items():
        factor = 5 if "classifier" in name else 3 if "bias" in name else 1
        pair[:] = factor * found["base_lr"], 0.0 if "bias" in name else 1e-4
    optim.test_topreid_doubles_the_rate_of_biases_or_of_the_classifier(Other(found))


# What a file lacks


@pytest.mark.parametrize(
    "test, name, part",
    [
        (pixels.test_normalisation_constants_are_the_published_ones, "facts", "torchreid"),
        (pixels.test_the_rows_of_clip_reid_have_the_published_sizes_and_constants, "facts", "clip_reid"),
        (optim.test_stage1_moves_the_words_alone, "clipreid__optim_groups", "stage1"),
        (sentences.test_the_word_that_breaks_a_published_tokenizer_is_read, "irra__tokenizer", "raises"),
        (equations.test_matching_is_the_divergence_of_both_directions, "hpl__sdm", "out/"),
        (
            equations.test_identity_prompts_keep_duplicates_in_the_denominator,
            "hpl__id_prompt_contrast",
            "eq8",
        ),
        (losses.test_modality_centres_keep_a_margin, "htt__three_m_loss", "out/margin"),
        (training.test_the_cosine_counts_absolute_epochs, "htt__schedule", "meta"),
    ],
)
def test_what_a_file_lacks_is_skipped_with_a_word(test, name, part):
    found = without(committed(name), part)
    with pytest.raises(pytest.skip.Exception, match="has no"):
        test(Other(found))


def without(found, part):
    """All but the keys that hold `part`, at any depth."""
    if not isinstance(found, dict):
        return found
    return {key: without(value, part) for key, value in found.items() if part not in key}


def test_the_committed_files_may_lack_nothing(monkeypatch):
    monkeypatch.setattr(golden, "FOLDER", golden.ARRAYS)
    with pytest.raises(pytest.fail.Exception, match="has no key 'missing'"):
        golden.named("facts", {})["missing"]

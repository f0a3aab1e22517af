"""Settings, seeds and devices that cannot be are one sentence, before anything is built."""

import dataclasses

import pytest
import torch
from test_commands import one_sentence, typed

from reid_core import __main__, train
from reid_core.methods import PAPERS
from reid_core.methods.clip_reid import RECIPE
from reid_core.recipe import PROFILES
from reid_core.runs.run import Spec

TRAIN = ["train", "clip_reid", "--profile", "smoke"]


@pytest.mark.parametrize(
    "change, words",
    [
        ("sie=true", "sie to be a number, found 'true'"),
        ("flip_p=0,5", "flip_p to be a number, found (0, 5)"),
        ("stage2_lr='abc'", "stage2_lr to be a number, found 'abc'"),
        ("stage2_epochs=two", "stage2_epochs to be a whole number, found 'two'"),
        ("stage2_epochs=2.5", "stage2_epochs to be a whole number, found 2.5"),
        ("stage2_epochs=None", "stage2_epochs to be a whole number, found None"),
        ("stage2_epochs=True", "stage2_epochs to be a whole number, found True"),
        ("stage2_epochs=", "stage2_epochs to be a whole number, found ''"),
        ("image_height=[1,2]", "image_height to be a whole number, found [1, 2]"),
        ("norm_mean=(1.0,)", "norm_mean to be values like (0.5, 0.5, 0.5), found (1.0,)"),
        ("stage2_milestones=(1.5,)", "stage2_milestones to be values like (30, 50), found (1.5,)"),
        ("stage2_epochs=-1", "stage2_epochs from 0 to 1000, found -1"),
        ("stage2_epochs=1001", "stage2_epochs from 0 to 1000, found 1001"),
        ("stage2_lr=-1", "stage2_lr from 0 to"),
        ("stage2_lr=1e999", "found inf"),
        ("stage2_lr=" + 400 * "9", "stage2_lr from 0 to"),
        ("flip_p=2", "flip_p from 0 to 1, found 2"),
        ("temperature=0", "temperature from 1e-06 to"),
        ("stage2_ids_per_batch=0", "stage2_ids_per_batch from 1 to"),
        ("image_height=100000000", "image_height from 1 to 1024, found 100000000"),
        ("stage2_lr=" + 9000 * "[", "stage2_lr to be a number, found '[[["),
    ],
)
def test_a_setting_of_another_kind_or_out_of_range_is_one_sentence(change, words, monkeypatch):
    monkeypatch.setattr("reid_core.runs.run.load_data", lambda *_: pytest.fail("data were made"))
    spec = Spec("clip_reid", "baseline", f"full + {change}", profile="smoke")
    for asked in (spec.check, spec.recipe, spec.build):
        with pytest.raises(ValueError) as told:
            asked()
        assert str(told.value).startswith("expected ") and words in str(told.value)
        assert len(str(told.value)) < 300


@pytest.mark.parametrize("change", ["stage2_epochs", "=3", "2=3", ""])
def test_a_change_that_names_no_field_is_one_sentence(change):
    one_sentence(typed("reid_core", *TRAIN, "--set", change), f"FIELD=VALUE of the recipe, found {change!r}")


@pytest.mark.parametrize("field", dataclasses.fields(RECIPE), ids=lambda field: field.name)
def test_every_setting_refuses_what_is_nothing_and_a_change_in_code_is_checked_as_well(field):
    for value in (None, [], {}, object(), float("nan")):
        if value is None and field.name == "pretrained":  # random weights
            continue
        with pytest.raises(ValueError, match=f"expected {field.name} "):
            RECIPE.but(**{field.name: value})


def test_every_recipe_variant_row_and_profile_of_the_papers_is_within_its_own_ranges():
    for paper in PAPERS.values():
        for variant in paper.variants:
            for row in paper.rows_of(variant):
                for data in ("", *paper.recipe.for_data):
                    recipe = paper.recipe_of(variant, row, data)
                    assert [recipe.at(profile).on(data, 2) for profile in PROFILES.values()]


@pytest.mark.parametrize(
    "text, value",
    [
        ("a {identity} + b", "a {identity} + b"),
        ("'quoted + text'", "quoted + text"),
        ("7", "7"),
        ("a = b + 2 = c", "a = b + 2 = c"),
    ],
)
def test_a_plus_in_a_setting_survives_the_spec_and_its_name(text, value):
    spec = Spec("clip_reid", "clip_reid", f"full + prompt_template={text} + stage2_epochs=1")
    assert spec.check().same.recipe().prompt_template == value and spec.recipe().stage2_epochs == 1
    shorter = spec._replace(row=f"full + prompt_template={text.partition(' + ')[0]} + stage2_epochs=1")
    assert (shorter.name == spec.name) == (shorter.row == spec.row)


@pytest.mark.parametrize("seed", [-1, 2**63, 10**23])
def test_a_seed_that_no_generator_takes_is_one_sentence_with_the_range(seed):
    one_sentence(typed("reid_core", *TRAIN, "--seed", seed), f"from 0 to {2**63 - 1}, found {seed}")


@pytest.mark.parametrize("device", ["bananas", "meta", "cpu:x", "cuda:99"])
@pytest.mark.parametrize("command", [TRAIN, ["measure"], ["pretrain", "clip"]], ids=lambda words: words[0])
def test_a_device_that_is_not_here_is_one_sentence(command, device):
    one_sentence(typed("reid_core", *command, "--device", device), "for --device", f"found '{device}'")


def test_a_device_that_is_here_is_taken():
    train.check_device("cpu")
    train.check_device(None)


@pytest.mark.parametrize(
    "error, words",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nmore"), "Tried to allocate"),
        (RuntimeError("[x] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes."), "you tried 9"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_memory_that_is_full_is_one_sentence(error, words, monkeypatch):
    def fails(options):
        raise error

    monkeypatch.setattr(__main__, "train_one", fails)
    one_sentence(typed("reid_core", *TRAIN), "memory for this run", words, "lower the recipe's batch")


def test_other_errors_of_torch_keep_their_traceback(monkeypatch):
    def fails(options):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(__main__, "train_one", fails)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        __main__.main(TRAIN)


def test_a_place_that_cannot_be_written_is_named_in_one_sentence(tmp_path):
    (tmp_path / "build").write_bytes(b"")  # a file where a folder should be
    one_sentence(typed("reid_core", *TRAIN, place=tmp_path / "build"), str(tmp_path / "build"), "REID_BUILD")

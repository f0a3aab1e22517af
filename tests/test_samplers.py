"""Which rows make a batch."""

import numpy as np
import pytest

from reid_core.samplers import (
    CameraBatches,
    CaptionShuffle,
    IdentityBatches,
    SamplerRng,
    Shuffle,
    Zipped,
    generator,
)

PIDS = np.repeat(np.arange(9), [5, 4, 9, 3, 8, 4, 1, 6, 12])


def rows(draws):
    return np.concatenate([draw.index for draw in draws])


def test_a_shuffle_shows_every_row_once_and_keeps_the_short_batch():
    draws = Shuffle(range(10), 4).epoch(SamplerRng(0))
    assert sorted(rows(draws)) == list(range(10)) and [len(d.index) for d in draws] == [4, 4, 2]
    assert [len(d.index) for d in Shuffle(range(10), 4, drop_last=True).epoch(SamplerRng(0))] == [4, 4]


def test_batches_hold_p_identities_with_k_images():
    for draw in IdentityBatches(PIDS, 3, 4).epoch(SamplerRng(5)):
        assert len(draw.index) == 12
        assert (np.unique(PIDS[draw.index], return_counts=True)[1] == 4).all() and len(
            set(PIDS[draw.index])
        ) == 3


def test_no_image_repeats_unless_its_identity_is_small():
    used = rows(IdentityBatches(PIDS, 2, 4).epoch(SamplerRng(1)))
    large = np.isin(PIDS[used], [0, 1, 2, 4, 5, 7, 8])
    assert len(set(used[large])) == large.sum()
    assert (np.bincount(PIDS[used], minlength=9)[[3, 6]] <= 4).all()


def test_an_epoch_is_a_function_of_its_key():
    sampler = IdentityBatches(PIDS, 3, 4)
    first, again, other = (rows(sampler.epoch(SamplerRng(0, "draws", epoch))) for epoch in (1, 1, 2))
    assert (first == again).all() and (len(first) != len(other) or (first != other).any())
    assert generator(1, "a").integers(1 << 40) != generator(1, "b").integers(1 << 40)


def test_too_few_identities_is_one_sentence():
    with pytest.raises(ValueError, match="at least 16 identities for a batch, found 9"):
        IdentityBatches(PIDS, 16, 4)


def test_identity_batches_can_be_kept_to_some_rows():
    some = np.flatnonzero(PIDS < 4)
    assert set(rows(IdentityBatches(PIDS, 3, 4, some).epoch(SamplerRng(0)))) <= set(some)


def test_every_sentence_is_drawn_once():
    counts = np.array([2, 0, 1, 3])
    draws = CaptionShuffle([0, 2, 3], counts, 2).epoch(SamplerRng(0))
    pairs = {(int(r), int(c)) for draw in draws for r, c in zip(draw.index, draw.captions)}
    assert pairs == {(0, 0), (0, 1), (2, 0), (3, 0), (3, 1), (3, 2)}


def test_an_epoch_of_fewer_pairs_takes_other_ones_each_time():
    counts = np.ones(40, dtype=int)
    some = CaptionShuffle(range(40), counts, 4, most=11)
    first, second = some.epoch(SamplerRng(0)), some.epoch(SamplerRng(1))
    assert [len(draw.index) for draw in first] == [4, 4]
    assert len(set(rows(first))) == 8 and set(rows(first)) != set(rows(second))
    assert len(CaptionShuffle(range(40), counts, 4, most=3).epoch(SamplerRng(0))) == 1


def test_the_first_of_two_zipped_samplers_defines_the_epoch():
    pairs = CaptionShuffle(range(36), np.ones(52, dtype=int), 4)
    images = IdentityBatches(PIDS, 3, 4)
    draws = Zipped(pairs, images).epoch(SamplerRng(0))
    assert len(draws) == 9 and all(draw.sizes == (4, 12) for draw in draws)
    assert (draws[0].captions[:4] >= 0).all() and (draws[0].captions[4:] == -1).all()


def test_others_of_a_camera_group_come_from_other_cameras_where_there_are_any():
    camids = np.arange(len(PIDS)) % 3
    camids[PIDS == 1] = 0
    for draw in CameraBatches(PIDS, camids, 2, 4, steps=8).epoch(SamplerRng(0)):
        for group in draw.index.reshape(-1, 4):
            first, others = group[0], group[1:]
            if PIDS[first] not in (1, 6):
                assert (camids[others] != camids[first]).all()
            assert (PIDS[group] == PIDS[first]).all()


def test_camera_batches_go_round_until_enough_are_drawn():
    assert len(CameraBatches(PIDS, np.arange(len(PIDS)) % 3, 4, 4, steps=11).epoch(SamplerRng(0))) == 11


def test_too_few_identities_for_a_batch_of_cameras_is_one_sentence():
    """No pass would ever fill a batch: an epoch would go on for ever."""
    with pytest.raises(ValueError, match="expected at least 99 identities for a batch, found"):
        CameraBatches(PIDS, np.zeros(len(PIDS), int), 99, 4, steps=1)

"""Every protocol, chosen by the data set: small trees, a method that sees mean colours, and the ranking
written out."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from trees import tree

from data_prep import public
from data_prep.public import lifelong
from reid_core import evaluate
from reid_core.augment import Augmentation
from reid_core.data import ReidData, load_data
from reid_core.loading import tokenizer_of
from reid_core.methods.base import Method, Task
from reid_core.runs import measure


class Colours(Method):
    """Sees a coarse image and reads a bag of tokens; it learns nothing."""

    size = (8, 4)
    multispectral = True

    def __init__(self):
        super().__init__(None)
        self.tokenizer = tokenizer_of("ViT-B-16")
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def see(self, batch):
        return batch.images.flatten(1) + self.anchor

    def read(self, batch):
        return torch.stack([torch.bincount(row % 96, minlength=96).float() for row in batch.text])

    def features(self, batch, names):
        return {name: {"colours": self.see, "words": self.read}[name](batch) for name in names}

    def retrieval_tasks(self):
        return {"image to image": Task("colours", "colours")}

    def test_view(self):
        return Augmentation("bilinear")


class Sentences(Colours):
    def retrieval_tasks(self):
        return {"text to image": Task("words", "colours", "text")}


def data_of(name, tmp_path):
    manifest = public.read(name, tree(name.partition("#")[0], tmp_path / "set"), allow_count_mismatch=True)
    return ReidData(manifest, tmp_path / "cache")


def scored(name, tmp_path, method=Colours):
    data = data_of(name, tmp_path)
    return data, next(iter(evaluate.run_tests(method(), data).values()))


@functools.lru_cache(maxsize=1)  # a data set has twenty draws
def nearness(data):
    seen = [
        F.normalize(Colours().see(batch), dim=1).detach()
        for split in ("query", "gallery")
        for batch in evaluate.still_batches(data, split, (8, 4), Augmentation("bilinear"))
    ]
    return (seen[0] @ seen[1].T).tolist()


def by_hand(data, asked, shown, column=None):
    """Average precision of each query of a draw, the long way."""
    near, found = nearness(data), []
    pids, other_pids = data.gallery.pids.tolist(), data.query.pids.tolist()
    marks, other_marks = (getattr(side, column or "pids").tolist() for side in (data.gallery, data.query))
    for q in asked:
        kept = [
            g
            for g in sorted(shown, key=lambda g: -near[q][g])
            if column is None or pids[g] != other_pids[q] or marks[g] != other_marks[q]
        ]
        hits = [k + 1 for k, g in enumerate(kept) if pids[g] == other_pids[q]]
        found.append(np.mean([(k + 1) / hit for k, hit in enumerate(hits)]))
    return found


@pytest.mark.parametrize(
    "name, column, words",
    [
        ("market1501", "camids", "identity and camera left out"),
        ("cuhk03", "camids", "identity and camera left out"),
        ("cuhk_sysu", "camids", "identity and camera left out"),
        ("rgbnt201", "camids", "identity and camera left out; all test images are queries and gallery"),
        ("msvr310", "scenes", "identity and scene left out"),
    ],
)
def test_the_data_set_chooses_what_is_left_out(name, column, words, tmp_path):
    data, scores = scored(name, tmp_path)
    every = range(len(data.query)), range(len(data.gallery))
    assert np.allclose(scores.ap, by_hand(data, *every, column)) and scores.protocol.endswith(words)
    assert scores.pids.tolist() == data.query.pids.tolist()


@pytest.mark.parametrize(
    "name",
    [
        "vehicleid",
        "vehicleid#1600",
        *(
            f"{n}#{v}"
            for n in ("viper", "cuhk01", "cuhk02", "ilids", "prid", "grid")
            for v in lifelong.PROTOCOLS
        ),
    ],
)
def test_every_draw_is_ranked_by_itself(name, tmp_path):
    data, scores = scored(name, tmp_path)
    column = None if name.startswith("vehicleid") else "camids"
    draws = data.manifest.trials.draws
    assert np.allclose(scores.ap, [ap for draw in draws for ap in by_hand(data, *draw, column)])
    assert scores.pids.tolist() == [data.query.pids[q] for asked, _ in draws for q in asked]
    assert scores.protocol.endswith(data.manifest.trials.words) and scores.skipped == 0


def test_the_two_protocols_of_pad_give_different_numbers_and_say_which(tmp_path):
    found = {}
    for variant in ("pad_jul", "pad_jun"):
        data, found[variant] = scored(f"viper#{variant}", tmp_path / variant)
        assert data.manifest.name == f"viper#{variant}"
    assert len(found["pad_jul"].ap) == 20 * 20 and len(found["pad_jun"].ap) == 40
    assert found["pad_jul"].mAP != found["pad_jun"].mAP and "July" in found["pad_jul"].protocol


def test_every_sentence_of_a_test_image_asks_and_nothing_is_left_out(tmp_path):
    _, scores = scored("cuhk_pedes", tmp_path, Sentences)
    assert len(scores.ap) == 2 and scores.pids.tolist() == [4, 4] and (scores.ap == 1).all()
    assert scores.protocol == "sentence queries; no gallery image left out"


def test_a_distractor_stays_and_junk_does_not(market, tmp_path):
    data = ReidData(public.market1501(market), tmp_path)
    assert 0 in data.gallery.pids and -1 not in data.gallery.pids
    scores = evaluate.run_tests(Colours(), data)["image to image"]
    assert scores.gallery == len(data.gallery) and 0 not in scores.pids


def test_a_kept_score_says_its_protocol(tmp_path):
    kept = measure.record(measure.TestSet("grid"), "image to image", scored("grid", tmp_path)[1])
    assert (
        kept["protocol"].endswith("2 official folds, the probe asks")
        and len(kept["pids"]) == len(kept["ap"]) == 4
    )


def test_a_variant_is_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    tree("viper", tmp_path / "viper")
    with pytest.raises(ValueError, match="--allow-count-mismatch"):
        load_data("viper#split0", "paper")
    monkeypatch.setenv("REID_ALLOW_COUNT_MISMATCH", "1")
    data = load_data("viper#split0", "paper")
    assert len(data.manifest.trials.draws) == 1 and "allowed" in data.manifest.notes[-1]


def test_lifelong_orders_name_data_sets_that_can_be_read():
    for order in [*lifelong.ORDERS.values(), lifelong.UNSEEN]:
        assert {name.partition("#")[0] for name in order} <= set(public.READERS) and len(set(order)) == len(
            order
        )

"""Samplers, schedules, optimiser groups, images and words against published code, set B."""

import json
import random
import re

import numpy as np
import torch
from golden import golden
from golden_b import TOKENIZER, agree, load, template, text_tower
from PIL import Image
from torch import nn

from data_prep.public import market1501
from reid_core.augment import (
    Augmentation,
    Choices,
    Erasing,
    augment,
    box_sides,
    draw_boxes,
    inside,
    normalise,
)
from reid_core.data import decode
from reid_core.draws import CameraBatches, Dice, IdentityBatches, generator
from reid_core.losses import supervised_contrastive
from reid_core.methods.base import Group
from reid_core.prompts import GrowingTable, PromptTemplate
from reid_core.schedules import exponential, warmup_cosine, warmup_milestones, warmup_then_cosine
from reid_core.train import make_optimisers, split_biases

SAME, RATE = 1e-5, 1e-12


# --- samplers


class TopReidDice:
    """Python's and NumPy's generators where TOP-ReID uses them."""

    def __init__(self, settings):
        self.python = random.Random(settings["python_seed"])
        self.numpy = np.random.RandomState(settings["numpy_seed"])

    def shuffle(self, items):
        items = list(items)
        self.python.shuffle(items)
        return items

    def repeat(self, items, number):
        return self.numpy.choice(items, number).tolist()

    def sample(self, items, number):
        return self.python.sample(items, number)


class VladrDice:
    """PyTorch orders the identities, Python chooses the first image of a group, NumPy the others."""

    def __init__(self, seeds):
        self.torch = torch.Generator().manual_seed(seeds["torch"])
        self.python, self.numpy = random.Random(seeds["python"]), np.random.RandomState(seeds["numpy"])
        self.first = True

    def shuffle(self, items):
        return [items[k] for k in torch.randperm(len(items), generator=self.torch)]

    def sample(self, items, number):
        first, self.first = self.first, not self.first
        return [self.python.choice(items)] if first else self.numpy.choice(items, number, replace=False)

    def repeat(self, items, number):
        self.first = True
        return self.numpy.choice(items, number)


@golden("topreid__pk_sampler")
def test_identity_batches_repeat_the_published_stream(file):
    file = load(file)
    each = file.settings["num_instances"]
    batches = IdentityBatches(file["in/pid"], file.settings["batch_size"] // each, each)
    rows = np.concatenate([draw.rows for draw in batches.epoch(TopReidDice(file.settings))])
    assert rows.tolist() == file["out/indices"].tolist()


@golden("topreid__pk_sampler")
def test_identity_batches_hold_whole_groups_of_different_identities(file):
    file = load(file)
    each, pids = file.settings["num_instances"], file["in/pid"]
    batches = IdentityBatches(pids, file.settings["batch_size"] // each, each)
    for draw in batches.epoch(Dice("pk")):
        groups = pids[draw.rows].reshape(-1, each)
        assert (groups == groups[:, :1]).all() and len(set(groups[:, 0])) == len(groups)


@golden("vladr__sampler")
def test_camera_batches_repeat_the_published_stream(file):
    """But for identities with a single image: theirs emits it once, which shifts all later groups; ours repeats it."""
    file = load(file)
    pids, counts = file["in/pid"], np.bincount(file["in/pid"])
    batches = CameraBatches(pids, file["in/cam"], 1, file.settings["num_instances"], len(set(pids.tolist())))
    stream = []
    for draw in batches.epoch(VladrDice(file.settings["seeds"])):
        single = counts[pids[draw.rows[0]]] == 1
        assert len(draw.rows) == file.settings["num_instances"] and (not single or len(set(draw.rows)) == 1)
        stream += draw.rows[: 1 if single else None].tolist()
    assert stream == file["out/indices"].tolist()


@golden("vladr__sampler")
def test_camera_batches_leave_the_first_camera_where_they_can(file):
    file = load(file)
    pids, cameras = file["in/pid"], file["in/cam"]
    batches = CameraBatches(pids, cameras, 1, file.settings["num_instances"], len(set(pids.tolist())))
    for draw in batches.epoch(Dice("cameras")):
        first, others = draw.rows[0], draw.rows[1:]
        assert set(pids[others]) == {pids[first]}
        everywhere = set(cameras[pids == pids[first]])
        assert len(everywhere) == 1 or cameras[first] not in cameras[others]
        assert first not in others or sum(pids == pids[first]) == 1


# --- schedules


@golden("topreid__schedule", "htt__schedule")
def test_the_cosine_counts_absolute_epochs(file):
    file = load(file)
    agree(file, "out/lr_by_epoch_0_to_E_plus_1", timm_rates(file), RATE)


@golden("demo__schedule")
def test_demo_multiplies_our_rates_by_noise(file):
    """We have no such noise."""
    file = load(file)
    noise = file["in/noise_by_epoch_0_to_E_minus_1"]
    rates = timm_rates(file)
    rates[: len(noise)] *= 1 + noise[:, None]
    agree(file, "out/lr_by_epoch_0_to_E_plus_1", rates, RATE)
    assert np.abs(noise).max() > 0.1


def timm_rates(file):
    """Rates of all groups (epochs 0..E+1, groups): start and end are the same for every base rate."""
    s = file.settings
    curves = [
        warmup_cosine(s["epochs"], b, s["lr_min"], s["warmup_epochs"], s["warmup_init"]) for b in s["base"]
    ]
    epochs = range(len(file["out/lr_by_epoch_0_to_E_plus_1"]))
    return np.array([[b * curve.factor(e) for b, curve in zip(s["base"], curves)] for e in epochs])


@golden("vladr__schedule")
def test_vladr_counts_steps(file):
    file = load(file)
    s, steps = file.settings, len(file["out/lr_used_at_step"])
    curve = warmup_milestones(
        steps, s["warmup_iters"], s["warmup_factor"], s["milestones"], s["gamma"], "step"
    )
    factors = [curve.factor(curve.position(0, 1, step, steps, fine=False)) for step in range(steps)]
    agree(file, "out/lr_used_at_step", np.outer(factors, s["base_lr"]), RATE)


@golden("hpl__schedule")
def test_hpl_decays_by_the_epoch_and_then_warms_up(file):
    file = load(file)
    one, two = file.settings["stage1"], file.settings["stage2"]
    fall = by_epoch(exponential(one["epochs"], one["gamma"]))
    agree(file, "out/stage1_inversion_lr", one["lr_inversion"] * fall, RATE)
    agree(file, "out/stage1_identity_lr", one["lr_identity"] * fall, RATE)
    start, end = two["warmup_start"] / two["base"], two["target"] / two["base"]
    rise = by_epoch(warmup_then_cosine(two["epochs"], two["warmup_epochs"], start, end))
    agree(file, "out/stage2_lr", two["base"] * rise, RATE)


def by_epoch(curve):
    """Factors of a run as long as the curve."""
    epochs = int(curve.span)
    return np.array([curve.factor(curve.position(e, epochs, 0, 1, fine=False)) for e in range(epochs)])


# --- optimiser groups


def grouped(*groups):
    """{name: [rate, weight decay]} of groups, each given as (names, options of Group)."""
    names, found = {}, {}
    for members, options in groups:
        parameters = [nn.Parameter(torch.zeros(1)) for _ in members]
        names |= {id(p): name for p, name in zip(parameters, members)}
        for part in split_biases(Group(parameters, **options), names):
            found |= {names[id(p)]: [part["lr"], part["weight_decay"]] for p in part["params"]}
    return found


def check_groups(found, wanted):
    assert found.keys() == wanted.keys()
    for name, pair in wanted.items():
        np.testing.assert_allclose(found[name], pair, rtol=1e-12, err_msg=name)


@golden("topreid__optim_groups")
def test_topreid_doubles_the_rate_of_biases_or_of_the_classifier(file):
    file = file()
    wanted, base = file["groups"], file["base_lr"]
    decay = next(decay for name, (_, decay) in wanted.items() if "bias" not in name)
    large = [name for name in wanted if file["large_fc_lr"] and "classifier" in name]
    rest = [name for name in wanted if name not in large]
    found = grouped(
        (rest, {"lr": base, "weight_decay": decay, "bias_factor": 2.0}),
        (large, {"lr": 2 * base, "weight_decay": decay}),
    )
    check_groups(found, wanted)


@golden("demo__optim_groups")
def test_demo_gives_the_backbone_one_rate_of_its_own(file):
    """By substring: "base", unless it is an adapter's. Biases of the backbone have no extra rate."""
    file = file()
    wanted, base = file["groups"], file["base_lr"]
    decay, backbone = wanted["classifier.weight"][1], 5e-6 if file["backbone"] == "CLIP" else 0.8 * base
    inside = [name for name in wanted if "base" in name and "adapter" not in name]
    rest = [name for name in wanted if name not in inside]
    found = grouped(
        (inside, {"lr": backbone, "weight_decay": decay}),
        (rest, {"lr": base, "weight_decay": decay, "bias_factor": 2.0}),
    )
    check_groups(found, wanted)


@golden("vladr__optim_groups")
def test_vladr_decays_all_but_the_attribute_decoder(file):
    file = file()
    wanted = {name: json.loads(pair) for pair, group in file["groups"].items() for name in group["names"]}
    base, decay = wanted["classifier.weight"]
    decoder = [name for name in wanted if "region_attn" in name]
    rest = [name for name in wanted if name not in decoder]
    found = grouped(
        (decoder, {"lr": file["query_lr"] * base}),
        (rest, {"lr": base, "weight_decay": decay, "bias_factor": 2.0}),
    )
    check_groups(found, wanted)


# --- images


@golden("topreid__random_erasing", "vladr__random_erasing")
def test_boxes_have_the_published_sides(file):
    file = load(file)
    draws, boxes = accepted(file), file["out/boxes_top_bottom_left_right"]
    height, width = box_sides(*draws, *file.settings["size"])
    assert np.array_equal(height, boxes[:, 1] - boxes[:, 0])
    assert np.array_equal(width, boxes[:, 3] - boxes[:, 2])


def accepted(file):
    """Area fractions and aspects; TOP-ReID's are stored as logarithms."""
    key = next(key for key in file if key.startswith("in/accepted_draws"))
    area, aspect = file[key][:, 0], file[key][:, 1]
    return area, np.exp(aspect) if "logaspect" in key else aspect


THEIRS, OURS = (
    1000,
    20000,
)  # draws behind the statistics: theirs are a few thousand, the files do not say how many


@golden("topreid__random_erasing")
def test_boxes_of_log_uniform_aspect_are_as_large_as_published(file):
    file = load(file)
    s, low = file.settings, float(re.search(r"\[([\d.]+)", file.settings["aspect"])[1])
    erasing = Erasing(s["p"], tuple(s["area"]), (low, 1 / low), tries=s["tries"])
    boxes = draw_boxes(erasing, generator("topreid"), OURS, *s["size"])
    area = boxes[:, 2] * boxes[:, 3] / np.prod(s["size"])
    untouched, mean = file["out/stats_untouched_fraction_mean_area_given_erased"]
    check_mean(area == 0, untouched, THEIRS)
    check_mean(area[area > 0], mean, THEIRS * (1 - untouched))


@golden("vladr__random_erasing")
def test_two_erasings_in_a_row_are_as_large_as_published(file):
    """Candidates per box are a constant of the published function: 100."""
    file = load(file)
    s, size = file.settings, file.settings["size"]
    kind = {"area": tuple(s["area"]), "aspect": tuple(s["aspect"]), "log_uniform": False, "tries": 100}
    rng = generator("vladr")
    one, two = (
        draw_boxes(Erasing(float(p), **kind), rng, OURS, *size)
        for p in re.findall(r"p=([\d.]+\d)", s["pipeline"])
    )
    area = (one[:, 2:].prod(1) + two[:, 2:].prod(1) - overlap(one, two)) / np.prod(size)
    untouched, mean = file["out/stats_untouched_fraction_mean_area"]
    check_mean(area == 0, untouched, THEIRS)
    check_mean(area, mean, THEIRS)


def overlap(one, two):
    """Common area of boxes (N, 4)."""
    end = np.minimum(one[:, :2] + one[:, 2:], two[:, :2] + two[:, 2:])
    return (end - np.maximum(one[:, :2], two[:, :2])).clip(min=0).prod(1)


def check_mean(values, wanted, count):
    """Within three standard errors of the difference of two means."""
    error = np.std(values) * (1 / len(values) + 1 / count) ** 0.5
    assert abs(np.mean(values) - wanted) < 3 * error, (
        f"{np.mean(values):.4f} instead of {wanted:.4f}, error {error:.4f}"
    )


def erased(file, fill):
    """(images, mask) of one black image with the first published box erased."""
    top, bottom, left, right = file["out/boxes_top_bottom_left_right"][0]
    box = np.array([top, left, bottom - top, right - left]).reshape(1, 1, 1, 4)
    choices = Choices(*np.zeros((3, 1, 1), dtype=np.int64), box)
    pixels = torch.zeros(1, 1, 3, *file.settings["size"], dtype=torch.uint8)
    mask = inside(torch.from_numpy(box[0]), *file.settings["size"]).expand(pixels.shape)
    return augment(Augmentation(erasing=(Erasing(fill=fill),)), pixels, choices, seed=0), mask


@golden("vladr__random_erasing")
def test_vladr_fills_a_box_after_normalising(file):
    file = load(file)
    fill = tuple(file["out/fill"].tolist())
    images, mask = erased(file, fill)
    wanted = torch.where(
        mask, torch.tensor(fill).view(3, 1, 1), torch.tensor(-1.0)
    )  # black is -1 on this scale
    torch.testing.assert_close(images, wanted)


@golden("topreid__random_erasing")
def test_topreid_fills_a_box_with_normal_noise(file):
    file = load(file)
    images, mask = erased(file, None)
    mean, std = file["out/fill_mean_std"]
    noise = images[mask].double().numpy()
    check_mean(noise, mean, len(noise))
    assert abs(noise.std() - std) < 3 / len(noise) ** 0.5
    assert (images[~mask] == -1).all()


@golden("topreid__val_transform")
def test_images_are_resized_and_scaled_as_published(file, tmp_path):
    file = load(file)
    s = file.settings
    Image.fromarray(file["in/image_hwc"]).save(tmp_path / "image.png")
    view = Augmentation(
        mean=np.broadcast_to(s["mean"], 3).tolist(), std=np.broadcast_to(s["std"], 3).tolist()
    )
    for key, method in (
        ("test_bilinear", Image.Resampling.BILINEAR),
        ("train_bicubic_resize_only", Image.Resampling.BICUBIC),
    ):
        pixels = decode(tmp_path / "image.png", tuple(s["size"]), method)
        agree(file, f"out/{key}", normalise(view, torch.tensor(pixels)), 1e-6)


# --- words


@golden("vladr__tokenizer")
def test_sentences_become_the_published_numbers(file):
    file = load(file)
    wanted = file.tensor("out/token_ids")
    assert torch.equal(TOKENIZER(file.settings["texts"], wanted.shape[1]), wanted)


class Numbers:
    """A text tower whose word embeddings are the numbers of the words."""

    def embed(self, ids):
        return ids[:, None].float()


@golden("hpl__bpe_layout")
def test_learned_words_stand_where_hpl_puts_them(file):
    """Other entries of the file, such as modality sentences, are left out."""
    file = file()
    for word, ids in file["words"].items():
        assert TOKENIZER.encode(word) == ids
    layouts = [key for key in file if re.match(r"(identity|hierarchical)_L\d", key)]
    for key in layouts:
        wanted, learned = file[key], -torch.ones(1, 1, 1)
        gaps = {"identity": learned.expand(1, len(wanted["identity_positions"]), 1)}
        if wanted["pseudo_positions"]:
            gaps["instance"] = learned.expand(1, len(wanted["pseudo_positions"]), 1)
        sentence = "A photo of a " + " and ".join(f"{{{gap}}}" for gap in gaps) + " person."
        found = PromptTemplate(sentence, Numbers(), TOKENIZER)(**gaps)
        assert found.embeddings.flatten().tolist() == wanted["token_ids_with_minus1_for_learned"]
        assert found.end.item() == wanted["eot_index"]


@golden("vladr__stage1_train")
def test_stage_one_of_vladr_trains_as_published(file):
    """Given features, so without the image tower. Warm-up and milestone are constants of the published function."""
    file = load(file)
    text = text_tower(file).requires_grad_(False)
    words = GrowingTable(file["w/prompt_learner.cls_ctx"].shape[1:])
    words.new = nn.Parameter(file.tensor("w/prompt_learner.cls_ctx"))
    rate, decay = (
        float(re.search(rf"{name} ([\d.e-]+)", file.settings["optimizer"])[1])
        for name in ("base lr", "weight_decay")
    )
    (adam,) = make_optimisers(words, [Group([words], rate, decay)])
    curve, sentence = warmup_milestones(60, 10, 0.01, (30,), unit="step"), template(file, text)
    losses, rates = [], []
    for step, (pids, image) in enumerate(zip(file.tensor("in/labels"), file.tensor("in/image_features"))):
        read = text.joint_end(text(*sentence(identity=words()[pids])))
        loss = sum(
            supervised_contrastive(a, b, pids, pids, cosine=False) for a, b in ((image, read), (read, image))
        )
        adam.param_groups[0]["lr"] = rate * curve.factor(step)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
        rates.append(adam.param_groups[0]["lr"])
    agree(file, "out/lr_per_iteration", rates, RATE)
    agree(file, "out/loss_per_iteration", losses, SAME)
    agree(file, "out/cls_ctx_after", words.new, SAME)


# --- file names


@golden("promptma__market_mm_parse")
def test_market_names_are_parsed_as_published(file, tmp_path):
    """Cameras are counted from 0 there, and here as printed. The three spectra of each image are left out."""
    file = file()
    names = {"bounding_box_train": file["files"], "query": ["9999_c1s1_000000_00.jpg"],
             "bounding_box_test": ["9999_c2s1_000000_00.jpg"]}  # fmt: skip
    for folder, files in names.items():
        (tmp_path / folder).mkdir()
        for name in files:
            (tmp_path / folder / name).touch()
    train = market1501(tmp_path, allow_count_mismatch=True).split("train")
    found = {
        (path.split("/")[1], pid, camid - 1) for path, pid, camid in zip(train.path, train.pid, train.camid)
    }
    assert found == {(row["name"], row["pid"], row["camera"]) for row in file["rows"]}

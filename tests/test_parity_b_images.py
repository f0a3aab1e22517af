"""Images, words and file names against published code, set B."""

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
from reid_core.losses import supervised_contrastive
from reid_core.optim import Group, make_optimisers
from reid_core.prompts import GrowingTable, PromptTemplate
from reid_core.samplers import generator
from reid_core.schedules import warmup_milestones

SAME, RATE = 1e-5, 1e-12


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
    """Given features, so without the image tower. Warm-up and milestone are constants of the published
    function."""
    file = load(file)
    text = text_tower(file).requires_grad_(False)
    words = GrowingTable(file["w/prompt_learner.cls_ctx"].shape[1:])
    words.new = nn.Parameter(file.tensor("w/prompt_learner.cls_ctx"))
    rate, decay = (
        float(re.search(rf"{name} ([\d.e-]+)", file.settings["optimizer"])[1])
        for name in ("base lr", "weight_decay")
    )
    (adam,) = make_optimisers(words, [Group(members=[words], lr=rate, weight_decay=decay)])
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
    names = {
        "bounding_box_train": file["files"],
        "query": ["9999_c1s1_000000_00.jpg"],
        "bounding_box_test": ["9999_c2s1_000000_00.jpg"],
    }
    for folder, files in names.items():
        (tmp_path / folder).mkdir()
        for name in files:
            (tmp_path / folder / name).touch()
    train = market1501(tmp_path, allow_count_mismatch=True).split("train")
    found = {
        (path.split("/")[1], pid, camid - 1) for path, pid, camid in zip(train.path, train.pid, train.camid)
    }
    assert found == {(row["name"], row["pid"], row["camera"]) for row in file["rows"]}

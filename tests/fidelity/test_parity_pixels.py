"""Pixels against published code: resizing, augmentation, random erasing, the constants of the recipes, names
of image files."""

import re

import numpy as np
import pytest
import torch
from golden import NUMBER, OUTPUT, agree, close, golden, load_later, matching, said
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import TextTransformer, VisionTransformer
from PIL import Image
from scipy.stats import binomtest, ks_2samp

from data_prep.public import market1501
from reid_core.augment import (
    CLIP_MEAN,
    HALF,
    IMAGENET_MEAN,
    Augmentation,
    Choices,
    Erasing,
    augment,
    box_sides,
    draw_boxes,
    inside,
    normalise,
)
from reid_core.data import FILTERS, decode
from reid_core.methods.clip_reid import ABLATIONS, RECIPE
from reid_core.randaugment import OPERATIONS, RandAugment, cut_out_boxes, draw_decisions, value_of
from reid_core.samplers import generator
from reid_core.towers import ClipResNet, ClipViT, TextEncoder

# probability below which two samples are not of one distribution; ours is seeded, so is theirs
SURPRISE = 1e-4
# draws behind two means; of theirs, a few thousand, the files do not say how many
THEIRS, OURS = 1000, 20000


# Transforms


def resized(file, key, filter, folder):
    """An image of the file as the store decodes it: uint8 (1, 1, 3, H, W)."""
    path = folder / "image.png"
    Image.fromarray(file[key]).save(path)
    return torch.tensor(decode(path, tuple(file["in/size_h_w"].tolist()), FILTERS[filter]))[None, None]


def view_of(file, **changes):
    mean, std = (tuple(file[f"in/{key}"].tolist()) for key in ("mean", "std"))
    return Augmentation(mean=mean, std=std, **changes)


@golden("clipreid__transforms", "irra__transforms")
def test_test_images_are_the_published_ones(file, tmp_path):
    name, file = file.name, file()
    for key, _ in matching(file, r"in/image\d+"):
        pixels = resized(file, key, "bilinear", tmp_path)
        close(
            normalise(view_of(file), pixels)[0, 0],
            file[key.replace("in", "out", 1) + "/test_transform"],
            OUTPUT,
            name,
        )


@golden("clipreid__transforms", "irra__transforms")
def test_training_images_are_resized_as_published(file, tmp_path):
    file = file()
    for key, _ in matching(file, r"in/image\d+"):
        found = resized(file, key, str(file["in/train_resize_mode"]), tmp_path)[0, 0].permute(1, 2, 0)
        assert np.array_equal(found, file[key.replace("in", "out", 1) + "/train_resized_u8"])


@golden("clipreid__transforms", "irra__transforms")
def test_flip_pad_and_crop_are_the_published_ones(file, tmp_path):
    name, file = file.name, file()
    view = view_of(file, flip=0.5, pad=file["in/pad"].item())
    for key, match in matching(file, r"in/(image\d+)/(draw\d+)/flip_top_left"):
        pixels = resized(file, f"in/{match[1]}", str(file["in/train_resize_mode"]), tmp_path)
        flip, top, left = (np.array([[value]]) for value in file[key])
        found = augment(view, pixels, Choices(flip > 0, top, left, np.zeros((0, 1, 1, 4), int)), 0)
        close(found[0, 0], file[f"out/{match[1]}/{match[2]}/train_before_erasing"], OUTPUT, name)


@golden("topreid__val_transform")
def test_images_are_resized_and_scaled_as_published(file, tmp_path):
    file = file()
    s = file.settings
    Image.fromarray(file["in/image_hwc"]).save(tmp_path / "image.png")
    view = Augmentation(
        mean=np.broadcast_to(s["mean"], 3).tolist(), std=np.broadcast_to(s["std"], 3).tolist()
    )
    for key, match in matching(file, r"out/(?:test|train)_([a-z]+).*"):
        pixels = decode(tmp_path / "image.png", tuple(s["size"]), FILTERS[match[1]])
        agree(file, key, normalise(view, torch.tensor(pixels)), 1e-6)


# Random erasing: the boxes


def erasing_of(facts, source, **changes):
    """The published settings of a source, as ours; torchvision's (IRRA) have other names."""
    facts = facts["clip_reid"]["erasing_timm"] if source == "clipreid" else facts[source]["erasing"]
    area, aspect = facts.get("area") or facts["scale"], facts.get("aspect") or facts["ratio"]
    return Erasing(
        facts["p"],
        tuple(area),
        tuple(aspect),
        facts.get("aspect_distribution", "log-uniform").startswith("log"),
        facts.get("attempts", 10),
        **changes,
    )


def boxes_of(name, file):
    """(published boxes (n, 4), ours (10 n, 4)), zero height where nothing was erased, and the image's
    size."""
    published = file["out/top_left_h_w_minus1_if_untouched"].astype(int).clip(min=0)
    size = file["in/image_h_w"].tolist()
    erasing = erasing_of(load_later("facts")(), name.split("__")[0])
    return published, draw_boxes(erasing, generator(name), 10 * len(published), *size), size


@golden("clipreid__random_erasing", "irra__random_erasing", "torchreid__random_erasing")
def test_as_many_images_are_erased_as_published(file):
    name, file = file.name, file()
    published, ours, _ = boxes_of(name, file)
    assert (
        binomtest(int((published[:, 2] > 0).sum()), len(published), (ours[:, 2] > 0).mean()).pvalue > SURPRISE
    )


@golden("clipreid__random_erasing", "irra__random_erasing", "torchreid__random_erasing")
def test_erased_boxes_have_the_published_distribution(file):
    """Area, aspect, and where in the free room the box lies; our generator cannot repeat the published
    sequence."""
    name, file = file.name, file()
    published, ours, (height, width) = boxes_of(name, file)

    def looks(boxes):
        top, left, h, w = boxes[boxes[:, 2] > 0].T
        return h * w, h / w, top / (height - h), left / (width - w)

    for found, wanted in zip(looks(ours), looks(published)):
        assert ks_2samp(found, wanted).pvalue > SURPRISE


@golden("clipreid__random_erasing", "irra__random_erasing", "torchreid__random_erasing")
def test_erased_boxes_leave_a_row_and_a_column_as_published(file):
    name, file = file.name, file()
    for boxes in boxes_of(name, file)[:2]:
        assert (boxes[:, 2] < file["in/image_h_w"][0]).all() and (boxes[:, 3] < file["in/image_h_w"][1]).all()


def accepted(file):
    """Area fractions and aspects; TOP-ReID's are stored as logarithms."""
    key = next(key for key in file if key.startswith("in/accepted_draws"))
    area, aspect = file[key][:, 0], file[key][:, 1]
    return area, np.exp(aspect) if "logaspect" in key else aspect


@golden("topreid__random_erasing", "vladr__random_erasing")
def test_boxes_have_the_published_sides(file):
    file = file()
    draws, boxes = accepted(file), file["out/boxes_top_bottom_left_right"]
    height, width = box_sides(*draws, *file.settings["size"])
    assert np.array_equal(height, boxes[:, 1] - boxes[:, 0])
    assert np.array_equal(width, boxes[:, 3] - boxes[:, 2])


def check_mean(values, wanted, count):
    """Within three standard errors of the difference of two means."""
    error = np.std(values) * (1 / len(values) + 1 / count) ** 0.5
    assert abs(np.mean(values) - wanted) < 3 * error, (
        f"{np.mean(values):.4f} instead of {wanted:.4f}, error {error:.4f}"
    )


@golden("topreid__random_erasing")
def test_boxes_of_log_uniform_aspect_are_as_large_as_published(file):
    file = file()
    s, (low,) = file.settings, said(file, file.settings["aspect"], "[")
    erasing = Erasing(s["p"], tuple(s["area"]), (low, 1 / low), tries=s["tries"])
    boxes = draw_boxes(erasing, generator("topreid"), OURS, *s["size"])
    area = boxes[:, 2] * boxes[:, 3] / np.prod(s["size"])
    untouched, mean = file["out/stats_untouched_fraction_mean_area_given_erased"]
    check_mean(area == 0, untouched, THEIRS)
    check_mean(area[area > 0], mean, THEIRS * (1 - untouched))


def overlap(one, two):
    """Common area of boxes (N, 4)."""
    end = np.minimum(one[:, :2] + one[:, 2:], two[:, :2] + two[:, 2:])
    return (end - np.maximum(one[:, :2], two[:, :2])).clip(min=0).prod(1)


@golden("vladr__random_erasing")
def test_two_erasings_in_a_row_are_as_large_as_published(file):
    """Candidates per box are a constant of the published function, 100, which a file need not say."""
    file = file()
    s, size = file.settings, file.settings["size"]
    kind = {"area": tuple(s["area"]), "aspect": tuple(s["aspect"]), "log_uniform": False}
    kind["tries"], rng = s.get("tries", 100), generator("vladr")
    one, two = (
        draw_boxes(Erasing(float(p), **kind), rng, OURS, *size)
        for p in re.findall(rf"p={NUMBER}", s["pipeline"])
    )
    area = (one[:, 2:].prod(1) + two[:, 2:].prod(1) - overlap(one, two)) / np.prod(size)
    untouched, mean = file["out/stats_untouched_fraction_mean_area"]
    check_mean(area == 0, untouched, THEIRS)
    check_mean(area, mean, THEIRS)


# Random erasing: what fills them


@pytest.mark.parametrize("source, key", [("clipreid", None), ("irra", "value"), ("torchreid", "fill_value")])
@golden("facts")
def test_erased_boxes_are_filled_as_published(file, source, key):
    """CLIP-ReID: normal noise per pixel. IRRA and torchreid: the raw mean, in normalised space (D18)."""
    facts, size = file(), (64, 32)
    fill = tuple(facts[source]["erasing"][key]) if key else None
    box = Choices(*np.zeros((3, 1, 1), int), np.array([0, 0, *size]).reshape(1, 1, 1, 4))
    view = Augmentation(erasing=(erasing_of(facts, source, fill=fill),))
    found = augment(view, torch.zeros(1, 1, 3, *size, dtype=torch.uint8), box, 0)[0, 0]
    close(found.mean((1, 2)), fill or [0, 0, 0], 0.1)
    assert found.std((1, 2)).numpy() == pytest.approx(0 if fill else 1, abs=0.1)


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
    file = file()
    fill = tuple(file["out/fill"].tolist())
    images, mask = erased(file, fill)
    black = torch.tensor(-1.0)
    wanted = torch.where(mask, torch.tensor(fill).view(3, 1, 1), black)
    torch.testing.assert_close(images, wanted)


@golden("topreid__random_erasing")
def test_topreid_fills_a_box_with_normal_noise(file):
    file = file()
    images, mask = erased(file, None)
    mean, std = file["out/fill_mean_std"]
    noise = images[mask].double().numpy()
    check_mean(noise, mean, len(noise))
    assert abs(noise.std() - std) < 3 / len(noise) ** 0.5
    assert (images[~mask] == -1).all()


# RandAugment


@golden("vladr__randaugment_facts")
def test_the_operations_are_the_published_ones(file):
    file = file()
    assert list(OPERATIONS) == file["ops"]
    assert [name for name in OPERATIONS if OPERATIONS[name].signed] == file["random_sign_ops"]


@golden("vladr__randaugment_facts")
def test_the_operations_have_the_published_magnitudes(file):
    """A translation's are pixels of the file's image, and measured on it below."""
    for name, wanted in file()["magnitude_by_level_1_to_9"].items():
        if name.startswith("Translate"):
            continue
        found = [value_of(name, level, turned=False) for level in range(1, 10)]
        assert found == ([None] * 9 if wanted is None else pytest.approx(wanted, abs=1e-12)), name


@pytest.mark.parametrize("axis, name", [(0, "TranslateX"), (1, "TranslateY")])
@golden("vladr__randaugment_facts")
def test_translations_are_by_the_published_number_of_pixels(file, axis, name):
    file = file()
    width, height = file["image_size_wh"]
    image = torch.full((1, 3, height, width), 255, dtype=torch.uint8)
    for level, pixels in enumerate(file["magnitude_by_level_1_to_9"][name], 1):
        for turned in (False, True):
            moved = OPERATIONS[name].change(image, value_of(name, level, turned))[0, 0]
            empty = (moved == 0).all(axis).numpy()  # columns or rows that come from outside the image
            border = empty[:pixels] if turned else empty[::-1][:pixels]
            assert border.all() and empty.sum() == pixels


@golden("vladr__randaugment_facts")
def test_operations_are_drawn_as_published(file):
    file = file()
    levels = [int(number) for number in re.findall(r"\d+", file["level_draw"])][:2]
    found = draw_decisions(RandAugment(), generator("vladr"), OURS, 1, *file["image_size_wh"][::-1])
    assert file["drawn"] == "with replacement"  # a pair of one operation is as likely as it says
    check_mean(found.operation[..., 0] == found.operation[..., 1], 1 / len(file["ops"]), OURS)
    assert found.operation.shape[-1] == RandAugment().operations == file["n_ops"]
    assert [found.level.min(), found.level.max()] == levels
    assert RandAugment().p == file["apply_probability"]
    check_mean(found.applied, file["apply_probability"], OURS)


@golden("vladr__randaugment_facts")
def test_cut_out_boxes_are_the_published_ones(file):
    file = file()
    cutout, (width, height) = file["cutout"], file["image_size_wh"]
    assert RandAugment().fill == cutout["fill"]
    assert RandAugment().cutout * height == cutout["size"]
    centres = np.array(cutout["centre_xy"])[:, ::-1]
    top, left, h, w = cut_out_boxes(centres, cutout["size"], height, width).T
    found = np.stack([left, top, left + w - 1, top + h - 1], 1)
    assert np.array_equal(found, cutout["box_left_top_right_bottom_inclusive"])


# Constants


@golden("facts")
def test_the_recipe_of_clip_reid_augments_as_published(file):
    facts = file()["clip_reid"]
    found = {
        "train_resize_interpolation": RECIPE.train_interpolation,
        "test_resize_interpolation": RECIPE.test_interpolation,
        "pad": RECIPE.pad,
        "flip_p": RECIPE.flip_p,
    }
    assert found == {key: facts[key] for key in found}


@golden("facts")
def test_the_rows_of_clip_reid_have_the_published_sizes_and_constants(file):
    facts = file()["clip_reid"]
    person, resnet, vehicle = (RECIPE.but(**ABLATIONS[row]) for row in ("full", "RN50", "VeRi-776"))
    for recipe, key in ((person, "size_person"), (vehicle, "size_vehicle")):
        assert [recipe.image_height, recipe.image_width] == facts[key]
    for recipe, key in ((person, "mean_std_vit"), (resnet, "mean_std_rn50")):
        assert [list(recipe.norm_mean), list(recipe.norm_std)] == facts[key]


@golden("facts")
def test_the_recipe_of_clip_reid_erases_as_published(file):
    r = RECIPE
    area = (r.random_erasing_area_min, r.random_erasing_area_max)
    assert Erasing(r.random_erasing_p, area, r.random_erasing_aspect) == erasing_of(file(), "clipreid")


@golden("facts")
def test_normalisation_constants_are_the_published_ones(file):
    facts = file()
    assert list(CLIP_MEAN) == facts["irra"]["mean"]
    assert [list(HALF)] * 2 == facts["clip_reid"]["mean_std_vit"]
    assert list(IMAGENET_MEAN) == facts["torchreid"]["mean_std_default"][0]


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("source", ["clip_reid", "irra"])
@golden("facts")
def test_full_size_image_transformers_have_the_published_number_of_parameters(file, source):
    """ViT-B/16 without values. PAD's pool and IRRA's cross module are left out."""
    published = file()[f"{source}_parameter_counts"]
    with torch.device("meta"):
        for key, match in matching(published, r"(?:vit_b16|clip)_visual_(\d+)x(\d+)(?:_stride(\d+))?"):
            size, stride = (int(match[1]), int(match[2])), int(match[3] or 16)
            tower = ClipViT(VisionTransformer(224, 16, 768, 12, 12, 4.0), size, stride)
            assert count(tower) == published[key]


@golden("facts")
def test_the_full_size_residual_tower_has_the_published_number_of_parameters(file):
    """RN50 without values."""
    published = file()["clip_reid_parameter_counts"]
    with torch.device("meta"):
        for key, match in matching(published, r"rn50_visual_(\d+)x(\d+)"):
            tower = ClipResNet(ModifiedResNet([3, 4, 6, 3], 1024, 32), (int(match[1]), int(match[2])))
            assert count(tower) == published[key]


@golden("facts")
def test_the_full_size_text_tower_has_the_published_number_of_parameters(file):
    """What a published pair of towers has more than its image tower."""
    published = file()["irra_parameter_counts"]
    with torch.device("meta"):
        for key, match in matching(published, r"clip_(\d+x\d+)"):
            assert (
                count(TextEncoder(TextTransformer())) == published[key] - published[f"clip_visual_{match[1]}"]
            )


# File names


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

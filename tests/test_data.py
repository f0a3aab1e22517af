"""From files to batches."""

import errno
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_prep import catalogue, public
from data_prep.manifest import from_table
from data_prep.world import build
from reid_core import data, evaluate
from reid_core.augment import Augmentation, Erasing
from reid_core.data import CaptionTable, Loader, PixelStore, ReidData, load_data, still_batches
from reid_core.report.images import picture
from reid_core.samplers import IdentityBatches, Shuffle

TRAIN = Augmentation("bicubic", flip=0.5, pad=5, erasing=(Erasing(),))


def loader(data, seed=0):
    sampler = IdentityBatches(data.labels, 4, 4)
    return Loader(data, size=(32, 16), sampler=sampler, views=[TRAIN], seed=seed, stream="stage")


def test_the_store_holds_what_pillow_decodes(world, tmp_path):
    store = PixelStore(world.manifest.root, world.train, (32, 16), "bicubic", tmp_path)
    path = world.manifest.root / world.train.paths[5, 0]
    wanted = np.asarray(Image.open(path).convert("RGB").resize((16, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(store.batch(np.array([5]), "cpu")[0, 0].numpy(), wanted.transpose(2, 0, 1))


def test_images_are_decoded_once(world, tmp_path, monkeypatch):
    PixelStore(world.manifest.root, world.query, (32, 16), "bilinear", tmp_path)
    monkeypatch.setattr("reid_core.data.decode_all", lambda *_: pytest.fail("decoded again"))
    PixelStore(world.manifest.root, world.query, (32, 16), "bilinear", tmp_path)


def test_a_changed_file_is_decoded_again(market, tmp_path):
    data = ReidData(public.market1501(market), tmp_path)
    path = market / data.query.paths[0, 0]
    before = data.store("query", (32, 16), "bilinear").batch(np.array([0]), "cpu")
    Image.new("RGB", (64, 128), "red").save(path)
    after = data.store("query", (32, 16), "bilinear").batch(np.array([0]), "cpu")
    assert not torch.equal(before, after)


def test_an_interrupted_store_is_not_used(world, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("reid_core.data.decode", stop)
    with pytest.raises(KeyboardInterrupt):
        PixelStore(world.manifest.root, world.query, (32, 16), "bilinear", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content, found", [(b"", "an empty file"), (b"no pixels", "UnidentifiedImageError")])
def test_an_unreadable_image_is_named(market, tmp_path, content, found):
    data = ReidData(public.market1501(market), tmp_path)
    path = market / data.train.paths[7, 0]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path.name}, found {found}"):
        data.store("train", (32, 16), "bilinear")


def cut_short(content):
    return content[:1000]


def cut_to_nothing(content):
    return b""


def longer(content):
    return content + bytes(8)


def of_zeros(content):
    return bytes(len(content))


def with_one_bit_flipped(content):
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize("spoil", [cut_short, cut_to_nothing, longer, of_zeros, with_one_bit_flipped])
def test_decoded_images_that_decayed_are_reported_and_decoded_again(world, tmp_path, spoil):
    store = PixelStore(world.manifest.root, world.query, (32, 16), "bilinear", tmp_path)
    good = store.pixels.clone()
    content = store.path.read_bytes()
    store.path.unlink()  # the first map keeps what it saw
    store.path.write_bytes(spoil(content))
    with pytest.warns(UserWarning, match="expected decoded images in .* as they were written, found others"):
        again = PixelStore(world.manifest.root, world.query, (32, 16), "bilinear", tmp_path)
    assert torch.equal(again.pixels, good) and store.path.read_bytes() == content


def test_a_half_made_store_is_swept_once_its_maker_is_dead(world, tmp_path):
    store = PixelStore(world.manifest.root, world.query, (32, 16), "bilinear", tmp_path)
    store.path.unlink()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    makers = {dead.pid: False, os.getpid(): True}  # process -> whether its part stays
    left = {
        tmp_path / f".{store.path.name}.{platform.node()}-{k}-1.part": stays for k, stays in makers.items()
    }
    for part in left:
        part.touch()
    PixelStore(world.manifest.root, world.query, (32, 16), "bilinear", tmp_path)
    assert {part: part.exists() for part in left} == left


def test_a_world_whose_pictures_decayed_is_not_trained_on(tmp_path):
    market = build.build(tmp_path / "market", "smoke")
    data = ReidData(public.market1501(market), tmp_path)
    path = market / data.query.paths[0, 0]
    content = path.read_bytes()
    path.write_bytes(content[:900] + bytes([content[900] ^ 1]) + content[901:])
    with pytest.raises(ValueError, match=f"as it was rendered, found 1 files changed .*{path.name}"):
        data.store("query", (32, 16), "bilinear")


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_pictures_of_sixteen_bits_keep_their_levels(dtype, tmp_path):
    levels = np.linspace(20000, 26000, 128).astype(dtype).reshape(16, 8)
    for name in ("a.png", "a.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        grey = data.decode(tmp_path / name, (16, 8), data.FILTERS["bilinear"])
        assert (grey == levels.astype(np.uint16) >> 8).all(), "one grey in all three channels"


@pytest.mark.parametrize("mode", ["I", "F"])
def test_levels_whose_white_nobody_knows_are_refused(mode, tmp_path):
    Image.new(mode, (8, 16)).save(tmp_path / "a.tif")
    with pytest.raises(
        ValueError, match=rf"expected a readable image at .*a.tif, found .*32 bits \(mode {mode}\)"
    ):
        data.decode(tmp_path / "a.tif", (16, 8), data.FILTERS["bilinear"])


def test_a_decompression_bomb_is_one_sentence(tmp_path, monkeypatch):
    Image.new("RGB", (80, 160)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # twice that is refused
    with pytest.raises(ValueError, match="found DecompressionBombError .*; replace or remove it"):
        data.decode(tmp_path / "a.png", (16, 8), data.FILTERS["bilinear"])


def test_a_full_disk_is_one_sentence(world, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match="expected room for .* GB .* No space left"):
        PixelStore(world.manifest.root, world.query, (32, 16), "bilinear", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_batch_is_the_same_from_whatever_step_one_begins(world):
    one, two = loader(world), loader(world)
    plan = one.plan(3)
    whole = list(one.batches(3, plan))
    late = list(two.batches(3, two.plan(3), 2))
    assert len(late) == len(whole) - 2
    assert torch.equal(whole[2].images, late[0].images) and torch.equal(whole[2].index, late[0].index)


def test_a_repeated_image_gets_another_augmentation(world):
    first, second = (next(loader(world, seed).batches(0, loader(world).plan(0))) for seed in (0, 1))
    assert torch.equal(first.index, second.index) and not torch.equal(first.images, second.images)


def test_labels_count_identities_in_sorted_order(world):
    batch = next(loader(world).batches(0, loader(world).plan(0)))
    assert (world.pids[batch.labels] == world.train.pids[batch.index]).all()
    assert batch.labels.max() < world.classes and batch.images.shape[1:] == (1, 3, 32, 16)


def test_a_camera_that_training_never_saw_has_no_number(world):
    assert world.camera_index(np.array([1, 6, 99])).tolist() == [0, 5, -1]


def test_cached_tensors_follow_their_rows(world):
    table = torch.arange(len(world.train)).float()[:, None]
    batches = Loader(world, size=(32, 16), sampler=Shuffle(range(64), 10), views=[], cached={"row": table})
    for batch in batches.batches(0, batches.plan(0)):
        assert torch.equal(batch.cached["row"][:, 0], batch.index.float()) and batch.views == []


def test_still_batches_show_the_split_in_order(world):
    batches = list(still_batches(world, "gallery", (32, 16), Augmentation(), batch=20))
    assert torch.cat([b.index for b in batches]).tolist() == list(range(42))
    assert torch.cat([b.labels for b in batches]).tolist() == [-1] * 42, "strangers to training"


def test_spectra_of_a_shot_lie_side_by_side(tmp_path):
    rows = []
    for shot in range(3):
        for modality, colour in (("rgb", 10), ("nir", 20), ("tir", 30)):
            path = f"{shot}_{modality}.png"
            Image.new("RGB", (4, 8), (colour + shot,) * 3).save(tmp_path / path)
            rows.append(
                {"path": path, "pid": shot, "camid": 1, "split": "train", "modality": modality, "shot": shot}
            )
    import pandas as pd

    data = ReidData(from_table("three", tmp_path, pd.DataFrame(rows)), tmp_path / "cache")
    pixels = data.store("train", (8, 4), "bilinear").batch(np.array([2, 0]), "cpu")
    assert pixels[:, :, 0, 0, 0].tolist() == [[12, 22, 32], [10, 20, 30]]


def strip(folder, width):
    """A file of three spectra side by side, and the data set of its one shot."""
    import pandas as pd

    image = Image.new("RGB", (width, 4))
    for k, colour in enumerate((10, 20, 30)):
        image.paste((colour,) * 3, (width * k // 3, 0, width * (k + 1) // 3, 4))
    image.save(folder / "strip.png")
    row = {"path": "strip.png", "pid": 1, "camid": 1, "split": "train", "shot": 0}
    rows = [{**row, "modality": m, "tile": k} for k, m in enumerate(("rgb", "nir", "tir"))]
    return ReidData(from_table("strips", folder, pd.DataFrame(rows)), folder / "cache")


def test_a_strip_is_cut_in_three_for_training_and_for_pages(tmp_path):
    data = strip(tmp_path, 12)
    pixels = data.store("train", (4, 4), "bilinear").batch(np.array([0]), "cpu")
    assert pixels[0, :, 0, 0, 0].tolist() == [10, 20, 30]
    assert [picture(data, "train", 0, m)[0, 0, 0] for m in range(3)] == [10, 20, 30]
    assert picture(data, "train", 0).shape == (4, 4, 3)


def test_a_strip_that_three_images_cannot_fill_is_named_with_its_width(tmp_path):
    with pytest.raises(ValueError, match=r"three images of one width .*strip.png, found 13 pixels, no mult"):
        strip(tmp_path, 13).store("train", (4, 4), "bilinear").batch(np.array([0]), "cpu")


def test_a_shot_without_one_of_its_spectra_is_refused(tmp_path):
    import pandas as pd

    for k in range(3):
        (tmp_path / f"{k}.png").touch()
    rows = [
        {"path": f"{k}.png", "pid": 1, "camid": 1, "split": "train", "modality": m, "shot": s}
        for k, (m, s) in enumerate((("rgb", 0), ("nir", 0), ("rgb", 1)))
    ]
    with pytest.raises(
        ValueError, match="every shot of train to be rgb, nir, once each, .* found shot 1 otherwise"
    ):
        ReidData(from_table("two", tmp_path, pd.DataFrame(rows)))


def test_sentences_become_token_ids_with_their_lengths():
    from open_clip import get_tokenizer

    tokenizer = get_tokenizer("ViT-B-16")
    table = CaptionTable([("a man", "a man in a red coat"), (), ("A woman.",)], tokenizer)
    text, lengths = table.batch(np.array([0, 2, 1]), np.array([1, 0, -1]))
    wanted = tokenizer(["a man in a red coat", "A woman."])
    assert lengths == [8, 5] and torch.equal(text, wanted[:, :8])


def test_a_sentence_that_says_nothing_does_not_ask(world):
    captions = [("a man", "", " \n"), ("   ",), ()]
    shots = replace(world.gallery.pick([0, 1, 2]), captions=captions)
    assert shots.captions == [("a man",), (), ()] and evaluate.owners(shots).tolist() == [0]


def test_an_unset_folder_of_data_sets_is_one_sentence(monkeypatch):
    monkeypatch.delenv("REID_DATA", raising=False)
    with pytest.raises(ValueError, match=r"in \$REID_DATA for market1501, found it unset"):
        load_data("market1501", "paper")
    with pytest.raises(ValueError, match="a world among world_market, .*, found 'world_marked'"):
        load_data("world_marked")


def test_a_cache_that_is_no_folder_is_one_sentence(world):
    with pytest.raises(
        ValueError, match="decoded images in /dev/null, found .*; free some or set REID_CACHE"
    ):
        PixelStore(world.manifest.root, world.query, (32, 16), "bilinear", os.devnull)


@pytest.mark.parametrize("number", [None, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_decoded_images_are_stored_where_space_cannot_be_reserved(number, world, tmp_path, monkeypatch):
    """None: macOS has no such call."""

    def refuse(*_):
        raise OSError(number, "refused")

    if number is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    Image.new("RGB", (8, 16), (9, 9, 9)).save(tmp_path / "a.png")
    data.decode_all([(tmp_path / "a.png", -1)], tmp_path / "s.u8", (16, 8), data.FILTERS["bilinear"])
    assert (tmp_path / "s.u8").read_bytes()[: -data.DIGEST] == bytes([9]) * 3 * 16 * 8


@pytest.mark.parametrize("variable", ["REID_BUILD", "REID_CACHE"])
def test_an_empty_variable_of_a_folder_counts_as_unset_and_a_tilde_is_the_home(variable, monkeypatch):
    folder = {"REID_BUILD": catalogue.build_folder, "REID_CACHE": catalogue.cache_folder}[variable]
    monkeypatch.delenv(variable, raising=False)
    unset = folder()
    for empty in ("", "  "):
        monkeypatch.setenv(variable, empty)
        assert folder() == unset
    monkeypatch.setenv(variable, "~/somewhere")
    assert folder() == Path.home() / "somewhere"

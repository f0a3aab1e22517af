"""Images in three spectra against published code: layouts on disk, strips, and what stands for a missing
image."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import OUTPUT, agree, golden
from PIL import Image

from data_prep import pictures, public
from data_prep.manifest import MODALITIES
from reid_core.augment import normalise
from reid_core.data import ReidData
from reid_core.methods import dmpt
from reid_core.towers import ImageTokens

LAYOUTS = {"RGBNT201": "rgbnt201", "RGBNT100": "rgbnt100", "MSVR310": "msvr310"}
CODES = {"r": "rgb", "n": "nir", "t": "tir"}


@golden("topreid__dataset_parse")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_spectra_are_read_as_published(layout, file, tmp_path):
    splits = dict(file()[layout])
    tested = {number(shot) for split in ("query", "gallery") for shot in splits[split]}
    # the file's own tree trains on somebody whom it tests, which we refuse
    splits["train"] = [shot for shot in splits["train"] if number(shot) not in tested]
    for shots in splits.values():
        for path in (path for shot in shots for path in shot["modality_paths"]):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            for place in (path, path.replace("_cam2_", "_cam5_").replace("_cam1_", "_cam5_")):
                if place == path or "/test/" in path:  # a match in another camera, which queries must have
                    Image.new("RGB", (12, 8)).save(tmp_path / place)
    read = getattr(public, LAYOUTS[layout])
    data = ReidData(read(tmp_path / layout, allow_count_mismatch=True), tmp_path / "cache")
    for split, shots in splits.items():
        found = getattr(data, split)
        ours = {
            f"{layout}/{paths[0]}": row
            for paths, *row in zip(found.paths.tolist(), found.pids, found.camids, found.scenes)
        }
        wanted = {shot["modality_paths"][0] for shot in shots}
        assert wanted == {path for path in ours if "_cam5_" not in path}
        first = 0 if layout == "MSVR310" else 1  # published cameras count from 0, views are as they are
        for shot in shots:
            pid, camera, scene = ours[shot["modality_paths"][0]]
            assert camera - first == shot["camera"] and scene == max(shot["track_or_scene"], 0)
            if split != "train":
                assert pid == shot["pid_or_label"]
        if split == "train":  # published labels follow a hash: who shares one is what counts
            theirs = [shot["pid_or_label"] for shot in shots]
            pids = [ours[shot["modality_paths"][0]][0] for shot in shots]
            assert len(set(zip(theirs, pids))) == len(set(theirs)) == len(set(pids))
        if layout != "RGBNT100":
            spectra = {shot["modality_paths"][0]: shot["modality_paths"] for shot in shots}
            for paths in found.paths.tolist():
                if "_cam5_" not in paths[0]:
                    assert [f"{layout}/{path}" for path in paths] == spectra[f"{layout}/{paths[0]}"]


def number(shot):
    """The identity in the name of a file."""
    return shot["name"].partition("_")[0]


@golden("topreid__rgbnt100_strip")
def test_a_strip_is_cut_as_published(file, tmp_path):
    file = file()
    Image.fromarray(file["in/strip_hwc"]).save(tmp_path / "strip.png")
    for tile, name in enumerate(("rgb", "ni", "ti")):
        assert np.array_equal(pictures.opened(tmp_path / "strip.png", tile), file[f"out/{name}"])


@golden("demo__missing_modality")
def test_zeros_stand_for_a_missing_spectrum_as_published(file):
    """In the normalised image, and the tower runs on it."""
    file = file()
    images = torch.stack([file.tensor(f"in/{name}") for name in ("RGB", "NI", "TI")], 1)  # (B, M, 3, H, W)
    seen = []

    def standin(x, prompter, read):
        seen.append(x.unflatten(0, (-1, 3)))
        tokens = 1 + (x.flatten(1) @ file.tensor("w/standin"))[:, None]  # (B M, 1, D)
        return ImageTokens((), tokens, tokens[:, :0])

    method = SimpleNamespace(
        image=standin, prompts=None, layers=[], read=1, means=torch.rand(3, 3, 1, 1), recipe=dmpt.RECIPE
    )
    for code in ("nothing", "r", "n", "t", "rn", "rt", "nt"):
        gone = [CODES[letter] for letter in code] if code != "nothing" else []
        present = torch.tensor([name not in gone for name in MODALITIES]).expand(len(images), -1)
        batch = SimpleNamespace(present=present, images=images)
        encoded, final = dmpt.DMPT.encode(method, batch, "zeros")
        agree(file, f"out/feature_{code}", dmpt.joined(final), OUTPUT)
        zero = (seen[-1] == 0).flatten(2).all(2).all(0)
        assert zero.tolist() == file[f"out/backbone_input_is_zero_{code}"].tolist()
        assert encoded is not None


@golden("multimodal__missing_modality_facts")
def test_the_published_blank_is_mid_grey_and_spectra_stand_in_their_order(file):
    file = file()
    assert file["DeMo"]["equivalent_pixel"].startswith("127.5 for mean=std=0.5")
    assert "zeros" in file["DeMo"]["images"] and dmpt.RECIPE.missing == "zeros"
    recipe = dmpt.RECIPE
    view = SimpleNamespace(mean=recipe.norm_mean_std[0], std=recipe.norm_mean_std[1])
    assert normalise(view, torch.full((1, 3, 1, 1), 127.5)).abs().max() < 1e-6
    order = {"RGB": "rgb", "NI": "nir", "TI": "tir"}
    assert [order[name] for name in file["order"].split(", ")] == list(MODALITIES)
    assert {code: order[name] for code, name in file["codes"].items()} == CODES

"""A trained model finds a person again in images that no data set describes."""

import dataclasses
import shutil

import made_runs
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_commands import TRAIN, one_sentence, typed

from reid_core.analysis import search
from reid_core.data import load_data
from reid_core.report import ranked
from reid_core.runs.run import Spec

QUERY = "a man in a red coat"


@pytest.fixture(scope="module")
def method(world):
    """PromptSG with its initial weights, which reads images and sentences."""
    return Spec("promptsg", "promptsg", profile="smoke").build(world)[0].eval()


@pytest.fixture(scope="module")
def baseline(world):
    return Spec("clip_reid", "baseline", profile="smoke").build(world)[0].eval()


@pytest.fixture
def folder(world, tmp_path):
    """A folder of somebody's images, with folders in it and other files beside them."""
    for number in range(5):
        place = tmp_path / "mine" / ("below" if number > 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.open(world.manifest.root / world.gallery.paths[8 * number, 0])
        picture.save(place / f"{number}.png")
    (tmp_path / "mine" / "notes.txt").write_text("no image")
    (tmp_path / "mine" / "._0.png").write_text("what macOS leaves beside an image")
    return tmp_path / "mine"


def test_an_image_finds_itself_first(baseline, folder):
    found = search.search(baseline, folder / "below" / "3.png", folder, k=3)
    assert [one.place for one in found] == [1, 2, 3]
    assert found[0].path.endswith("below/3.png") and found[0].cosine == pytest.approx(1, abs=1e-5)
    assert found[0].cosine >= found[1].cosine >= found[2].cosine


def test_a_model_of_three_spectra_searches_tables_of_shots(tmp_path):
    data = load_data("world_rgbnt201", "smoke")
    method = Spec("dmpt", "dmpt", data="world_rgbnt201", profile="smoke").build(data)[0].eval()
    rows = [
        {"path": path, "modality": spectrum, "shot": shot}
        for shot, paths in enumerate(data.gallery.paths[:5])
        for spectrum, path in zip(("rgb", "nir", "tir"), paths)
    ]
    tables = {}
    for name, some in (("gallery", rows), ("query", rows[6:9])):
        tables[name] = tmp_path / f"{name}.csv"
        shown = [{**row, "path": f"{name} {row['path'].replace('/', ' ')}"} for row in some]
        pd.DataFrame(shown).to_csv(tables[name], index=False)
        for row, copy in zip(some, shown):
            shutil.copy(data.manifest.root / row["path"], tmp_path / copy["path"])
    found = search.search(method, tables["query"], tables["gallery"], k=5)
    assert "RGB" in found[0].path and found[0].path.endswith(data.gallery.paths[2, 0].split("/")[-1])
    with pytest.raises(ValueError, match=r"expected shots of 3 images for DMPT, found 1 .* columns path"):
        search.search(method, tmp_path / shown[0]["path"], tables["gallery"], k=1)


def test_a_sentence_ranks_a_gallery_as_the_test_of_the_method_does(method, folder):
    shown = search.embed(method, folder, "v")
    asked = search.sentence(method, QUERY, "caption")
    found = search.search(method, QUERY, folder, k=5)
    wanted = np.sort(shown.features @ asked)[::-1]
    assert [one.cosine for one in found] == pytest.approx(wanted.tolist())


def test_a_sentence_may_be_longer_than_a_file_name(method, folder):
    assert len(search.search(method, f"a man {'in a very red coat ' * 30}", folder, k=5)) == 5


def test_features_are_those_of_the_tests_of_the_data_set(baseline, world):
    """Images of the world's gallery, embedded from their folder as if nobody knew them."""
    from reid_core.evaluate import embed_images

    shown = search.embed(baseline, world.manifest.root / "bounding_box_test")
    known = embed_images(baseline, world.without_cameras(), "gallery", {shown.feature})[shown.feature]
    place = {path.rpartition("/")[2]: k for k, path in enumerate(shown.paths)}
    order = [place[path.rpartition("/")[2]] for path in world.gallery.paths[:, 0]]
    assert np.allclose(shown.features[order], known.numpy(), atol=1e-5)


def test_features_are_saved_with_the_paths_they_belong_to(baseline, folder, tmp_path):
    shown = search.embed(baseline, folder)
    shown.save(tmp_path / "features.npz")
    with np.load(tmp_path / "features.npz") as kept:
        assert kept["paths"].tolist() == shown.paths.tolist() and len(shown.paths) == 5
        assert np.allclose(np.linalg.norm(kept["features"], axis=1), 1, atol=1e-5)


def test_a_table_lists_what_is_searched(baseline, folder):
    (folder / "few.csv").write_text("path\n4.png\n".replace("4", "below/4"))
    assert search.embed(baseline, folder / "few.csv").paths.tolist() == [str(folder / "below" / "4.png")]


def empty(folder):
    for path in folder.rglob("*.png"):
        path.unlink()


def spoilt(folder):
    (folder / "0.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    "spoil, query, k, words",
    [
        (empty, QUERY, 1, "expected images in .*, found none"),
        (spoilt, QUERY, 1, "expected a readable image at .*0.png, found UnidentifiedImageError"),
        (None, " ", 1, "expected the path of an image or a sentence as the query, found nothing"),
        (None, ".", 1, "expected the path of an image or a sentence as the query, found a folder"),
        (None, "x/none.JPG", 1, "or a sentence as the query, found no such image .x/none.JPG.; correct it"),
        (None, QUERY, 6, "expected from 1 to 5 places, .*, found 6; correct -k"),
        (None, QUERY, 0, "expected from 1 to 5 places, .*, found 0"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(method, folder, spoil, query, k, words):
    if spoil:
        spoil(folder)
    with pytest.raises(ValueError, match=words):
        search.search(method, query, folder, k)


def test_a_sentence_for_a_method_that_reads_none_is_one_sentence(baseline, folder):
    with pytest.raises(
        ValueError, match="Baseline can ask with, which are images, found no file called 'a man"
    ):
        search.search(baseline, QUERY, folder)


def test_a_run_that_is_not_there_is_one_sentence_that_names_others(shelves):
    with pytest.raises(ValueError, match="name of a run or its JSON file, found 'clip_reid/none'"):
        search.load_run("clip_reid/none")


def test_a_run_without_weights_says_how_to_make_them(world, shelves, monkeypatch):
    monkeypatch.setattr("reid_core.runs.run.load_data", lambda *_: world)
    spec = (
        shelves[1]
        .write(
            dataclasses.replace(made_runs.run(0, [0.5]), spec=Spec("clip_reid", "baseline", profile="smoke"))
        )
        .spec
    )
    with pytest.raises(ValueError, match="expected the weights of .* found none; train it again with"):
        search.load_run(spec.name)


def test_a_ranked_list_is_a_page_of_its_own(baseline, folder):
    """One file without a network: pictures are in it, and what a file is called is text."""
    (folder / "0.png").rename(folder / "<script>0.png")
    query = folder / "1.png"
    page = ranked.page(str(query), search.search(baseline, query, folder, k=5), "a run & more")
    assert page.count("data:image/jpeg;base64,") == 6 and "Images like 1.png" in page
    assert "&lt;script&gt;0.png" in page and "<script" not in page and "http" not in page
    assert "a run &amp; more" in page and page.index("1. 1.000") < page.index("2. ")


def test_a_run_that_was_trained_here_embeds_and_searches_from_the_command_line(tmp_path, folder):
    """The walk of the how-to page."""
    name = Spec("clip_reid", "baseline", profile="smoke").name
    assert f"search {name} QUERY GALLERY" in typed(*TRAIN[1:], place=tmp_path / "build").stdout
    done = typed("reid_core", "embed", name, folder, "--out", tmp_path / "f.npz", place=tmp_path / "build")
    assert "5 images, feature f12+fp of" in done.stdout and (tmp_path / "f.npz").exists()
    words = ["search", name, folder / "1.png", folder, "-k", "2", "--html", tmp_path / "page.html"]
    done = typed("reid_core", *words, place=tmp_path / "build")
    assert "  1  1.000  " in done.stdout and "1.png" in (tmp_path / "page.html").read_text(encoding="utf-8")
    one_sentence(
        typed("reid_core", "search", name, QUERY, folder, place=tmp_path / "build"), "Baseline can ask"
    )

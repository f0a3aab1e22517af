"""Where each data set is looked for: the folders that must be there, and the names under which its own folder
usually goes. A data set in circulation in several forms has several places; the first that fits is taken.
"""

from typing import NamedTuple


class Place(NamedTuple):
    aliases: tuple  # folders below the root that is passed, where it is not the data set's own
    folders: dict  # split or role -> folder or file that must exist


MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
LISTS = {split: f"list_{split}.txt" for split in ("train", "val", "query", "gallery")}
# names of the folder that holds labeled/ and detected/
CUHK03 = ("CUHK03-NP", "cuhk03-np", "cuhk03_np", "CUHK03", "cuhk03")


def market_like(*aliases):
    """The one place of a data set that is laid out as Market-1501 is."""
    return [Place(aliases, MARKET)]


def id_lists(size):
    """The folders of VehicleID with its test of `size` vehicles."""
    return {
        "images": "image",
        "train": "train_test_split/train_list.txt",
        "test": f"train_test_split/test_list_{size}.txt",
    }


def sentences(annotation):
    """Images, and the file of sentences about them."""
    return {"images": "imgs", "annotation": annotation}


def spectra(folder):
    """Market-1501's folders below another."""
    return {split: f"{folder}{half}" for split, half in MARKET.items()}


INSTEAD = {  # data set -> what lies there in a form that is not read, and what to do about it
    "cuhk_pedes": ("caption_all.json", "it has no split: add reid_raw.json of the release"),
    "cuhk03": ("cuhk-03.mat", "make crops of it with python -m data_prep convert cuhk03 SOURCE OUT"),
    "cuhk_sysu": ("Image/SSM", "make crops of it with python -m data_prep convert cuhk_sysu SOURCE OUT"),
}
PLACES = {  # data set, or data set#variant -> its places
    "market1501": market_like("Market-1501-v15.09.15", "market1501", "Market-1501"),
    "dukemtmc": market_like(
        "DukeMTMC-reID", "dukemtmcreid/DukeMTMC-reID", "dukemtmcreid", "dukemtmc-reid", "dukemtmc"
    ),
    "occluded_duke": market_like(
        "Occluded_Duke", "Occluded-DukeMTMC-reID", "dukemtmcreid/Occluded_Duke", "occluded_duke"
    ),
    "msmt17": [
        Place(("MSMT17_V1", "MSMT17", "msmt17"), LISTS | {"images": "train", "test": "test"}),
        Place(("MSMT17_V2", "MSMT17", "msmt17"), LISTS | {"images": "mask_train_v2", "test": "mask_test_v2"}),
    ],
    # a folder that holds both kinds of boxes comes before one that is a kind of its own
    "cuhk03#labeled": market_like(*(f"{name}/labeled" for name in CUHK03), "labeled", *CUHK03),
    "cuhk03#detected": market_like(*(f"{name}/detected" for name in CUHK03), "detected", *CUHK03),
    "veri776": [
        Place(
            ("VeRi", "veri", "VeRi-776"),
            {"train": "image_train", "query": "image_query", "gallery": "image_test"},
        )
    ],
    "vehicleid#800": [Place(("VehicleID_V1.0", "VehicleID"), id_lists(800))],
    "vehicleid#1600": [Place(("VehicleID_V1.0", "VehicleID"), id_lists(1600))],
    "vehicleid#2400": [Place(("VehicleID_V1.0", "VehicleID"), id_lists(2400))],
    "cuhk_pedes": [Place(("CUHK-PEDES", "cuhk_pedes"), sentences("reid_raw.json"))],
    "icfg_pedes": [
        Place(("ICFG-PEDES", "icfg_pedes"), sentences("ICFG-PEDES.json")),
        Place(("ICFG-PEDES", "icfg_pedes"), sentences("ICFG_PEDES.json")),
    ],
    "rstpreid": [Place(("RSTPReid", "rstpreid"), sentences("data_captions.json"))],
    "rgbnt201": [Place(("RGBNT201", "rgbnt201"), {"train": "train_171", "test": "test"})],
    "market1501_mm": [Place(("Market1501-MM", "market1501_mm"), {split: split for split in MARKET})],
    "rgbnt100": [Place(("RGBNT100", "rgbnt100"), spectra("rgbir/"))],
    "msvr310": [Place(("MSVR310", "msvr310"), MARKET | {"query": "query3"})],
    "cuhk_sysu": [
        Place(
            ("cuhksysu4reid", "CUHK-SYSU/cuhksysu4reid"),
            {"train": "train", "query": "query", "gallery": "gallery"},  # as `convert` writes them
        ),
        Place(("cuhksysu", "CUHK-SYSU", "cuhk_sysu"), MARKET),
    ],
    "lpw": market_like("LPW_s2", "lpw", "LPW"),
    "cuhk01": [Place(("CUHK01", "cuhk01"), {"images": "campus"})],
    "cuhk02": [
        Place(
            ("CUHK02", "cuhk02", "CUHK02/Dataset", "cuhk02/Dataset", "Dataset"),
            {"first": "P5/cam1", "second": "P5/cam2"},
        ),
    ],
    "viper": [Place(("VIPeR", "viper/VIPeR", "viper"), {"first": "cam_a", "second": "cam_b"})],
    "prid": [
        Place(
            (
                "prid2011/single_shot",
                "prid_2011/single_shot",
                "prid/single_shot",
                "single_shot",
                "prid2011/prid_2011/single_shot",
            ),
            {"first": "cam_a", "second": "cam_b"},
        ),
    ],
    "grid": [
        Place(
            ("underground_reid", "grid/underground_reid", "GRID/underground_reid", "grid", "GRID"),
            {"query": "probe", "gallery": "gallery", "folds": "features_and_partitions.mat"},
        ),
    ],
    "ilids": [
        Place(
            ("i-LIDS_Pedestrian", "i-LIDS_Pedestrain", "ilids/i-LIDS_Pedestrian", "ilids"),
            {"images": "Persons"},
        ),
    ],
    "sensereid": [
        Place(
            ("SenseReID", "sensereid/SenseReID", "sensereid"),
            {"query": "test_probe", "gallery": "test_gallery"},
        )
    ],
    "pairs": [Place((), {"images": "images", "sentences": "captions.json"})],
}

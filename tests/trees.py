"""Small data sets on disk, laid out as the public ones are: real image files, real lists, a few people
each."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from data_prep import splits


def picture(path, size=(8, 16)):
    """A small image whose pixels follow from its path: no two files are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(path).encode()))
    Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(path)


def table(folder, *rows, head="path,pid,camid,split", name="own.csv"):
    """The path of a table with a picture for each of its rows, whose first column is the path."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        picture(folder / row[0])
    lines = [head, *(",".join(map(str, row)) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def market_names(folder, name, train=(1, 2), test=(3, 4), ending="jpg"):
    """Two images of each training person, and a query and a gallery image of each tested one."""
    for pid in train:
        for camid in (1, 2):
            picture(folder / "bounding_box_train" / f"{name.format(pid=pid, camid=camid)}.{ending}")
    for pid in test:
        picture(folder / "query" / f"{name.format(pid=pid, camid=1)}.{ending}")
        picture(folder / "bounding_box_test" / f"{name.format(pid=pid, camid=2)}.{ending}")
    return folder


def market1501(folder):
    return market_names(folder, "{pid:04d}_c{camid}s1_000451_03")


def dukemtmc(folder):
    return market_names(folder, "{pid:04d}_c{camid}_f0046182")


def lpw(folder):
    return market_names(folder, "{pid:04d}_c{camid}s2_00012")


def cuhk03(folder):
    return market_names(folder, "{pid:04d}_c{camid}_21", ending="png")


def msmt17(folder, names=("train", "test")):
    """Both halves count people from 0; list_val holds images of the training people."""
    lists = {
        "train": [(0, 1), (1, 3)],
        "val": [(0, 2), (1, 4)],
        "query": [(0, 1), (1, 2)],
        "gallery": [(0, 5), (1, 6)],
    }
    for split, shots in lists.items():
        half, text = names[split in ("query", "gallery")], ""
        for pid, camid in shots:
            path = f"{pid:04d}/{pid:04d}_000_{camid:02d}_0303morning_0008_0.jpg"
            picture(folder / half / path)
            text += f"{path} {pid}\n"
        (folder / f"list_{split}.txt").write_text(text)
    return folder


def msmt17_v2(folder):
    return msmt17(folder, ("mask_train_v2", "mask_test_v2"))


def veri776(folder):
    for half, shots in {
        "image_train": [(1, 1), (1, 2)],
        "image_query": [(2, 1)],
        "image_test": [(2, 2), (2, 3)],
    }.items():
        for pid, camid in shots:
            picture(folder / half / f"{pid:04d}_c{camid:03d}_00030600_0.jpg", (16, 8))
    return folder


def vehicleid(folder):
    """Three vehicles to train on and two to test, three images each."""
    for k in range(15):
        picture(folder / "image" / f"{k:07d}.jpg", (16, 8))
    lists = {
        "train_list": range(9),
        **dict.fromkeys(("test_list_800", "test_list_1600", "test_list_2400"), range(9, 15)),
    }
    (folder / "train_test_split").mkdir()
    for name, numbers in lists.items():
        text = "".join(f"{k:07d} {100 + k // 3}\n" for k in numbers)
        (folder / "train_test_split" / f"{name}.txt").write_text(text)
    return folder


def annotated(folder, file, key, paths, captions):
    """A train, a test (and a val) image, each with `captions` sentences."""
    records = []
    for number, (split, path) in enumerate(paths):
        picture(folder / "imgs" / path)
        said = [f"a person in {word}" for word in ("red", "blue")[:captions]]
        records.append(
            {"split": split, "id": number + 1, key: path, "captions": said, "processed_tokens": []}
        )
    (folder / file).write_text(json.dumps(records))
    return folder


def cuhk_pedes(folder):
    paths = [
        ("train", "Market/0001_c1s1_000451_03.jpg"),
        ("train", "CUHK01/0363004.png"),
        ("val", "cam_a/001_45.bmp"),
        ("test", "Market/0003_c2s1_000451_03.jpg"),
    ]
    return annotated(folder, "reid_raw.json", "file_path", paths, 2)


def icfg_pedes(folder):
    """The second training image lies in MSMT17's test folder: its person 0 is tested there."""
    paths = [
        ("train", "train/0000/0000_000_01_0303morning_0008_0.jpg"),
        ("train", "test/0000/0000_001_05_0303morning_0016_1.jpg"),
        ("test", "test/0009/0009_001_07_0303morning_0016_1.jpg"),
    ]
    return annotated(folder, "ICFG-PEDES.json", "file_path", paths, 1)


def rstpreid(folder):
    paths = [("train", "0000_c14_0031.jpg"), ("val", "3701_c1_0001.jpg"), ("test", "3901_c5_0007.jpg")]
    return annotated(folder, "data_captions.json", "img_path", paths, 2)


def rgbnt201(folder):
    for half, names in {
        "train_171": ["000009_cam3_1_00", "000009_cam1_1_00"],
        "test": ["000258_cam2_0_01", "000258_cam1_0_02"],
    }.items():
        for spectrum in ("RGB", "NI", "TI"):
            for name in names:
                picture(folder / half / spectrum / f"{name}.jpg")
    return folder


def market1501_mm(folder):
    for half, names in {
        "train": ["0002_c1s1_000451_03"],
        "query": ["0003_c1s1_000151_01"],
        "gallery": ["0003_c3s1_000152_01", "0000_c1s1_000000_02"],
    }.items():
        for spectrum in ("RGB", "NI", "TI"):
            for name in names:
                picture(folder / half / spectrum / f"{name}.jpg")
    return folder


def rgbnt100(folder):
    for half, names in {
        "bounding_box_train": ["0501_c0001_000"],
        "query": ["0502_c0008_003"],
        "bounding_box_test": ["0502_c0007_001"],
    }.items():
        for name in names:
            picture(folder / "rgbir" / half / f"{name}.jpg", (48, 8))
    return folder


def msvr310(folder):
    for half, names in {
        "bounding_box_train": ["0002_s013_v1_002"],
        "query3": ["0003_s020_v3_001"],
        "bounding_box_test": ["0003_s020_v3_001", "0003_s021_v4_000"],
    }.items():
        for name in names:
            for spectrum in ("vis", "ni", "th"):
                picture(folder / half / name[:4] / spectrum / f"{name}.jpg", (16, 8))
    return folder


def cuhk_sysu(folder):
    for half, names in {
        "train": ["00001_s1_0000000_0", "00001_s2_0000001_0"],
        "query": ["00007_s9_0000000_0"],
        "gallery": ["00007_s8_0000000_0"],
    }.items():
        for name in names:
            picture(folder / half / f"{name}.jpg")
    return folder


def some_people(name, number=4):
    """People that are tested in our first split, and some that are not."""
    tested = splits.ours()[name][0]
    return sorted(tested[:number] + [pid for pid in splits.PEOPLE[name][0] if pid not in tested][:number])


def cuhk01(folder):
    for pid in some_people("cuhk01"):
        for image in (1, 2, 3, 4):
            picture(folder / "campus" / f"{pid:04d}{image:03d}.png")
    return folder


def cuhk02(folder):
    for pid in (1, 2, 3):
        for view in (1, 2):
            for image in (1, 2):
                picture(folder / "P5" / f"cam{view}" / f"{pid:03d}_{image:02d}.png")
    return folder


def viper(folder):
    for pid in range(40):
        picture(folder / "cam_a" / f"{pid:03d}_45.bmp")
        picture(folder / "cam_b" / f"{pid:03d}_90.bmp")
    return folder


def prid(folder):
    """People 1 to 200 are in both cameras; 201 and 202 are others in each, 400 is in the second alone."""
    for number in (*some_people("prid"), 201, 202):
        picture(folder / "cam_a" / f"person_{number:04d}.png")
    for number in (*some_people("prid"), 201, 202, 400):
        picture(folder / "cam_b" / f"person_{number:04d}.png")
    return folder


def grid(folder):
    """Four people in two folds of two; person 0 of the gallery is a distractor."""
    for pid in (1, 2, 3, 4):
        picture(folder / "probe" / f"{pid:04d}_1_25004_107_32_106_221.jpeg")
        picture(folder / "gallery" / f"{pid:04d}_2_25023_116_134_128_330.jpeg")
    picture(folder / "gallery" / "0000_1_25004_1_32_106_221.jpeg")
    folds = np.empty((1, 2), dtype=object)
    for k, train in enumerate(([1, 2], [3, 4])):
        fold = np.empty((1, 1), dtype=[(f"f{n}", object) for n in range(3)])
        fold[0, 0] = (np.zeros((1, 1)), np.zeros((1, 1)), np.array([train]))
        folds[0, k] = fold
    savemat(folder / "features_and_partitions.mat", {"trainIdxAll": folds})
    return folder


def ilids(folder):
    for pid in range(1, 13):
        for image in range(1, 3 + pid % 2):
            picture(folder / "Persons" / f"{pid:04d}{image:03d}.jpg")
    return folder


def sensereid(folder):
    for pid in (1, 2):
        picture(folder / "test_probe" / f"{pid:05d}_00000.jpg")
        picture(folder / "test_gallery" / f"{pid:05d}_00001.jpg")
    return folder


TREES = {  # data set -> how its small tree is made
    "market1501": market1501,
    "dukemtmc": dukemtmc,
    "occluded_duke": dukemtmc,
    "lpw": lpw,
    "cuhk03": cuhk03,
    "msmt17": msmt17,
    "veri776": veri776,
    "vehicleid": vehicleid,
    "cuhk_pedes": cuhk_pedes,
    "icfg_pedes": icfg_pedes,
    "rstpreid": rstpreid,
    "rgbnt201": rgbnt201,
    "market1501_mm": market1501_mm,
    "rgbnt100": rgbnt100,
    "msvr310": msvr310,
    "cuhk_sysu": cuhk_sysu,
    "cuhk01": cuhk01,
    "cuhk02": cuhk02,
    "viper": viper,
    "prid": prid,
    "grid": grid,
    "ilids": ilids,
    "sensereid": sensereid,
}


def tree(name, folder):
    """A small tree of the data set in a folder that it makes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return TREES[name](folder)

"""From a seed to a folder of image files that any reader of the real data set reads."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_prep.world import people, places, render, words
from data_prep.world.streams import near, stream

VERSION = 1
SIZES = {  # train people x images, test people x (query + gallery) images, distractors, junk
    "smoke": {"train": (16, 4), "test": (12, 1, 3), "distractors": 6, "junk": 2},
    "laptop": {"train": (200, 10), "test": (400, 2, 5), "distractors": 120, "junk": 30},
}
CAMERAS = 6
CHUNK = 16  # images rendered together: fixed, so that no pixel depends on the number of workers
SLOTS = people.SLOTS | places.SLOTS


def build(out, profile="laptop", seed=0, size=(128, 64), workers=None, log=print):
    """Write the market set to the folder `out`. An interrupted run leaves nothing under that name."""
    out, plan = Path(out), market_plan(profile, seed)
    card = describe(plan, profile, seed, size)
    if finished(out, card):
        return out
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for folder in {Path(shot["path"]).parent for shot in plan}:
        (part / folder).mkdir(parents=True)
    render_all(plan, part, profile, seed, size, workers or os.cpu_count(), log)
    sentences = {shot["path"]: shot["captions"] for shot in plan if shot["captions"]}
    (part / "captions.json").write_text(json.dumps(sentences, indent=0))
    (part / "world.json").write_text(json.dumps(card, indent=1))
    os.replace(part, out)
    return out


def finished(out, card):
    """Whether this very world stands there already. Anything else in the way is the user's to remove."""
    if not out.exists() or not any(out.iterdir()):
        return False
    there = out / "world.json"
    found = json.loads(there.read_text()) if there.exists() else {}
    if found.get("fingerprint") != card["fingerprint"]:
        what = f"another world ({found['name']}, seed {found['seed']})" if found else "other files"
        raise ValueError(
            f"expected an empty folder or the same world at {out}, found {what}; choose another folder."
        )
    return True


def market_plan(profile, seed):
    """One dict per image file, in writing order: where it goes, who is on it, from which camera, and its words."""
    if profile not in SIZES:
        raise ValueError(f"expected a profile among {', '.join(SIZES)}, found {profile!r}; correct it.")
    sizes, plan = SIZES[profile], []
    (train, views), (test, queries, gallery) = sizes["train"], sizes["test"]
    for k in range(train):
        plan += shots(seed, 2 * k + 2, ["bounding_box_train"] * views)
    for k in range(test):
        plan += shots(seed, 2 * k + 1, ["query"] * queries + ["bounding_box_test"] * gallery)
    for k in range(sizes["distractors"]):
        plan += shots(seed, 100000 + k, ["bounding_box_test"], written="0000", first=k)
    for k in range(sizes["junk"]):
        plan += shots(seed, 200000 + k, ["bounding_box_test"], written="-1", first=k)
    return plan


def shots(seed, pid, folders, written=None, first=0):
    """The images of one person, no camera twice before every camera was used."""
    person = people.identity(seed, pid)
    order = np.concatenate(
        [stream(seed, "cameras", pid, k).permutation(CAMERAS) for k in range(len(folders) // CAMERAS + 1)]
    )
    return [
        shot(seed, person, pid, first + k, folder, int(order[k]) + 1, written)
        for k, folder in enumerate(folders)
    ]


def shot(seed, person, pid, index, folder, camid, written):
    cam = places.camera(seed, "A", camid)
    image = people.instance(seed, pid, index)
    image["heading"] = near(seed, cam["heading"], cam["spread"], "turn", pid, index) % 360
    name = f"{written or f'{pid:04d}'}_c{camid}s1_{index:06d}_00.jpg"
    text = words.captions(seed, person, image, pid, index)
    return {"path": f"{folder}/{name}", "pid": pid, "index": index, "camid": camid,
            "person": person, "image": image, "captions": text}  # fmt: skip


def describe(plan, profile, seed, size):
    """world.json: what a reader needs to know, and what tells this world from any other."""
    cameras = [places.camera(seed, "A", c + 1) for c in range(CAMERAS)]
    numbers = json.dumps([VERSION, list(size), cameras, plan], sort_keys=True)
    folders = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
    counts = {
        split: sum(shot["path"].startswith(folder) for shot in plan) for folder, split in folders.items()
    }
    counts["gallery"] -= SIZES[profile]["junk"]
    return {"name": "world_market", "label": "world", "layout": "market1501", "profile": profile, "seed": seed,
            "size": list(size), "version": VERSION, "counts": counts,
            "fingerprint": hashlib.sha256(numbers.encode()).hexdigest()[:16]}  # fmt: skip


def render_all(plan, out, profile, seed, size, workers, log):
    """Render with `workers` processes, each of which takes every so many-th chunk; few images are not worth them."""
    if workers == 1 or len(plan) < 40 * CHUNK:
        render_share(plan, out, seed, size, 0, 1)
    else:
        command = [sys.executable, "-m", "data_prep.world.build", out, profile, seed, *size, workers]
        wait([subprocess.Popen([*map(str, command), str(k)]) for k in range(workers)], out, len(plan), log)
    log(f"world: {len(plan)} images")


def wait(processes, out, total, log):
    """Report progress until all are done; a failed one ends the others."""
    said = time.monotonic()
    while any(process.poll() is None for process in processes):
        time.sleep(0.2)
        if time.monotonic() - said > 10:
            said = time.monotonic()
            log(f"world: {sum(1 for _ in out.glob('*/*.jpg'))} of {total} images")
        if any(process.poll() for process in processes):
            for process in processes:
                process.kill()
    if any(process.returncode for process in processes):
        raise OSError(
            f"expected {total} images in {out}, found a renderer that stopped; see its message above."
        )


def render_share(plan, out, seed, size, number, of):
    """Every `of`-th chunk from `number` on, on one thread: a pixel must not depend on how work is split."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for k in range(number * CHUNK, len(plan), of * CHUNK):
            render_chunk(plan[k : k + CHUNK], out, seed, size)
    finally:
        torch.set_num_threads(threads)


def render_chunk(plan, out, seed, size):
    pictures = render.render(scene(plan, seed), *size)
    for shot, colour in zip(plan, pictures.colour):
        noise = stream(seed, "noise", shot["pid"], shot["index"]).standard_normal((*size, 3), dtype="float32")
        pixels = places.develop(colour, places.camera(seed, "A", shot["camid"]), torch.from_numpy(noise))
        Image.fromarray(pixels.numpy()).save(out / shot["path"], quality=92)


def scene(plan, seed):
    """The tensors of a chunk: each person turned to its heading, among the furniture of its camera."""
    rows, views = [], []
    for shot in plan:
        cam, image = places.camera(seed, "A", shot["camid"]), shot["image"]
        body = render.primitives(people.body(shot["person"], image), people.SLOTS, image["heading"])
        still = render.primitives(places.furniture(seed, cam, image, "A", shot["camid"]), places.SLOTS)
        rows.append([torch.cat(pair) for pair in zip(body, still)])
        views.append(places.view(cam, image))
    columns = [torch.stack(column) for column in zip(*rows)]
    eye, axes, sun, place = (torch.tensor(np.array(column), dtype=torch.float32) for column in zip(*views))
    return render.Scene(list(SLOTS.values()), *columns, eye, axes, sun, place)


def main(out, profile, *numbers):
    """One renderer: python -m data_prep.world.build FOLDER PROFILE SEED HEIGHT WIDTH WORKERS NUMBER"""
    seed, height, width, workers, number = map(int, numbers)
    render_share(market_plan(profile, seed), Path(out), seed, (height, width), number, workers)


if __name__ == "__main__":
    main(*sys.argv[1:])

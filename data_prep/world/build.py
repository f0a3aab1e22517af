"""From a name and a seed to a folder of image files that the reader of the real data set reads.

python -m data_prep world OUT --set world_market --profile laptop --seed 0
"""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep import unfinished
from data_prep.seal import CARD, sealed
from data_prep.world import cast, light, people, places, render, vehicles, words
from data_prep.world.layouts import layout_of

VERSION = 5  # of the renderer: pixels of another version are another world
SIZE = (128, 64)  # height and width of a person's image
ROOM = 6e3  # bytes that a picture may need, for the check of the disk
FEW = 400  # shots that are not worth a process of their own
TALK_EVERY = 10  # seconds between lines of progress
QUALITY = 92  # of the JPEG files


def build(out, profile="laptop", seed=0, name="world_market", size=SIZE, workers=None, log=print):
    """Write a data set to the folder `out` and return it; `size` is (height, width) in pixels. An interrupted
    run leaves nothing under that name; the same world is not made twice, and nothing else is overwritten:
    ValueError where other files stand in the way."""
    out = Path(out)
    layout = layout_of(name)
    seed = whole(seed)
    plan, paths, card = planned(name, profile, seed, tuple(size))
    if finished(out, card):
        return out
    workers = os.cpu_count() if workers is None else workers
    if workers < 1:
        raise ValueError(f"expected at least one worker, found {workers}; leave it out for one per core.")
    part = half_made(out)
    try:
        check_room(part, paths, size)
        render_all(plan, paths, part, (name, profile, seed, *size), workers, log)
        write_beside(part, layout, seed, plan, paths, card)
        put(part, out, card)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def half_made(out):
    """An empty folder of this process's own beside `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = unfinished.beside(out)
    shutil.rmtree(part, ignore_errors=True)  # an earlier try of this very process
    part.mkdir()
    return part


def write_beside(part, layout, seed, plan, paths, card):
    """What lies beside the images."""
    if layout.annotate:
        layout.annotate(part, seed, plan, paths)
    table = {}
    for one, files in zip(plan, paths):
        for path in files:
            table[path] = {"person": one["person"], "image": one["image"], "when": one["when"]}
    (part / "attributes.json").write_text(json.dumps(table), encoding="utf-8")
    whole_card = {**card, "files": sealed(part)}
    (part / CARD).write_text(json.dumps(whole_card, indent=1), encoding="utf-8")


def put(part, out, card):
    """Give a whole world its name, unless somebody else has just made the same."""
    try:
        os.replace(part, out)
    except OSError:
        if not finished(out, card):
            raise


def cached(shelf, profile, seed, name):
    """The folder of a world below `shelf`, named after its fingerprint: a world of another VERSION of the
    renderer, of other people, moments or words is never taken for it."""
    print_of = fingerprint(name, profile, seed)
    return build(Path(shelf) / f"{name}-{profile}-{whole(seed)}-{print_of[:8]}", profile, seed, name)


def fingerprint(name, profile, seed):
    """The fingerprint of a world, which needs no picture of it."""
    return print_of_world(name, profile, whole(seed), SIZE)


@functools.lru_cache(maxsize=128)  # a text each: a lifelong run asks for twelve worlds
def print_of_world(name, profile, seed, size):
    return planned(name, profile, seed, size)[2]["fingerprint"]


@functools.lru_cache(maxsize=4)
def planned(name, profile, seed, size):
    """Plan, files per shot, and card of a world: a few seconds for a large one, so not done twice."""
    plan = cast.plan(name, profile, seed)
    layout = layout_of(name)
    paths = [layout.files(one, number) for number, one in enumerate(plan)]
    return plan, paths, describe(name, plan, paths, profile, seed, size)


def whole(seed):
    """The seed as a whole number; ValueError for anything else."""
    try:
        return int(seed)
    except ValueError:
        raise ValueError(
            f"expected a whole number as the seed of a world, found {seed!r}; correct it."
        ) from None


def finished(out, card):
    """Whether this very world stands there already. ValueError where anything else is in the way: it is the
    user's to remove."""
    if not out.exists() or not any(out.iterdir()):
        return False
    there = out / CARD
    try:
        found = json.loads(there.read_text(encoding="utf-8")) if there.exists() else {}
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or nested without end
        found = None
    if not isinstance(found, dict):
        found = {"name": "a world.json that is no card"}
    if found.get("fingerprint") == card["fingerprint"]:
        return True
    what = "other files"
    if found:
        what = (
            f"another world ({found.get('name')}, seed {found.get('seed')}, version {found.get('version')})"
        )
    raise ValueError(
        f"expected an empty folder or the world that was asked for at {out}, found {what}; remove it or "
        "choose another folder."
    )


def check_room(folder, paths, size):
    """ValueError where the disk is too full for all pictures."""
    pictures = sum(len(spectra) for files in paths for spectra in files.values())
    needed = pictures * ROOM * size[0] * size[1] / 8192  # bytes; ROOM is for 128 x 64 = 8192 pixels
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"expected {needed / 1e9:.2f} GB of free disk for {pictures} images, found {free / 1e9:.2f} GB "
            f"at {folder.parent}; free some or choose another folder."
        )


def describe(name, plan, paths, profile, seed, size):
    """world.json: what a reader needs to know, and what tells this world from any other."""
    marks = [VERSION, canonical(), *scene(name, plan, paths, seed, size)]
    layout = layout_of(name)
    splits = []  # in which the reader will find each image, but for junk
    for one in plan:
        if one["pid"] >= 0:
            splits += layout.read_as.get(one["split"], (one["split"],))
    return {
        "name": name,
        "label": "world",
        "reader": layout.reader,
        "profile": profile,
        "seed": seed,
        "size": list(size),
        "version": VERSION,
        "counts": dict(Counter(splits)),
        "fingerprint": digest_of(marks),
    }


def scene(name, plan, paths, seed, size):
    """Everything that a world shows and says, in numbers and words: size, cameras, shots, files and
    sentences."""
    cameras = {}
    for one in plan:
        cameras[f"{one['domain']}{one['camid']}"] = cast.camera(seed, one["domain"], one["camid"])
    said = [said_of(seed, one) for one in plan if layout_of(name).annotate]
    return list(size), cameras, plan, paths, said


def digest_of(marks):
    """Sixteen digits that change with any of these numbers and words."""
    return hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()[:16]


# sets that differ in what is drawn: people, haze, night, dusk, vehicles
CANONICAL = ("world_market", "world_c", "world_rgbnt201", "world_market_mm", "world_rgbnt100")


@functools.cache
def canonical():
    """A hash of the pixels of a few shots of every kind, as this machine computes them: a renderer that draws
    other pixels makes another world, whatever its VERSION says."""
    shots = [one for name in CANONICAL for one in cast.plan(name, "smoke", 0)[:1]]
    return pixel_hash(shots)


def pixel_hash(shots, seed=0, size=SIZE):
    """A hash of the pixels of these shots in all spectra, before they become files."""
    found = hashlib.sha256()
    for one in shots:
        for picture in photograph(one, seed, size, light.SPECTRA).values():
            found.update(picture.tobytes())
    return found.hexdigest()[:16]


def said_of(seed, one):
    """All words about a shot: two captions, and four descriptions of a person."""
    described = words.parts(one["person"], one["image"]) if one["kind"] == "person" else ()
    return [*cast.captions(seed, one, one.get("spectrum", "rgb")), *described]


def render_all(plan, paths, out, key, workers, log):
    """Render with `workers` processes, each of which takes every `workers`-th shot; fewer than FEW shots are
    rendered here. `key` is what `render_share` needs to make the plan again: name, profile, seed, height,
    width."""
    for folder in {Path(path).parent for files in paths for path in files}:
        (out / folder).mkdir(parents=True, exist_ok=True)
    files = sum(map(len, paths))
    if workers == 1 or len(plan) < FEW:
        render_share(plan, out, *key, 0, 1, log)
    else:
        command = [sys.executable, "-m", "data_prep.world.build", os.getpid(), out, *key, workers]
        command = [str(part) for part in command]
        processes = [subprocess.Popen([*command, str(k)], env=single_threaded()) for k in range(workers)]
        wait(processes, out, files, log)
    there = sum(1 for _ in out.rglob("*.jpg"))
    if there != files:
        raise OSError(f"expected {files} images of {key[0]} in {out}, found {there}; make the world again.")
    log(f"{key[0]}: {len(plan)} shots rendered")


def single_threaded():
    """The environment of a process without threads of numpy's linear algebra beside it."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def wait(processes, out, total, log):
    """Report progress until all are done; a failed one ends the others."""
    said = time.monotonic()
    while any(process.poll() is None for process in processes):
        time.sleep(0.2)
        if time.monotonic() - said > TALK_EVERY:
            said = time.monotonic()
            log(f"world: {sum(1 for _ in out.rglob('*.jpg'))} of {total} files")
        if any(process.poll() for process in processes):
            for process in processes:
                process.kill()
    if any(process.returncode for process in processes):
        raise OSError(
            f"expected {total} files in {out}, found a renderer that stopped; see its message above."
        )


def render_share(plan, out, name, profile, seed, height, width, number, of, log=None):
    """Write the files of every `of`-th shot of the plan from `number` on."""
    layout = layout_of(name)
    said = time.monotonic()
    for k in range(number, len(plan), of):
        if log and time.monotonic() - said > TALK_EVERY:
            said = time.monotonic()
            log(f"world: {k} of {len(plan)} shots")
        files = layout.files(plan[k], k)
        pictures = photograph(plan[k], seed, size_of(layout, height, width), wanted(files))
        for path, spectra in files.items():
            strip = np.concatenate([pictures[s] for s in spectra], 1)
            Image.fromarray(strip).save(out / path, quality=QUALITY)


def size_of(layout, height, width):
    """(height, width) of an image: vehicles stand in landscape where the layout says so."""
    return (height // 2, width * 2) if layout.landscape else (height, width)


def wanted(files):
    """The spectra that the files of a shot show."""
    return {spectrum for spectra in files.values() for spectrum in spectra}


def photograph(one, seed, size, spectra):
    """{spectrum: uint8 (H, W, 3)} of a shot: traced once, exposed for each."""
    parts, traced, cam = stage(one, seed, size)
    pictures = {}
    for s in spectra:
        grain = one["image"]["noise"] + light.SPECTRA.index(s)  # a seed of its own for each spectrum
        pictures[s] = light.expose(traced, parts, cam, s, one["when"], grain, size)
    return pictures


def stage(one, seed, size):
    """Parts, traced rays and camera of a shot, `size` (height, width) in pixels."""
    cam = cast.camera(seed, one["domain"], one["camid"])
    image = one["image"]
    share = size[1] / size[0]
    turn = render.turn_by(image["heading"])
    still = np.eye(3)  # what stands about does not turn with the person
    if one["kind"] == "person":
        parts = people.body(one["person"], image)
        view = places.view(cam, image, share)
    else:
        parts = vehicles.body(one["person"], image)
        # the camera looks lower, and 6.6 metres, more than a pickup's length, fit the width
        view = places.view(cam, image, share, 0.75, max(3.3, 6.6 / share))
    around = places.furniture(cam, image) + places.passers_by(seed, image, (one["who"], one["index"]))
    frames = [render.frame_of(part, turn) for part in parts]
    frames += [render.frame_of(part, still) for part in around]
    return parts + around, render.trace(parts + around, frames, view, *size), cam


def main(parent, out, name, profile, *numbers):
    """One renderer: python -m data_prep.world.build PARENT FOLDER SET PROFILE SEED HEIGHT WIDTH WORKERS
    NUMBER"""
    threading.Thread(target=end_with, args=(int(parent),), daemon=True).start()
    seed, height, width, workers, number = map(int, numbers)
    plan = cast.plan(name, profile, seed)
    render_share(plan, Path(out), name, profile, seed, height, width, number, workers)


def end_with(parent):
    """End this process once its parent is gone: a killed program leaves no renderer behind."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])

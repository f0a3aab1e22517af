"""Speed and memory as ratios measured in one run: `python -m reid_core bench`. Not a test: machines
differ."""

import datetime
import functools
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from reid_core import metrics, processor
from reid_core.data import Batch, Loader, PixelStore, load_data
from reid_core.loading import load_clip, open_model
from reid_core.methods import base, dmpt, hpl, pad, promptsg
from reid_core.precision import attention_backend, pick_device
from reid_core.runs import records
from reid_core.runs.provenance import git
from reid_core.runs.run import BOOK
from reid_core.towers import no_prompts

ON_GPU = ", on a GPU"


def kept(name, gpu=False):
    """What `python -m reid_core bench --into-book` measured under this name, or None."""
    if gpu:
        name += ON_GPU
    return records.read_object(BOOK.folder() / "bench.json").get(name)


def keep(name, told):
    """Add one measurement to results/bench.json, with its machine, commit and date; a GPU's stands beside a
    CPU's under a name of its own."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    if torch.cuda.is_available():
        name += ON_GPU
        machine = torch.cuda.get_device_name()
    about = {
        "device": machine,
        "commit": git("rev-parse", "HEAD"),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
    }
    with records.changing(BOOK.folder() / "bench.json") as everything:
        everything[name] = {**told, **about}


def run(parts=(), into_book=False):
    """Run and print the named parts, or all; `into_book` writes what they return to results/bench.json."""
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise ValueError(f"expected parts among {', '.join(PARTS)}, found {unknown[0]!r}; correct the name.")
    device = pick_device()
    print(f"torch {torch.__version__} on {device}, {torch.get_num_threads()} threads")
    for name in parts or PARTS:
        told = PARTS[name](device)
        if into_book and told:
            keep(name, told)


def tower(device, name="tiny", size=(128, 64), batch=64):
    """A training step of our image tower against one of open_clip's, in turn: the same work and optimiser;
    with all tokens of the last block, and with what retrieval reads, the class token."""
    ours = load_clip(name, None, size).image.to(device)
    plain = open_model(name).visual.to(device)
    images = torch.randn(batch, 3, *size, device=device)  # (B, 3, H, W)
    optimiser = torch.optim.Adam(ours.parameters(), 1e-4, fused=True)
    steps = {
        "all tokens": (lambda: ours.joint_cls(ours(images)), optimiser),
        "class token alone": (lambda: ours.joint_cls(ours(images, read=1)), optimiser),
        "open_clip": (
            lambda: plain(images),  # it computes all tokens, and returns the class token
            torch.optim.Adam(plain.parameters(), 1e-4, fused=True),
        ),
    }
    times = alternate(steps, device)
    told = [
        f"{kind} {batch / statistics.median(seconds):.0f} images/s (time ratio "
        f"{median_ratio(seconds, times['open_clip']):.2f})"
        for kind, seconds in times.items()
    ]
    how = f"training step of {name} at {size[0]}x{size[1]}, batch {batch}, bf16"
    print(f"{how}: {', '.join(told)}")


def median_ratio(times, others):
    """Median over the rounds of time / other time. Both times of a round are taken one after the other, so
    a slow spell of the machine cancels out of their ratio."""
    return statistics.median(one / other for one, other in zip(times, others))


def alternate(steps, device, warm=3, rounds=10):
    """Seconds of each step {name: (forward, optimiser)}, taken in turn so that a drifting machine does not
    favour one: {name: [seconds per round]}."""
    times = {name: [] for name in steps}
    with attention_backend(device, False):
        for k in range(warm + rounds):
            for name, (forward, optimiser) in steps.items():
                step = functools.partial(train_step, forward, optimiser, device)
                seconds = timed(step, device)
                if k >= warm:  # the first steps allocate the optimiser's state and choose kernels
                    times[name].append(seconds)
    return times


def train_step(forward, optimiser, device):
    """One optimiser step on the mean square of a feature that is computed under bf16 autocast."""
    with torch.autocast(device.type, torch.bfloat16):
        feature = forward()
    optimiser.zero_grad()
    feature.float().square().mean().backward()
    optimiser.step()


def timed(work, device):
    """Seconds of `work`, a GPU's included."""
    if device.type == "cuda":
        torch.cuda.synchronize()  # calls return before the GPU is done: wait for earlier work, then for ours
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def prompts(device, name="ViT-B-16-quickgelu", size=(256, 128), batch=16, rounds=5):
    """Images per second of PromptSG's test features, relative to the image tower alone (its Table 5), and how
    much longer its sentence takes at 77 positions than at 8."""
    recipe = promptsg.RECIPE.but(
        backbone=name, pretrained="random", image_height=size[0], image_width=size[1]
    )
    method = promptsg.PromptSG(recipe, SimpleNamespace(classes=751, cameras=[1])).to(device).eval()
    nobody = torch.zeros(batch, dtype=torch.long, device=device)  # no label is read at test time
    images = torch.randn(batch, 1, 3, *size, device=device)  # (B, M, 3, H, W) of one spectrum
    some = Batch(index=nobody, labels=nobody, cameras=nobody, views=[images])
    with (
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16),
        attention_backend(device, False),
    ):
        times = inference_seconds(method, some, rounds, device)
        sentences = sentence_seconds(method, batch, device)
    ratios, spread = beside_tower_alone(times)
    longer = sentences[77] / sentences[8]
    print(
        f"test features of {name} at {size[0]}x{size[1]}, batch {batch}, bf16, relative to the tower alone: "
        f"{listed(ratios)}"
    )
    print(f"its sentences: 77 positions take {longer:.1f} times as long as 8")
    return {
        "ratios": ratios,
        "spread": spread,
        "77 positions over 8": round(longer, 2),
        "batch": batch,
        "model": name,
    }


INFERENCE = {  # label -> (self-attention blocks after the cross-attention, prompt); None: the tower alone
    "tower alone": (None, None),
    "1 cross, simplified": (0, "simplified"),
    "1 cross + 1 self, simplified": (1, "simplified"),
    "1 cross + 2 self, composed": (2, "composed"),
    "1 cross + 2 self, simplified": (2, "simplified"),
}


def inference_seconds(method, batch, rounds, device):
    """{label of INFERENCE: [seconds per round]} of the test features of a batch, one label after the other
    in every round."""
    times = {label: [] for label in INFERENCE}
    for k in range(rounds + 1):
        for label, (blocks, prompt) in INFERENCE.items():
            work = functools.partial(see, method, batch, blocks, prompt)
            seconds = timed(work, device)
            if k:  # the first round warms up
                times[label].append(seconds)
    return times


def beside_tower_alone(times):
    """Speeds relative to the image tower alone, from {label: [seconds per round]}: {label: ratio of the
    medians}, and {label: [smallest, largest ratio of a round]}."""
    alone = times["tower alone"]
    ratios = {}
    spread = {}
    for label, seconds in times.items():
        ratios[label] = round(statistics.median(alone) / statistics.median(seconds), 3)
        each = [one / other for one, other in zip(alone, seconds)]
        spread[label] = [round(min(each), 3), round(max(each), 3)]
    return ratios, spread


def listed(ratios):
    """{label: ratio} as text: "a 1.00, b 0.52"."""
    return ", ".join(f"{label} {ratio:.2f}" for label, ratio in ratios.items())


def see(method, batch, blocks, prompt):
    """The test feature z with the first `blocks` self-attention blocks of the interaction; None: the features
    of the image tower."""
    if blocks is None:
        tokens = method.image(batch.images.flatten(0, 1))  # (B, M, 3, H, W) -> (B * M, T, width)
        return method.image.reid_features(tokens)
    every = method.interaction.blocks
    method.interaction.blocks = every[:blocks]
    try:
        return method.embed(batch, method.tested(prompt))
    finally:
        method.interaction.blocks = every


def learnable(kind, recipe, classes):
    """Millions of parameters that a method of this recipe trains for so many identities (PromptSG, Table
    6)."""
    labels = np.repeat(np.arange(classes), 4)  # four images each: the count depends on identities alone
    told = SimpleNamespace(classes=classes, cameras=[1], labels=labels, train=labels)
    method = kind(recipe.but(pretrained=None), told)
    return base.learnable(method) / 1e6


def sentence_seconds(method, batch, device):
    """{positions: seconds} of encoding a batch of sentences: 8, as long as needed, and 77, CLIP's context."""
    words = method.template(identity=torch.randn(batch, 1, method.text.width, device=device))
    whole = padded(method, words)  # (B, 8, D) -> (B, 77, D)
    return {
        length: seconds_of(method.text, sentences, 5, device)
        for length, sentences in {8: words, 77: whole}.items()
    }


def joint_prompts(device, name="ViT-B-16-quickgelu", pairs=16, people=751, rounds=3):
    """What HPL's prompts would take longer if they were padded to CLIP's 77 positions, if those of an
    identity were encoded for each of its images, or if those of all identities were not cached: times
    relative to the prompts of a batch."""
    recipe = hpl.RECIPE.but(backbone=name, pretrained="random", image_height=128, image_width=64)
    method = hpl.HPL(recipe, load_data("world_text+world_msmt", "smoke")).to(device).eval()
    count = recipe.inst_tokens
    instance = torch.randn(pairs, count, method.text.width, device=device)  # (pairs, Q, W)
    rows = pairs + pairs // recipe.images_per_id  # an identity for each pair, and one for each four images
    sizes = {"each identity once": rows, "each image": 2 * pairs, "all identities": people}
    with (
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16),
        attention_backend(device, False),
    ):
        labels = torch.arange(pairs, device=device) % method.data.classes
        whole = method.full(identity=method.identities(labels), instance=instance)
        times = {
            "full prompts": seconds_of(method.prompt_encoder, whole, rounds, device),
            "at 77 positions": seconds_of(method.prompt_encoder, padded(method, whole), rounds, device),
        }
        for label, number in sizes.items():
            labels = torch.arange(number, device=device) % method.data.classes
            short = method.short(identity=method.identities(labels))
            times[label] = seconds_of(method.prompt_encoder, short, rounds, device)
    batch = times["full prompts"] + times["each identity once"]
    ratios = {
        "77 positions over its own": times["at 77 positions"] / times["full prompts"],
        "each image over each identity": times["each image"] / times["each identity once"],
        "all identities over a batch": times["all identities"] / batch,
    }
    ratios = {label: round(ratio, 2) for label, ratio in ratios.items()}
    print(f"HPL's prompts with {name}, {pairs} pairs and as many images, bf16: {listed(ratios)}")
    return {"ratios": ratios, "positions": whole.embeddings.shape[1], "batch": pairs, "model": name}


def prompt_tuning(device, name="ViT-B-16-quickgelu", shots=4, rounds=3):
    """What DMPT, its baselines and full fine-tuning train, what a step of each keeps for the backward pass,
    and how long it takes."""
    data = load_data("world_rgbnt201", "smoke")
    rows = {}
    for row in ("full", dmpt.TABLES["Table 3"][0], "Baseline2", "head alone", "fine-tuning"):
        recipe = dmpt.RECIPE.but(**dmpt.PAPER.rows[row])
        recipe = recipe.but(backbone=name, pretrained="random", ids_per_batch=shots // 2, images_per_id=2)
        method = dmpt.DMPT(recipe, data).to(device).train()
        stage = method.stages()[0]
        rows[row] = dmpt.budget(method) | step_of(method, stage, shots, rounds, device)
        print(f"{row}: {rows[row]}")
    longest = rows["fine-tuning"]["seconds"]
    for one in rows.values():
        one["seconds"] = round(one["seconds"] / longest, 3)
    return {"rows": rows, "batch": shots, "model": name}


SEEN = {  # training identities of the five seen domains, in PAD's first order
    "Market-1501": 751,
    "CUHK-SYSU": 5532,
    "DukeMTMC": 702,
    "MSMT17": 1041,
    "CUHK03": 767,
}


def growing_pool(device, name="ViT-B-16-quickgelu", batch=16, rounds=5):
    """What PAD's prompts cost at test, relative to the tower without them: as tokens of every block, which is
    the published way, and as keys and values; and what its prompts store in each domain."""
    recipe = pad.PAPER.recipe_of("released", "full").but(backbone=name, pretrained="random")
    rows = np.arange(64) % 16
    domain = SimpleNamespace(classes=16, labels=rows, train=rows, manifest=SimpleNamespace(name=""))
    method = pad.PADReleased(recipe, domain)
    stored = {}
    for number, (title, classes) in enumerate(SEEN.items(), 1):
        domain = SimpleNamespace(**{**vars(domain), "classes": classes})
        method.begin_domain(domain, number)
        first, second = pad.trained_share(method).values()
        stored[title] = {**pad.storage(method), "stage 1": round(first, 2), "stage 2": round(second, 2)}
        print(f"{title}: {stored[title]}")
    method.to(device).eval()
    ways = {
        "without prompts": no_prompts,
        "as tokens": lambda index, x, prompts: method.prompts(index, x, prompts),
        "as keys and values": method.prompts,
    }
    images = torch.randn(batch, 3, *method.size, device=device)
    times = {}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        for way, prompter in ways.items():
            work = functools.partial(method.image, images, prompter=prompter)
            times[way] = [timed(work, device) for _ in range(rounds + 1)][1:]  # the first warms up
    base_line = times["without prompts"]
    ratios = {way: round(median_ratio(some, base_line), 2) for way, some in times.items()}
    print(f"an image of {name} at test, batch {batch}, bf16: {listed(ratios)}")
    return {"ratios": ratios, "stored": stored, "batch": batch, "model": name}


def step_of(method, stage, shots, rounds, device):
    """{"kept": MB a shot for the backward pass, "seconds" of a step: the median of some rounds}."""
    base.freeze_all_but(method, stage.groups)
    loader = Loader.of_stage(method.data, method.size, stage, device=device)
    batch = next(iter(loader.batches(0, loader.plan(0))))
    losses = base.StageLoss(method, stage)

    def forward():
        with torch.autocast(device.type, torch.bfloat16):
            return base.total(losses(batch).terms, stage.weights)

    with attention_backend(device, False):
        kept = saved(forward, method)
        times = [timed(lambda: forward().backward(), device) for _ in range(rounds)]
    return {"kept": round(kept / shots / 2**20, 1), "seconds": statistics.median(times)}


def saved(work, method):
    """Bytes that the graph of `work` keeps for the backward pass, each storage once, without weights."""
    own = {one.untyped_storage().data_ptr() for one in (*method.parameters(), *method.buffers())}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = work()  # held, so that no storage is freed and its address given to another
    del kept
    return sum(size for address, size in found.items() if address not in own)


def padded(method, sentences, length=77):
    """The same sentences with empty positions behind them, up to CLIP's context."""
    count, own = sentences.embeddings.shape[:2]
    ids = torch.zeros(count, length - own, dtype=torch.long, device=sentences.embeddings.device)
    return sentences._replace(embeddings=torch.cat([sentences.embeddings, method.text.embed(ids)], 1))


def seconds_of(encoder, sentences, rounds, device):
    """Median seconds of encoding sentences, after one round that warms up."""
    work = functools.partial(encoder, *sentences)
    return statistics.median([timed(work, device) for _ in range(rounds + 1)][1:])


def ranking(device, queries=3368, gallery=19732, width=1280):
    """All metrics at Market-1501's size, relative to the matrix product of queries and gallery."""
    rng = np.random.default_rng(0)
    q = F.normalize(torch.randn(queries, width, device=device), dim=1)  # (queries, width)
    g = F.normalize(torch.randn(gallery, width, device=device), dim=1)  # (gallery, width)
    q_pids = np.arange(queries) % 750  # as many identities and cameras as Market-1501's test split
    g_pids = rng.integers(0, 751, gallery)
    q_cams = rng.integers(0, 6, queries)
    g_cams = rng.integers(0, 6, gallery)
    metrics.rank(q[:64], g, q_pids[:64], g_pids, q_cams[:64], g_cams)  # compiles
    work = functools.partial(metrics.rank, q, g, q_pids, g_pids, q_cams, g_cams)
    grown = extra_memory(work, device)
    ranked = []
    multiplied = []
    for _ in range(5):  # in turn: `median_ratio` compares the two of a round
        ranked.append(timed(work, device))
        multiplied.append(timed(lambda: q @ g.T, device))
    ratio = median_ratio(ranked, multiplied)
    product = statistics.median(multiplied)
    print(
        f"ranking {queries} x {gallery} x {width}: {ratio:.2f} x the fp32 product ({product:.2f} s), "
        f"{grown / 1e6:.0f} MB beyond the features"
    )


def extra_memory(work, device):
    """Peak memory of `work` in bytes, beyond what was held before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - held
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # Linux: start the high-water mark again
    held = high_water()
    work()
    return high_water() - held


def high_water():
    """Peak resident memory of this process in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))  # "VmHWM:   123456 kB"
    return 1024 * int(peak.split()[1])


def pixels(device, images=1500, size=(256, 128), rounds=5):
    """The pixel store against Pillow on as many threads: the same files, decoded and resized alike."""
    store = []
    pillow = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}.jpg" for k in range(images)]
        for k, path in enumerate(paths):
            random_photograph(k).save(path, quality=90)
        rows = SimpleNamespace(
            paths=np.array(list(map(str, paths)))[:, None],  # (N, 1): one spectrum
            tiles=np.full((images, 1), -1),  # -1: the image is the whole file
        )
        for k in range(rounds):
            cache = Path(folder) / f"cache {k}"  # a new one, or the later rounds would only read the first's
            store.append(both_clocks(functools.partial(PixelStore, "", rows, size, "bicubic", cache)))
            pillow.append(both_clocks(functools.partial(with_pillow, paths, size)))
    store_wall, store_busy = zip(*store)
    pillow_wall, pillow_busy = zip(*pillow)
    wall = median_ratio(pillow_wall, store_wall)
    busy = median_ratio(pillow_busy, store_busy)
    print(
        f"decoding {images} files of 128x64 to {size[0]}x{size[1]}: the store at {wall:.0%} of the rate of "
        f"Pillow on {os.cpu_count()} threads; {busy:.0%} by processor time, which other programs do not "
        "disturb"
    )


def both_clocks(work):
    """Seconds on the wall, and of all threads' processor time."""
    wall = time.perf_counter()
    busy = time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - busy


def random_photograph(seed, size=(16, 8)):
    """A smooth random image of 128 x 64: about as many bytes as a photograph of that size."""
    noise = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((64, 128), Image.Resampling.BICUBIC)


def with_pillow(paths, size):
    """Bytes of the images, decoded and resized by Pillow on a thread per core."""

    def decode(path):
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(image.nbytes for image in pool.map(decode, paths))


def index(device):
    """Reading and checking a tree with the names and numbers of MSMT17: 126,441 files in a temporary
    folder."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        images = like_msmt17(Path(folder))
        made = time.perf_counter() - began
        done = subprocess.run([sys.executable, "-c", CHECK, folder], capture_output=True, text=True)
        seconds = time.perf_counter() - began - made
    said = done.stderr.strip() or "ready for training"
    memory = float("nan")
    if done.returncode == 0:
        memory = int(done.stdout.splitlines()[-1]) / 1e6  # the last line of CHECK, in MB
    busy = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])  # in user mode and in the kernel
    print(
        f"indexing and checking {images} images, headers only: {seconds:.1f} s ({busy:.1f} s of processor "
        f"time), {memory:.0f} MB at most, {said} (made in {made:.0f} s)"
    )


CHECK = """
import sys
from data_prep.__main__ import main
main(["check", "msmt17", sys.argv[1]])
status = open("/proc/self/status", encoding="utf-8").read().splitlines()
print(1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1]))
"""  # in a process of its own, so that the memory of this one is not counted
MSMT17 = {  # list -> images, people
    "train": (30248, 1041),
    "val": (2373, 1041),
    "query": (11659, 3060),
    "gallery": (82161, 3060),
}
CAMERAS = 15


def like_msmt17(folder):
    """Write the tree; each identity goes through the cameras in turn, so that every query has a match."""
    random_photograph(0).save(folder / "one.jpg")
    content = (folder / "one.jpg").read_bytes()  # of every file: only headers are read
    for split, (images, people) in MSMT17.items():
        half = "train" if split in ("train", "val") else "test"  # MSMT17 has two folders, and four lists
        lines = []
        for k in range(images):
            pid = k % people
            camid = 1 + (k // people + pid) % CAMERAS
            path = f"{pid:04d}/{pid:04d}_{k:06d}_{camid:02d}_{split}.jpg"
            (folder / half / f"{pid:04d}").mkdir(parents=True, exist_ok=True)
            (folder / half / path).write_bytes(content)
            lines.append(f"{path} {pid}\n")
        (folder / f"list_{split}.txt").write_text("".join(lines), encoding="utf-8")
    return sum(images for images, *_ in MSMT17.values())


SECONDS = 8  # of training in each process of `contention`
WAITS = {"bounded": processor.SPINS, "as the library waits": "300000"}  # turns of a waiting thread


def contention(device):
    """Training on a processor alone, beside a busy program, and two at once, with and without bounded
    spinning: images per second of one training, relative to one that runs alone."""
    found = {}
    for wait, turns in WAITS.items():
        one = pace_of(turns)
        narrow = pace_of(turns, processor.SINGLE)
        found[f"alone, {wait}"] = together([one])
        found[f"beside a busy program, {wait}"] = together([one], busy=True)
        found[f"two at once, {wait}"] = together([one, one])
        found[f"two at once on one thread each, {wait}"] = together([narrow, narrow])
    alone = found[f"alone, {next(iter(WAITS))}"]
    ratios = {name: round(images / alone, 3) for name, images in found.items()}
    print(
        f"training of tiny at 128x64 on {os.cpu_count()} cores: {alone:.0f} images/s alone; relative to "
        f"that, each training: {listed(ratios)}"
    )
    return {"ratios": ratios, "images per second alone": round(alone, 1), "batch": 64, "model": "tiny"}


def pace_of(turns, more=None):
    """The environment of a training whose waiting threads spin so many turns."""
    # in the environment, since OpenMP reads it once, when the library is loaded
    return {**os.environ, "GOMP_SPINCOUNT": turns, **(more or {})}


def together(environments, busy=False):
    """Mean images per second of trainings that run at the same time, perhaps beside a program that keeps one
    core busy."""
    training = f"from reid_core.analysis.bench import train_for; print(train_for({SECONDS}))"
    begun = []
    for environment in environments:
        command = [sys.executable, "-c", training]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
    other = None
    if busy:
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    speeds = []
    try:
        for one in begun:
            output, _ = one.communicate()
            speeds.append(float(output.splitlines()[-1]))  # images per second, after whatever else it prints
        return statistics.mean(speeds)
    finally:
        if other:
            other.kill()


def train_for(seconds, batch=64):
    """Images per second of training steps of the tiny image tower, over so many seconds."""
    image = load_clip("tiny", None, (128, 64)).image
    optimiser = torch.optim.Adam(image.parameters(), 1e-4, fused=True)
    images = torch.randn(batch, 3, 128, 64)  # (B, 3, H, W)
    processor_only = torch.device("cpu")  # threads that wait are those of a processor, GPU or not
    step = functools.partial(train_step, lambda: image.joint_cls(image(images)), optimiser, processor_only)
    with attention_backend(processor_only, False):
        for _ in range(3):  # warm up
            step()
        steps = 0
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            step()
            steps += 1
    return batch * steps / (time.perf_counter() - began)


PARTS = {
    "tower": tower,
    "ranking": ranking,
    "prompts": prompts,
    "joint_prompts": joint_prompts,
    "prompt_tuning": prompt_tuning,
    "growing_pool": growing_pool,
    "pixels": pixels,
    "index": index,
    "contention": contention,
}

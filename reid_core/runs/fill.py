"""Measure what the book lacks: which runs are due, several at a time, and how long the rest will take.

Each run is a process of its own with one thread; on a GPU a process measures several, one after another
(`workers`). An interruption costs at most the epoch it falls into: the next call resumes the run.
"""

import itertools
import os
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import numpy as np
import torch

from data_prep import catalogue
from data_prep.catalogue import build_folder
from reid_core import checkpoint, processor
from reid_core.data import FILTERS, load_data
from reid_core.methods import METHODS
from reid_core.runs import provenance
from reid_core.runs.run import BOOK, Spec
from reid_core.runs.workers import LOG, Workers

GPU_ROOM = 3e9  # bytes of a GPU's memory that one training of the laptop profile may need
TALK_EVERY = 60  # seconds between lines of progress
LOOK_EVERY = 0.5  # seconds between polls of the processes
NO_PICTURES = "its pictures are missing"


def fill(specs, minutes, jobs=1, device=None, start=None, log=print):
    """Measure what of `specs` is missing or stale, `jobs` at a time, for so many minutes; runs that are under
    way then are stopped, and resumed by the next call. `start`: spec -> Popen. Returns the specs that were
    done."""
    check(jobs, device)
    require()
    with checkpoint.alone(BOOK.folder(), "fills"):
        waiting = due(specs, log)
        if minutes > 0:
            prepare([spec for spec, _ in waiting], log)
        until = time.time() + 60 * minutes
        if start or not on_gpu(device):
            return run_all(waiting, until, jobs, start or process_for(device, jobs), log)
        crew = workers_for(device, jobs)
        try:
            return run_all(waiting, until, jobs, crew.start, log)
        finally:
            crew.close()


def on_gpu(device):
    """Whether a device, None for the processor, is a GPU."""
    return torch.device(device or "cpu").type == "cuda"


def check(jobs, device):
    """ValueError for a number of jobs that this machine cannot run at once."""
    most = os.cpu_count()
    if on_gpu(device):
        if not torch.cuda.is_available():
            raise ValueError(f"expected a GPU for --device {device}, found none; leave --device out.")
        free = torch.cuda.mem_get_info(device)[0]  # bytes: others may use the same GPU
        most = int(free // GPU_ROOM)
    if not 1 <= jobs <= most:
        why = f"each needs {GPU_ROOM / 1e9:.0f} GB of the GPU" if on_gpu(device) else "one per core"
        raise ValueError(f"expected from 1 to {most} jobs ({why}), found {jobs}; correct --jobs.")


def require():
    """ValueError unless the tree is clean: the book's runs name the commit of their code."""
    if provenance.git("rev-parse", "HEAD") == "unknown":
        raise ValueError(
            "expected a commit that names the code, found none that can be told; install git, let it read "
            "this folder (git status says why it does not), and work in a clone of the project."
        )
    if not provenance.clean_tree():
        raise ValueError(
            "expected a clean tree, found uncommitted changes; commit them, so that a run names its code."
        )


def due(specs, log=print):
    """[(spec, why)] of what is missing or stale, in order."""
    found = [(spec, why_due(spec)) for spec in specs]
    waiting = [(spec, why) for spec, why in found if why]
    log(f"measure: {len(waiting)} of {len(found)} runs are due")
    return waiting


def why_due(spec):
    """ "missing", why a run is stale or incomplete, or ""."""
    run = BOOK.find(spec)
    if run is None:
        return "missing"
    why = run.outdated
    if not why and not same_code(run):
        why = provenance.stale(run)  # a probe: the code changed, perhaps not in what it computes
    return why or (NO_PICTURES if is_shown(run) and BOOK.lacks_pictures(run) else "")


def is_shown(run):
    """Whether the book shows pictures of a run: seed 0 of the rows that its paper lists as `pictured`, on
    data that has image queries, of which they are made."""
    spec = run.spec
    return spec.seed == 0 and spec.row in METHODS[spec.method].pictured and "query" in run.data["counts"]


def same_code(run):
    """Whether no code or weights changed since a run was measured from a clean tree; then no probe is
    needed."""
    commit = run.provenance.get("commit", "unknown")
    return bool(run.provenance.get("clean")) and provenance.code_between(commit, "HEAD") == ""


def prepare(specs, log=print):
    """Render worlds and decode images once, before the jobs that share them start."""
    wanted = {}  # (data set, profile) -> a spec of it, whose recipe tells the size of images
    for spec in specs:
        for data in sets_of(spec):
            wanted[data, spec.profile] = spec
    for (name, profile), spec in wanted.items():
        recipe = spec.recipe()
        size = (recipe.image_height, recipe.image_width)
        whole = load_data(name, profile)
        for data, splits in ((whole, ("train",)), *((part, ("query", "gallery")) for part in whole.parts)):
            for split, kind in itertools.product(splits, FILTERS):
                if len(getattr(data, split)):
                    data.store(split, size, kind)  # decodes, and keeps the pixels in the cache folder
    if wanted:
        log(f"measure: {len(wanted)} data sets are at hand")


def sets_of(spec):
    """The data sets that a run sees: its own and the partner that it is also tested on; of an order, every
    domain and those that no training sees."""
    if spec.data.startswith(catalogue.LIFELONG):
        return [*catalogue.order(spec.data), *catalogue.unseen(spec.data)]
    return [data for data in (spec.data, catalogue.partner(spec.data)) if data]


class Job(NamedTuple):
    """A run under way."""

    spec: Spec
    process: subprocess.Popen
    began: float


def process_for(device, jobs=1):
    """A function spec -> the process that measures it on the device, one of `jobs` at a time."""
    more = ["--device", device] if device else []

    def start(spec):
        words = ["measure", "--only", spec.name, "--due", "--threads", "1", *more]
        return begin(spec, "runs", words, beside=jobs - 1)

    return start


def workers_for(device, jobs):
    """`Workers` that measure on a device, `jobs` at a time."""
    command = [sys.executable, "-m", "reid_core", "measure", "--work", "--device", device, "--threads", "1"]
    return Workers(command, {**os.environ, provenance.BESIDE: str(jobs - 1)})


def begin(spec, shelf, words, beside=0):
    """A process with one thread, told that `beside` others share the machine; its output goes to measure.log
    in the run's folder. It ends with this program, because it reads from a pipe that closes then
    (`end_with_parent`)."""
    place = build_folder() / shelf / spec.name
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "reid_core", *words]
    # nobody writes to the input: it closes with this program, even if that is killed
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = processor.single({**os.environ, provenance.BESIDE: str(beside)})
    with open(place / LOG, "w", encoding="utf-8") as told:
        return subprocess.Popen(command, stdout=told, env=environment, **pipes)


def end_with_parent():
    """Stop this process when the pipe from the program that began it closes."""

    def wait():
        sys.stdin.read()  # returns when the other end is closed
        os._exit(1)  # sys.exit would end this thread alone

    threading.Thread(target=wait, daemon=True).start()


def run_all(waiting, until, jobs, start, log=print):
    """Keep `jobs` processes busy until the time `until`. Returns the specs of those that ended well;
    ValueError at the end if any failed."""
    left = list(waiting)  # (spec, why)
    running = []  # Jobs
    done = []  # specs that ended well
    failed = []  # specs that did not
    pace = {}  # kind of a run -> seconds that each took
    said = time.time()
    try:
        while (left and time.time() < until) or running:
            while left and len(running) < jobs and time.time() < until:
                spec, why = left.pop(0)
                log(f"{spec.name}: {why}")
                running.append(Job(spec, start(spec), time.time()))
            time.sleep(LOOK_EVERY)
            if time.time() >= until and running:
                log(f"measure: the time is up; {len(running)} runs go on the next time")
                break
            ended = [job for job in running if job.process.poll() is not None]
            running = [job for job in running if job not in ended]
            for job in ended:
                ends = failed if job.process.returncode else done
                ends.append(job.spec)
                pace.setdefault(kind_of(job.spec), []).append(time.time() - job.began)
            if ended or time.time() - said > TALK_EVERY:
                said = time.time()
                log(progress(len(waiting), done, failed, running, left, pace, jobs))
    finally:
        for job in running:  # the time is up, or Ctrl-C: each resumes from its checkpoint
            job.process.kill()
    if failed:
        raise ValueError(
            f"expected {len(waiting)} runs to end well, found {len(failed)} that did not ({failed[0].name} "
            f"is the first); see measure.log in its folder below {build_folder() / 'runs'}, and run the "
            "same command again."
        )
    return done


def kind_of(spec):
    """Runs of one kind, a variant on a data set, take about equally long."""
    return spec.variant, spec.data


def progress(total, done, failed, running, left, pace, jobs):
    """One line: how many runs are done, and about how long the rest will take."""
    line = f"measure: {len(done)} of {total} runs done, {len(running)} under way"
    if failed:
        line += f", {len(failed)} failed"
    seconds = remaining(running, left, pace)
    if seconds is not None:
        line += f", about {seconds / jobs / 60:.0f} min left"
    return line


def remaining(running, left, pace):
    """Seconds that the rest would take one after the other, from what others of their kind took; None before
    any run has ended."""
    if not pace:
        return None
    typical = np.mean(np.concatenate(list(pace.values())))  # for a kind of which none has ended

    def expected(spec):
        return np.mean(pace.get(kind_of(spec), [typical]))

    seconds = sum(expected(spec) for spec, _ in left)
    for job in running:
        spent = time.time() - job.began
        seconds += max(expected(job.spec) - spent, 0)  # one may take longer than those before it
    return seconds

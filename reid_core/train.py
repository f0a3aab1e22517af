"""fit(): the one loop. Seeds, checkpoints and resumption live here and nowhere else."""

import itertools
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from reid_core import board, checkpoint
from reid_core.data import Loader, still_batches
from reid_core.methods.base import LifelongMethod, StageLoss, freeze_all_but, total
from reid_core.optim import load_optimisers, make_optimisers
from reid_core.precision import attention_backend, pick_device, usable
from reid_core.samplers import generator

PROBED = 3  # batches of each stage
CHECK_EVERY = 50  # steps between looks at the losses: a look waits for the device
LOG_EVERY = 10.0  # seconds between progress lines that stay
UPDATE_EVERY = 0.5  # and between those that replace each other
AT_RISK = 20.0  # seconds of training that a killed process may lose, and the epoch that it was in
WEIGHTS = "weights.safetensors"
NOTHING = {"seconds": 0.0, "images": 0}  # of an epoch, before it begins


def seed_all(seed):
    """Start every generator that building a method may use."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # numpy takes 32 bits


def fit(
    method,
    data,
    folder,
    *,
    seed=0,
    precision="bf16",
    device=None,
    fine=True,
    epoch_images=0,
    checkpoint_every=None,
    deterministic=False,
    key="",
    log=print,
    spent=None,
    expected=None,
):
    """Run the method's stages on the training split of `data`; returns the history, one dict per epoch.

    `folder` holds checkpoints and the event log; the same call takes an interrupted run up and ends with the
    same bits. `fine` reads schedules per step, an epoch of fewer than `epoch_images` goes through the data
    several times (`passes`), `checkpoint_every` (steps) adds checkpoints within an epoch. `key` names the
    run: a checkpoint of another run is refused. `precision` is bf16 or fp32; see `precision.usable`. A list
    `spent` gets the seconds of this call's epochs. The weights are the caller's to write (`save_weights`).
    `expected` {stage: seconds of an epoch} of an earlier run lets progress tell the time left over all
    stages. A log with `update` (`LiveLine`, which replaces `print` on a terminal) shows it as one line.
    """
    log = LiveLine(sys.stdout) if log is print and sys.stdout.isatty() else log
    trainer = Trainer(
        method.to(pick_device(device)),
        data,
        Path(folder),
        seed=seed,
        precision=precision,
        fine=fine,
        passes=passes(data, epoch_images),
        checkpoint_every=checkpoint_every,
        key=key,
        log=log,
        expected=expected,
    )
    try:
        with attention_backend(trainer.device, deterministic):
            trainer.run(method.stages())
    finally:
        if hasattr(log, "update"):
            log.update("")  # what comes next, a score or an error, begins an empty line
    if spent is not None:
        spent.append(trainer.spent)
    return trainer.history


class LiveLine:
    """A log for a terminal: `update` writes its last line again, a call prints one that stays."""

    def __init__(self, stream):
        self.stream = stream
        self.width = 0  # of what stands there

    def __call__(self, line):
        self.update("")
        self.stream.write(f"{line}\n")

    def update(self, line):
        line = line[: shutil.get_terminal_size().columns - 1]  # a longer one would break into two
        self.stream.write("\r" + line.ljust(self.width) + ("" if line else "\r"))
        self.stream.flush()
        self.width = len(line)


def check_device(name):
    """ValueError unless torch knows a device by this name, and it is here; None is a choice of ours."""
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        there = "cpu or cuda" if torch.cuda.is_available() else "cpu"
        raise ValueError(
            f"expected {there} for --device, found {name!r}, which this machine or torch does not have; "
            "correct it, or leave --device out."
        ) from error


def passes(data, images):
    """How often an epoch goes through the training split, so that it has about `images` or more; those of a
    shot, one for each spectrum, count one by one."""
    return max(1, round(images / max(data.train.paths.size, 1)))


def probe_losses(method, domains=(), batches=PROBED):
    """What a method's code computes before rounding is multiplied: {"stage | quantity": number}, in float32
    on the CPU.

    Of every stage that runs the terms and the length of each group's gradient, for its first batches at the
    initial weights, and the total loss of the first batch after one update by it. Processors differ here by
    what float32 rounds, about 1e-6; a longer training multiplies such differences until nothing can be told
    from them.
    """
    if isinstance(method, LifelongMethod):
        return probe_domains(method, domains, batches)
    return probe_stages(method, batches)


def probe_domains(method, domains, batches):
    """What `probe_losses` finds in two domains: what holds on to the first shows in the second alone."""
    found = {}
    for number, domain in enumerate(domains, 1):
        seed_all(0)
        method.begin_domain(domain, number)
        told = probe_stages(method, batches)
        found |= {f"domain {number} | {name}": value for name, value in told.items()}
    return found


def probe_stages(method, batches):
    found = {}
    with tempfile.TemporaryDirectory() as folder, attention_backend(torch.device("cpu"), False):
        trainer = Trainer(method.cpu(), method.data, Path(folder), precision="fp32")
        stages = list(enumerate(method.stages()))
        # a stage of no epochs computes nothing; of a method that trains none, all are asked
        for number, stage in [one for one in stages if one[1].epochs] or stages:
            for name, value in trainer.probe(number, stage, batches):
                # nine digits tell every float32 apart
                found[f"{stage.name} | {name}"] = float(f"{value:.9g}")
    return found


def length_of(group):
    """Euclidean length of a group's gradient."""
    # in float64, so that the order of the sum does not show
    found = [p.grad.double().square().sum() for p in group.parameters() if p.grad is not None]
    return float(torch.stack(found).sum().sqrt()) if found else 0.0


def save_weights(method, folder, key=""):
    """The trained weights as safetensors, without what the method declares constant."""
    checkpoint.save_tensors(Path(folder) / WEIGHTS, stored(method), key)


def stored(method):
    """The state of a method without its declared constants."""
    constants = set(method.constants())
    return {name: value for name, value in method.state_dict().items() if name not in constants}


def load_state(method, state, where):
    """Fill a method from what `stored` gave: nothing but its declared constants may be missing, and nothing
    be left over."""
    odd = misfit(method, state)
    if not odd:
        try:
            method.load_state_dict(state, strict=False)  # the constants are missing
        except RuntimeError as error:  # shapes: torch lists them, a line each
            odd = str(error).strip().splitlines()[-1].strip()
    if odd:
        raise ValueError(
            f"expected the state of this {type(method).__name__} in {where}, found {odd}; it is of other "
            "code: remove it and train again."
        )


def misfit(method, state):
    """What a state lacks of a method's, or has beyond it, in words; "" where they fit. Tables and heads that
    grow are asked by name alone."""
    wanted = stored(method).keys()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            return f"{name} as a {type(value).__name__}"
        if name not in wanted:
            return f"{name}, which it does not have"
    return next((f"no {name}" for name in sorted(wanted - state.keys())), "")


class Trainer:
    """The state of one call of fit."""

    def __init__(
        self,
        method,
        data,
        folder,
        *,
        seed=0,
        precision="bf16",
        fine=True,
        passes=1,
        checkpoint_every=None,
        key="",
        log=print,
        expected=None,
    ):
        self.method = method
        self.data = data
        self.folder = folder
        self.seed = seed
        self.fine = fine
        self.passes = passes
        self.checkpoint_every = checkpoint_every
        self.key = key
        self.log = log
        self.expected = expected
        self.stages = []
        self.device = next(method.parameters()).device
        self.precision = usable(precision, self.device)
        self.history = []
        self.logged = self.saved = time.monotonic()
        self.spent = 0.0  # seconds in epochs since this start
        self.earlier = NOTHING  # what earlier starts did of the epoch that was interrupted
        self.caching = 0.0  # seconds that a stage spent on what frozen towers say
        self.board = None  # of TensorBoard, while `run` runs
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, stages):
        """All stages, from the newest whole checkpoint or from the beginning."""
        self.board = board.writer(self.folder)
        place = self.restore()
        self.stages = stages
        for number, stage in enumerate(stages):
            # stages after the restored one start afresh
            begin = place if number == place["stage"] else beginning(number)
            if number >= place["stage"] and begin["epoch"] < stage.epochs:
                self.train(number, stage, begin)
        self.record("finished")
        if self.board:
            self.board.close()

    def train(self, number, stage, place):
        """All epochs of one stage, from the epoch and step of `place`."""
        self.enter(number, stage, first_time=place["epoch"] == place["step"] == 0)
        loader = self.loader(stage)
        loss = StageLoss(self.method, stage)
        optimisers = make_optimisers(self.method, stage.groups)
        load_optimisers(optimisers, place["optimisers"])
        monitor = LossMonitor(stage, self.last_good, place["sums"])
        self.record("stage", name=stage.name, epochs=stage.epochs)
        first = place["step"]  # of the epoch that was interrupted; later ones begin at 0
        for epoch in range(place["epoch"], stage.epochs):
            self.run_epoch(number, stage, loader, loss, optimisers, monitor, epoch, first)
            first = 0

    def enter(self, number, stage, first_time):
        """Freeze, start what the stage begins with (under its own seed), prepare what follows from frozen
        parts."""
        freeze_all_but(self.method, stage.groups)
        if first_time:
            torch.manual_seed(self.seed_of(number, "start"))
            stage.start()
            freeze_all_but(self.method, stage.groups)  # also what it has made
        stage.prepare()

    def seed_of(self, *place):
        """A seed for torch's own generator that depends on the run's seed and a place in it alone."""
        return int(generator(self.seed, "torch", *place).integers(2**62))

    def run_epoch(self, number, stage, loader, loss, optimisers, monitor, epoch, first):
        plan = loader.plan(epoch)  # every step's rows, drawn before the first
        began = time.monotonic() - self.caching  # caching counts as time of the stage's first epoch
        images = 0
        if not plan:
            raise ValueError(
                f"expected at least one batch in {stage.name}, found too few images for one; lower the "
                "recipe's batch or add data."
            )
        for step, batch in enumerate(loader.batches(epoch, plan, first), first):
            self.set_rates(stage, optimisers, epoch, step, len(plan))
            torch.manual_seed(self.seed_of(number, epoch, step))  # dropout, wherever a run is taken up
            monitor.add(self.step(stage, loss, batch, optimisers))
            images += len(batch.index)  # B
            done = epoch * len(plan) + step + 1  # steps of the stage so far
            if self.checkpoint_every and done % self.checkpoint_every == 0:
                monitor.check(epoch, step)
                so_far = self.so_far(began, images)
                self.save(number, epoch, step + 1, optimisers, monitor.sums, so_far)
            elif done % CHECK_EVERY == 0:
                monitor.check(epoch, step)
            spent = time.monotonic() - began - self.caching
            self.log_progress(number, epoch, step + 1, len(plan), spent / (step + 1 - first), images / spent)
        rate = self.factor(stage, epoch, len(plan) - 1, len(plan))  # of the epoch's last step, for the log
        so_far = self.so_far(began, images)
        self.end_epoch(stage, epoch, rate, monitor, so_far)
        self.spent += so_far["seconds"] - self.earlier["seconds"]
        self.earlier = NOTHING
        self.caching = 0.0
        if epoch + 1 == stage.epochs or time.monotonic() - self.saved >= AT_RISK:
            self.save(number, epoch + 1, 0, optimisers, monitor.sums)
        else:
            self.check_finite(stored(self.method), number, epoch + 1, 0)

    def so_far(self, began, images):
        """Seconds and images of the epoch over all starts; this one entered it at `began`."""
        seconds = self.earlier["seconds"] + time.monotonic() - began
        return {"seconds": seconds, "images": self.earlier["images"] + images}

    def step(self, stage, loss, batch, optimisers):
        """One update; returns the detached terms. Nothing here waits for the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            losses = loss(batch)  # `Losses`: {term: scalar}, and what after_step takes
        weighted = total(losses.terms, stage.weights)  # scalar, outside autocast
        for optimiser in optimisers:
            optimiser.zero_grad()
        weighted.backward()
        for optimiser in optimisers:
            optimiser.step()
        stage.after_step(losses.carry)  # teachers and memories move
        return losses.terms

    def probe(self, number, stage, batches):
        """(quantity, value) of the first `batches` batches of a stage; see `probe_losses`."""
        self.enter(number, stage, first_time=True)
        loader = self.loader(stage)
        optimisers = make_optimisers(self.method, stage.groups)
        loss = StageLoss(self.method, stage)
        plans = ((epoch, loader.plan(epoch)) for epoch in itertools.count())
        # a small data set has fewer batches than asked for: later epochs give the rest
        endless = (batch for epoch, plan in plans for batch in loader.batches(epoch, plan))
        some = list(itertools.islice(endless, batches))
        for k in reversed(range(batches)):  # the first comes last: its gradient is the one that is followed
            terms = loss(some[k]).terms
            self.method.zero_grad()
            total(terms, stage.weights).backward()
            for name, term in terms.items():
                yield f"{name} of batch {k}", term.item()
            for g, group in enumerate(stage.groups):
                yield f"gradient {g} of batch {k}", length_of(group)
        if not stage.epochs:
            return  # it has no rate
        self.set_rates(stage, optimisers, 0, 0, len(loader.plan(0)))
        for optimiser in optimisers:
            optimiser.step()
        with torch.no_grad():
            yield "total after an update", total(loss(some[0]).terms, stage.weights).item()

    def loader(self, stage):
        for cached in stage.cache.values():  # reading files is no cost of a method
            if cached.view:
                self.data.store("train", self.method.size, cached.view.filter)
        began = time.monotonic()
        cached = {name: self.compute(cached) for name, cached in stage.cache.items()}
        self.caching = time.monotonic() - began
        more = {"seed": self.seed, "device": self.device, "passes": self.passes}
        return Loader.of_stage(self.data, self.method.size, stage, cached=cached, **more)

    @torch.no_grad()
    def compute(self, cached):
        """What a frozen tower says about every training row, in row order."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            batches = still_batches(self.data, "train", self.method.size, cached.view, self.device)
            rows = [cached.compute(batch).to(cached.dtype) for batch in batches]
        return torch.cat(rows)  # (S, ...), one row per shot; a processor's autocast refuses float16

    def set_rates(self, stage, optimisers, epoch, step, steps):
        """Write the scheduled rates into the optimisers."""
        factor = self.factor(stage, epoch, step, steps)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["base_lr"] * factor

    def factor(self, stage, epoch, step, steps):
        """The schedule's factor at one step."""
        return stage.schedule.factor(stage.schedule.position(epoch, stage.epochs, step, steps, self.fine))

    def end_epoch(self, stage, epoch, rate, monitor, so_far):
        line = {
            "stage": stage.name,
            "epoch": epoch + 1,
            "losses": monitor.means(epoch),
            "rate": rate,
            "seconds": so_far["seconds"],
            "images": so_far["images"] if stage.views else 0,  # what is cached is not looked at
        }
        self.history.append(line)
        self.record("epoch", **line)
        if self.board:
            board.write_epoch(self.board, line, len(self.history))

    def log_progress(self, number, epoch, step, steps, pace, speed):
        """Tell the time that is left, at `pace` seconds a step: now and then in a log that can replace its
        last line, and at most once an epoch in others."""
        live = hasattr(self.log, "update")
        if time.monotonic() - self.logged < (UPDATE_EVERY if live else LOG_EVERY):
            return
        if not live and step < steps:
            return
        self.logged = time.monotonic()
        stage = self.stages[number]
        left = self.time_left(number, stage.epochs - epoch - step / steps, steps * pace)
        place = f"{stage.name}, epoch {epoch + 1}/{stage.epochs}, step {step}/{steps}"
        tell = self.log.update if live else self.log
        tell(f"{left}; {place}, {speed:.0f} images/s")

    def time_left(self, number, epochs, pace):
        """In words, for so many more epochs of a stage at `pace` seconds each. Later stages count as in the
        earlier run that `expected` tells of, times how much slower than there the present one is."""
        stage = self.stages[number]
        later = [one for one in self.stages[number + 1 :] if one.epochs]
        if self.expected is None or not {one.name for one in later} <= set(self.expected):
            return f"about {duration(epochs * pace)} left in this stage"
        slower = pace / (self.expected.get(stage.name) or pace)
        seconds = epochs * pace + slower * sum(one.epochs * self.expected[one.name] for one in later)
        return f"about {duration(seconds)} left in all"

    def save(self, stage, epoch, step, optimisers, sums, so_far=NOTHING):
        """A checkpoint that says: go on with step `step` of epoch `epoch` of stage `stage`."""
        weights = stored(self.method)
        self.check_finite(weights, stage, epoch, step)
        state = {
            "key": self.key,
            "place": {"stage": stage, "epoch": epoch, "step": step},
            "sums": sums,
            "so_far": so_far,
            "history": json.dumps(self.history),
            "method": weights,
            "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        }
        self.saved = time.monotonic()
        # a number that grows: up to 1,000 epochs of 100,000 steps
        checkpoint.save(self.folder, (stage * 10**3 + epoch) * 10**5 + step, state)

    def check_finite(self, weights, stage, epoch, step):
        """FloatingPointError for weights that are not finite: a step may leave them whose loss still was."""
        floating = [value for value in weights.values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in floating]).all():
            raise FloatingPointError(
                f"expected finite weights, found others after {epoch} epochs and {step} steps of stage "
                f"{stage + 1}; the last good checkpoint is {self.last_good()}: lower the learning rate or "
                "use precision fp32."
            )

    def restore(self):
        """Where to begin: the newest whole checkpoint, or the beginning."""
        state = checkpoint.latest(self.folder, self.log)
        if state is None:
            return beginning(0)
        if state.get("key") != self.key:
            raise ValueError(
                f"expected a checkpoint of this run in {self.folder}, found one of another "
                f"({state['key']}); remove the folder or choose another."
            )
        load_state(self.method, state["method"], self.folder)
        self.history = json.loads(state["history"])
        self.earlier = state.get("so_far", NOTHING)
        self.record("resumed", **state["place"])
        return {**state["place"], "optimisers": state["optimisers"], "sums": state["sums"]}

    def last_good(self):
        """The name of the newest checkpoint: none is written after a loss that is not finite."""
        return checkpoint.saved(self.folder)[-1].name if checkpoint.saved(self.folder) else "none"

    def record(self, event, **facts):
        """Append one line to the event log."""
        with open(self.folder / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 1), "event": event, **facts}) + "\n")


def duration(seconds):
    """A time in words: "40 s", "4 min"."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def beginning(stage):
    """The place of a stage's first step."""
    return {"stage": stage, "epoch": 0, "step": 0, "optimisers": [], "sums": None}


class LossMonitor:
    """Sums the terms on the device and looks at them now and then; stops the run at the first that is not
    finite."""

    def __init__(self, stage, last_good, sums=None):
        self.stage = stage
        self.last_good = last_good
        self.names = sorted(stage.weights)
        self.recent = []  # (terms,) per step since the last look, on the device
        # of the epoch so far; a run that is taken up gives its own
        self.sums = sums or {"count": 0, "terms": None}

    def add(self, terms):
        """Take the terms of one step, without waiting for them."""
        self.recent.append(torch.stack([terms[name].detach().float() for name in self.names]))

    def check(self, epoch, step):
        """Wait for the recent terms; raise for the first that is not finite, else add them to the epoch's
        sums."""
        recent = torch.stack(self.recent).double().cpu() if self.recent else self.none()  # (steps, terms)
        bad = (~recent.isfinite()).nonzero()  # (found, 2): step and term, the first step first
        if len(bad):
            row, term = bad[0].tolist()
            raise FloatingPointError(
                f"expected finite losses, found {self.names[term]} = {recent[row, term]} at step "
                f"{step - len(recent) + 2 + row} of epoch {epoch + 1} in {self.stage.name}; the last good "
                f"checkpoint is {self.last_good()}: lower the learning rate or use precision fp32."
            )
        before = self.sums["terms"]
        self.sums = {
            "count": self.sums["count"] + len(recent),
            "terms": recent.sum(0) if before is None else before + recent.sum(0),
        }
        self.recent = []

    def none(self):
        """(0, terms): no step to look at."""
        return torch.empty(0, len(self.names)).double()

    def means(self, epoch):
        """Mean of every term over the epoch; starts the next."""
        self.check(epoch, len(self.recent) + self.sums["count"] - 1)
        means = dict(zip(self.names, (self.sums["terms"] / max(self.sums["count"], 1)).tolist()))
        self.sums = {"count": 0, "terms": None}
        return means

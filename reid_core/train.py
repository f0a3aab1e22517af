"""fit(): the one loop. Devices, seeds, precision, checkpoints and resumption live here and nowhere else."""

import itertools
import json
import math
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch.nn.attention import SDPBackend, sdpa_kernel

from reid_core import checkpoint
from reid_core.clip import TextEncoder
from reid_core.data import Loader, still_batches
from reid_core.methods.base import freeze_all_but, total

PROBED = 3  # batches of each stage
CHECK_EVERY = 50  # steps between looks at the losses: a look waits for the device
TALK_EVERY = 10.0  # seconds between progress lines


def pick_device(name=None):
    """The named device, or a GPU if there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def usable(precision, device):
    """The precision, or "fp32" for "bf16" on a processor without products of bfloat16, where each takes up to twenty times as
    long as in float32. With them a step is a little faster than in float32, and with AMX tiles twice as fast."""
    if torch.device(device).type != "cpu" or precision != "bf16":
        return precision
    told = getattr(torch.cpu, "get_capabilities", dict)()
    return precision if told.get("avx512_bf16") or told.get("amx_bf16") else "fp32"


def seed_all(seed):
    """Start every generator that building a method may use."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)


def fit(method, data, folder, *, seed=0, precision="bf16", device=None, fine=True, epoch_images=0,
        checkpoint_every=None, deterministic=False, key="", log=print):  # fmt: skip
    """Run the method's stages on the training split of `data`; returns the history, one dict per epoch.

    `folder` holds checkpoints and the event log; the same call takes an interrupted run up and ends with the same
    bits. `fine` reads schedules per step, an epoch of fewer than `epoch_images` goes through the data several times (`passes`),
    `checkpoint_every` (steps) adds checkpoints within an epoch. `key` names the
    run: a checkpoint of another run is refused. `precision` is bf16 or fp32; see `usable`.
    """
    run = Run(
        method.to(pick_device(device)), data, Path(folder), seed, precision, fine, checkpoint_every, key, log
    )
    run.passes = passes(data, epoch_images)
    with attention_backend(run.device, deterministic):
        stages = method.stages()
        run.skip = untrained_text(method, stages)
        state = run.restore()
        for number, stage in enumerate(stages):
            begin = state if number == state["stage"] else run.fresh(number)
            if number >= state["stage"] and begin["epoch"] < stage.epochs:
                run.train(number, stage, begin)
    run.finish()
    return run.history


def passes(data, images):
    """How often an epoch goes through the training split, so that it has about `images` or more."""
    return max(1, round(images / max(len(data.train), 1)))


def probe(method, batches=PROBED):
    """What a method's code computes before rounding is multiplied: {"stage | quantity": number}, in float32 on the CPU.

    Of every stage the terms and the length of each group's gradient, for its first batches at the initial weights, and the
    total loss of the first batch after one update by it. Processors differ here by what float32 rounds, about 1e-6;
    a longer training multiplies such differences until nothing can be told from them.
    """
    with tempfile.TemporaryDirectory() as folder, attention_backend(torch.device("cpu"), False):
        run = Run(method.cpu(), method.data, Path(folder), 0, "fp32", True, None, "", print)
        return {f"{stage.name} | {name}": float(f"{value:.9g}")
                for stage in method.stages() for name, value in run.probe(stage, batches)}  # fmt: skip


def attention_backend(device, deterministic):
    """Plain attention on a CPU (the fused kernel is slower there for ReID's short sequences) and wherever bits must
    repeat; elsewhere PyTorch chooses."""
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        torch.backends.cudnn.benchmark = False
    return sdpa_kernel(SDPBackend.MATH) if deterministic or device.type == "cpu" else nullcontext()


def length_of(group):
    """Euclidean length of a group's gradient."""
    found = [p.grad.double().square().sum() for p in group.parameters() if p.grad is not None]
    return float(torch.stack(found).sum().sqrt()) if found else 0.0


def untrained_text(method, stages):
    """Names of the parameters that a checkpoint can do without: text towers that no stage trains."""
    trained = {id(p) for stage in stages for group in stage.groups for p in group.parameters()}
    towers = [(name, module) for name, module in method.named_modules() if isinstance(module, TextEncoder)]
    return {
        f"{name}.{key}"
        for name, tower in towers
        for key, p in tower.named_parameters()
        if id(p) not in trained
    }


class Run:
    """The state of one call of fit."""

    def __init__(self, method, data, folder, seed, precision, fine, checkpoint_every, key, log):
        self.method, self.data, self.folder, self.seed = method, data, folder, seed
        self.fine, self.checkpoint_every, self.key, self.log = fine, checkpoint_every, key, log
        self.device = next(method.parameters()).device
        self.precision = usable(precision, self.device)
        self.history, self.skip, self.said, self.caching, self.passes = [], set(), time.monotonic(), 0.0, 1
        folder.mkdir(parents=True, exist_ok=True)

    def train(self, number, stage, state):
        """All epochs of one stage, from the place that `state` names."""
        freeze_all_but(self.method, stage.groups)
        stage.prepare()
        loader = self.loader(stage)
        optimisers = make_optimisers(self.method, stage.groups)
        load_optimisers(optimisers, state["optimisers"])
        watch = Watch(stage, self.last_good, state["sums"])
        self.record("stage", name=stage.name, epochs=stage.epochs)
        first = state["step"]
        for epoch in range(state["epoch"], stage.epochs):
            self.run_epoch(number, stage, loader, optimisers, watch, epoch, first)
            first = 0

    def run_epoch(self, number, stage, loader, optimisers, watch, epoch, first):
        plan, began, images = loader.plan(epoch), time.monotonic() - self.caching, 0
        if not plan:
            raise ValueError(f"expected at least one batch in {stage.name}, found too few images for one; lower the recipe's "
                             f"batch or add data.")  # fmt: skip
        for step, batch in enumerate(loader.batches(epoch, plan, first), first):
            self.set_rates(stage, optimisers, epoch, step, len(plan))
            watch.add(self.step(stage, batch, optimisers))
            images += len(batch.rows)
            done = epoch * len(plan) + step + 1
            if self.checkpoint_every and done % self.checkpoint_every == 0:
                watch.check(epoch, step)
                self.save(number, epoch, step + 1, optimisers, watch.sums)
            elif done % CHECK_EVERY == 0:
                watch.check(epoch, step)
            self.talk(stage, epoch, step + 1, len(plan), time.monotonic() - began, images)
        rate = self.factor(stage, epoch, len(plan) - 1, len(plan))
        self.end_epoch(stage, epoch, rate, watch, time.monotonic() - began, images)
        self.caching = 0.0
        self.save(number, epoch + 1, 0, optimisers, watch.sums)

    def step(self, stage, batch, optimisers):
        """One update; returns the detached terms. Nothing here waits for the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            losses = stage.losses(batch)
        loss = total(losses.terms, stage.weights)
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        self.method.after_step(losses.carry)
        return losses.terms

    def probe(self, stage, number):
        """(quantity, value) of the first `number` batches of a stage; see the function of this name."""
        freeze_all_but(self.method, stage.groups)
        stage.prepare()
        loader, optimisers = self.loader(stage), make_optimisers(self.method, stage.groups)
        plans = ((epoch, loader.plan(epoch)) for epoch in itertools.count())
        batches = (batch for epoch, plan in plans for batch in loader.batches(epoch, plan))
        some = list(itertools.islice(batches, number))
        for k in reversed(range(number)):  # the first comes last: its gradient is the one that is followed
            terms = stage.losses(some[k]).terms
            self.method.zero_grad()
            total(terms, stage.weights).backward()
            yield from ((f"{name} of batch {k}", term.item()) for name, term in terms.items())
            yield from (
                (f"gradient {g} of batch {k}", length_of(group)) for g, group in enumerate(stage.groups)
            )
        self.set_rates(stage, optimisers, 0, 0, len(loader.plan(0)))
        for optimiser in optimisers:
            optimiser.step()
        with torch.no_grad():
            yield "total after an update", total(stage.losses(some[0]).terms, stage.weights).item()

    def loader(self, stage):
        for cached in stage.cache.values():  # reading files is no cost of a method
            self.data.store("train", self.method.size, cached.view.filter)
        began = time.monotonic()
        cached = {name: self.compute(cached) for name, cached in stage.cache.items()}
        self.caching = time.monotonic() - began
        return Loader(self.data, self.method.size, stage.draws, stage.views, self.seed, self.device,
                      stage.chance or stage.name, cached, stage.captions, self.passes)  # fmt: skip

    @torch.no_grad()
    def compute(self, cached):
        """What a frozen tower says about every training row, in row order."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            rows = still_batches(self.data, "train", self.method.size, cached.view, self.device)
            return torch.cat([cached.compute(batch).float() for batch in rows])

    def set_rates(self, stage, optimisers, epoch, step, steps):
        """Write the scheduled rates into the optimisers."""
        factor = self.factor(stage, epoch, step, steps)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["base_lr"] * factor

    def factor(self, stage, epoch, step, steps):
        """The schedule's factor at one step."""
        return stage.schedule.factor(stage.schedule.position(epoch, stage.epochs, step, steps, self.fine))

    def end_epoch(self, stage, epoch, rate, watch, seconds, images):
        means = watch.means(epoch)
        line = {
            "stage": stage.name,
            "epoch": epoch + 1,
            "losses": means,
            "rate": rate,
            "seconds": seconds,
            "images": images if stage.views else 0,  # what is cached is not looked at
        }
        self.history.append(line)
        self.record("epoch", **line)

    def talk(self, stage, epoch, step, steps, seconds, images):
        """A line of progress now and then, with the time that is left for the stage."""
        if time.monotonic() - self.said < TALK_EVERY:
            return
        self.said = time.monotonic()
        left = (steps * (stage.epochs - epoch) - step) * seconds / step
        self.log(f"{stage.name}: epoch {epoch + 1}/{stage.epochs}, step {step}/{steps}, {images / seconds:.0f} images/s, "
                 f"{left / 60:.1f} min left")  # fmt: skip

    def state_dict(self):
        return {name: value for name, value in self.method.state_dict().items() if name not in self.skip}

    def save(self, stage, epoch, step, optimisers, sums):
        """A checkpoint that says: go on with step `step` of epoch `epoch` of stage `stage`."""
        state = {
            "key": self.key, "place": {"stage": stage, "epoch": epoch, "step": step}, "sums": sums,
            "history": json.dumps(self.history), "method": self.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        }  # fmt: skip
        checkpoint.save(self.folder, (stage * 10**3 + epoch) * 10**5 + step, state)

    def fresh(self, number):
        return {"stage": number, "epoch": 0, "step": 0, "optimisers": [], "sums": None}

    def restore(self):
        """Where to begin: the newest whole checkpoint, or the beginning."""
        state = checkpoint.latest(self.folder, self.log)
        if state is None:
            return self.fresh(0)
        if state["key"] != self.key:
            raise ValueError(f"expected a checkpoint of this run in {self.folder}, found one of another ({state['key']}); "
                             f"remove the folder or choose another.")  # fmt: skip
        self.method.load_state_dict(state["method"], strict=False)
        self.history = json.loads(state["history"])
        self.record("resumed", **state["place"])
        return {**state["place"], "optimisers": state["optimisers"], "sums": state["sums"]}

    def last_good(self):
        """The name of the newest checkpoint: none is written after a loss that is not finite."""
        return checkpoint.saved(self.folder)[-1].name if checkpoint.saved(self.folder) else "none"

    def record(self, event, **facts):
        """Append one line to the event log."""
        with open(self.folder / "events.jsonl", "a") as file:
            file.write(json.dumps({"time": round(time.time(), 1), "event": event, **facts}) + "\n")

    def finish(self):
        """The trained weights, as safetensors."""
        weights = {name: value.contiguous() for name, value in self.state_dict().items()}
        checkpoint.write(self.folder / "weights.safetensors", safetensors_bytes(weights, {"key": self.key}))
        self.record("finished")


class Watch:
    """Sums the terms on the device and looks at them now and then; stops the run at the first that is not finite."""

    def __init__(self, stage, last_good, sums=None):
        self.stage, self.last_good, self.names = stage, last_good, sorted(stage.weights)
        self.recent, self.sums = [], sums or {"count": 0, "terms": None}

    def add(self, terms):
        self.recent.append(torch.stack([terms[name].detach().float() for name in self.names]))

    def check(self, epoch, step):
        """Wait for the recent terms; raise for the first that is not finite, else add them to the epoch's sums."""
        recent = (
            torch.stack(self.recent).double().cpu()
            if self.recent
            else torch.empty(0, len(self.names)).double()
        )
        bad = (~recent.isfinite()).nonzero()
        if len(bad):
            row, term = bad[0].tolist()
            raise FloatingPointError(
                f"expected finite losses, found {self.names[term]} = {recent[row, term]} at step "
                f"{step - len(recent) + 2 + row} of epoch {epoch + 1} in {self.stage.name}; the last good checkpoint is "
                f"{self.last_good()}: lower the learning rate or use precision fp32."
            )
        before = self.sums["terms"]
        self.sums = {"count": self.sums["count"] + len(recent),
                     "terms": recent.sum(0) if before is None else before + recent.sum(0)}  # fmt: skip
        self.recent = []

    def means(self, epoch):
        """Mean of every term over the epoch; starts the next."""
        self.check(epoch, len(self.recent) + self.sums["count"] - 1)
        means = dict(zip(self.names, (self.sums["terms"] / max(self.sums["count"], 1)).tolist()))
        self.sums = {"count": 0, "terms": None}
        return means


def make_optimisers(method, groups):
    """Adam (coupled weight decay, as in all five papers), fused; tables that are row-sparse get RowAdam, and what our own
    pretraining asks for gets Muon."""
    names = {id(p): name for name, p in method.named_parameters() if p.requires_grad}
    kinds = {RowAdam: [], muon: [], adam: []}
    for group in groups:
        kinds[RowAdam if group.row_sparse else muon if group.muon else adam] += split_biases(group, names)
    return [make(kinds[make]) for make in (adam, RowAdam, muon) if kinds[make]]


def adam(parts):
    return torch.optim.Adam(parts, fused=True)


def muon(parts):
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"expected torch 2.9 or newer, which has Muon, found {torch.__version__}; install a newer one, or "
                         f"use the weights that come with the project.")  # fmt: skip
    return torch.optim.Muon(parts)


def split_biases(group, names):
    """At most two parameter groups: everything else, and what has "bias" in its name."""
    parts = []
    for is_bias in (False, True):
        parameters = [p for p in group.parameters() if id(p) in names and ("bias" in names[id(p)]) == is_bias]
        decay = group.bias_decay if is_bias and group.bias_decay is not None else group.weight_decay
        rate = group.lr * (group.bias_factor if is_bias else 1.0)
        if parameters:
            parts.append({"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay,
                          "betas": group.betas, "eps": group.eps})  # fmt: skip
    return parts


def load_optimisers(optimisers, states):
    for optimiser, state in zip(optimisers, states):
        optimiser.load_state_dict(state)


class RowAdam(torch.optim.Optimizer):
    """Adam for tables: a row without a gradient in a step does not move, and counts its own steps (HPL card D15)."""

    def __init__(self, groups):
        super().__init__(groups, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                self.move(p, group)

    def move(self, p, group):
        state, (beta1, beta2) = self.state[p], group["betas"]
        if not state:
            state |= {"step": p.new_zeros(len(p)), "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
        used = (p.grad != 0).flatten(1).any(1)
        shape = (-1, *[1] * (p.dim() - 1))
        on = used.view(shape)
        state["step"] += used
        state["mean"] = torch.where(on, state["mean"].lerp(p.grad, 1 - beta1), state["mean"])
        state["square"] = torch.where(on, state["square"].lerp(p.grad.square(), 1 - beta2), state["square"])
        count = state["step"].clamp(min=1).view(shape)
        mean, square = state["mean"] / warmed(beta1, count), state["square"] / warmed(beta2, count)
        p.sub_(group["lr"] * torch.where(on, mean / (square.sqrt() + group["eps"]), 0.0))


def warmed(beta, count):
    """1 - beta^count, exact to the last digit for small counts."""
    return -torch.expm1(count * math.log(beta))

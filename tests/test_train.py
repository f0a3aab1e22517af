"""fit(): what trains, what is frozen, and that a run can be taken up anywhere."""

import functools
import io
import json
import re
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from reid_core import checkpoint, optim, precision, train
from reid_core.augment import Augmentation
from reid_core.contract import interrupted, same_state
from reid_core.layers import Neck
from reid_core.methods.base import Cached, Losses, Method, Stage, ema_, freeze_all_but, total
from reid_core.optim import Group
from reid_core.samplers import Shuffle
from reid_core.schedules import constant, warmup_milestones


class Toy(Method):
    """Two stages on 16x8 pixels: first the words, on what the frozen tower says; then the tower, with a
    teacher."""

    def __init__(self, data, epochs=3):
        super().__init__(None)
        torch.manual_seed(0)
        self.data, self.size, self.epochs = data, (16, 8), epochs
        self.tower, self.neck = nn.Linear(384, 8), Neck(8)
        self.words, self.teacher = nn.Parameter(torch.randn(data.classes, 8)), nn.Linear(384, 8)
        self.seen, self.started, self.dropout = [], 0, nn.Dropout(0.1)

    def look(self, batch):
        return self.tower(batch.images.flatten(1))

    def stages(self):
        rows, still = range(len(self.data.train)), Augmentation()
        words = Stage(
            name="words",
            epochs=self.epochs,
            sampler=Shuffle(rows, 16),
            views=[],
            losses=self.word_loss,
            weights={"pull": 2.0},
            groups=[Group(members=[self.words], lr=0.1)],
            schedule=warmup_milestones(3, 1, 0.1, (2,)),
            cache={"image": Cached(self.look, still)},
        )
        tower = Stage(
            name="tower",
            epochs=self.epochs,
            sampler=Shuffle(rows, 16),
            views=[Augmentation(flip=0.5, pad=2)],
            losses=self.tower_loss,
            weights={"near": 1.0, "small": 0.5},
            groups=[Group(members=[self.tower], lr=0.01), Group(members=[self.neck], lr=0.05)],
            schedule=constant(3),
            start=self.meet_teacher,
            after_step=self.follow,
        )
        return [words, tower]

    def word_loss(self, batch):
        return Losses({"pull": (self.words[batch.labels] - batch.cached["image"]).square().mean()})

    def tower_loss(self, batch):
        feature = self.neck(self.dropout(self.look(batch)))
        noise = torch.from_numpy(batch.rng.normal(size=8)).float()
        near = (feature - self.words[batch.labels].detach() + 0.1 * noise).square().mean()
        return Losses({"near": near, "small": feature.square().mean()}, {"rows": batch.index})

    def meet_teacher(self):
        """Random, under the stage's own seed, and once."""
        self.started += 1
        nn.init.normal_(self.teacher.weight)

    def follow(self, carry):
        ema_(self.teacher, self.tower, 0.9)
        self.seen.append(carry["rows"])


def fit(method, folder, **options):
    return train.fit(method, method.data, folder, precision="fp32", key="toy", log=lambda *_: None, **options)


def test_what_is_kept_in_half_precision_is_kept_so_under_autocast(world, tmp_path):
    """HPL caches tokens in float16, which a processor's autocast does not join."""
    method = Toy(world)
    trainer = train.Trainer(method, world, tmp_path, precision="fp32")
    trainer.precision = "bf16"  # also where `usable` would not take it
    found = trainer.compute(Cached(method.look, Augmentation(), torch.float16))
    assert found.dtype == torch.float16 and len(found) == len(world.train)


def test_the_history_names_stage_epoch_terms_and_rates(world, tmp_path):
    history = fit(Toy(world), tmp_path)
    assert [(h["stage"], h["epoch"]) for h in history] == [
        (s, e) for s in ("words", "tower") for e in (1, 2, 3)
    ]
    assert set(history[0]["losses"]) == {"pull"} and set(history[-1]["losses"]) == {"near", "small"}
    assert history[2]["losses"]["pull"] < history[0]["losses"]["pull"]
    assert [h["images"] for h in history] == [0, 0, 0, 64, 64, 64], (
        "the words are learned without a look at an image"
    )


def test_a_stage_trains_its_groups_and_nothing_else(world, tmp_path):
    method = Toy(world)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    stages = method.stages()
    method.stages = lambda: stages[:1]
    fit(method, tmp_path)
    moved = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"words"}


def test_frozen_modules_are_in_eval_mode_and_fixed_biases_stay(world):
    method = Toy(world)
    freeze_all_but(method, method.stages()[0].groups)
    assert not method.tower.training and not method.neck.training and not method.tower.weight.requires_grad
    freeze_all_but(method, method.stages()[1].groups)
    assert method.neck.training and method.neck.weight.requires_grad and not method.neck.bias.requires_grad


def test_a_term_without_a_weight_is_an_error():
    with pytest.raises(ValueError, match="a weight for each of the terms .'a', 'b'., found .'a'."):
        total({"a": torch.ones(()), "b": torch.ones(())}, {"a": 1.0})
    assert total({"a": torch.tensor(2.0), "b": torch.tensor(3.0)}, {"a": 0.5, "b": 2.0}) == 7


@pytest.mark.parametrize("stop_after, every", [(2, 3), (5, 1), (9, 3), (12, 1), (14, 2), (19, 3)])
def test_a_run_taken_up_anywhere_ends_with_the_same_bits(world, tmp_path, stop_after, every):
    whole = Toy(world)
    history = fit(whole, tmp_path / "whole")
    broken = Toy(world)
    interrupted(lambda: fit(broken, tmp_path / "broken", checkpoint_every=every), stop_after)
    again = Toy(world)
    resumed = fit(again, tmp_path / "broken", checkpoint_every=every)
    assert same_state(whole, again)
    assert [h["losses"] for h in resumed] == [h["losses"] for h in history]


def test_a_damaged_checkpoint_costs_time_and_no_bits(world, tmp_path):
    whole = Toy(world)
    fit(whole, tmp_path / "whole")
    fit(Toy(world), tmp_path / "broken")
    last = checkpoint.saved(tmp_path / "broken")[-1]
    last.write_bytes(last.read_bytes()[:-50])
    again = Toy(world)
    fit(again, tmp_path / "broken")
    assert same_state(whole, again)


def test_a_checkpoint_of_another_run_is_refused(world, tmp_path):
    fit(Toy(world), tmp_path)
    with pytest.raises(
        ValueError, match="expected a checkpoint of this run in .*, found one of another .toy."
    ):
        train.fit(Toy(world), world, tmp_path, precision="fp32", key="other", log=lambda *_: None)


def test_epochs_are_kept_once_enough_is_at_risk_and_the_end_of_a_stage_always(world, tmp_path, monkeypatch):
    for seconds, places in (
        (3600.0, [(0, 3), (1, 3)]),
        (0.0, [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]),
    ):
        kept = []
        monkeypatch.setattr(train, "AT_RISK", seconds)
        monkeypatch.setattr(checkpoint, "save", lambda *state, kept=kept: kept.append(state[-1]["place"]))
        fit(Toy(world), tmp_path / str(seconds))
        assert [(place["stage"], place["epoch"]) for place in kept] == places


def test_the_first_term_that_is_not_finite_stops_the_run(world, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "AT_RISK", 0.0)
    method = Toy(world)
    real = method.tower_loss

    def poisoned(batch):
        losses = real(batch)
        terms = (
            {**losses.terms, "small": losses.terms["small"] * float("nan")}
            if len(method.seen) == 5
            else losses.terms
        )
        return Losses(terms, losses.carry)

    method.tower_loss = poisoned
    with pytest.raises(
        FloatingPointError,
        match="small = nan at step 2 of epoch 2 in tower; the last good checkpoint is state-",
    ):
        fit(method, tmp_path)
    good = checkpoint.latest(tmp_path)
    assert good["place"] == {"stage": 1, "epoch": 1, "step": 0}
    assert all(value.isfinite().all() for value in good["method"].values() if value.is_floating_point())


def test_weights_that_the_last_step_made_not_finite_stop_the_run(world, tmp_path, monkeypatch):
    """No loss tells of them."""
    monkeypatch.setattr(train, "AT_RISK", 0.0)
    method = Toy(world)
    real = method.follow

    def last(carry):
        real(carry)
        if len(method.seen) == 12:
            method.tower.weight.data[0, 0] = float("nan")

    method.follow = last
    with pytest.raises(FloatingPointError, match="finite weights, found others after 3 epochs .* of stage 2"):
        fit(method, tmp_path)
    assert checkpoint.latest(tmp_path)["place"] == {"stage": 1, "epoch": 2, "step": 0}


def test_an_epoch_that_was_taken_up_counts_the_images_and_seconds_of_all_starts(world, tmp_path):
    whole, spent = fit(Toy(world), tmp_path / "whole"), []
    interrupted(lambda: fit(Toy(world), tmp_path / "broken", checkpoint_every=1), 15)
    sooner = checkpoint.latest(tmp_path / "broken")["so_far"]
    assert sooner["images"] == 48 and sooner["seconds"] > 0
    history = fit(Toy(world), tmp_path / "broken", checkpoint_every=1, spent=spent)
    assert [h["images"] for h in history] == [h["images"] for h in whole]
    assert history[3]["seconds"] > sooner["seconds"]
    before = sum(h["seconds"] for h in history) - spent[0]
    assert before == pytest.approx(sum(h["seconds"] for h in history[:3]) + sooner["seconds"])


def test_the_log_tells_what_happened(world, tmp_path):
    fit(Toy(world), tmp_path)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["stage", *["epoch"] * 3, "stage", *["epoch"] * 3, "finished"]


def test_weights_are_the_callers_to_write_and_are_read_back_strictly(world, tmp_path):
    method = Toy(world)
    fit(method, tmp_path)
    assert not (tmp_path / train.WEIGHTS).exists()
    train.save_weights(method, tmp_path, "toy")
    state, again = load_file(tmp_path / train.WEIGHTS), Toy(world)
    train.load_state(again, state, tmp_path)
    assert same_state(method, again)
    with pytest.raises(ValueError, match="found no words; it is of other code"):
        train.load_state(again, {key: value for key, value in state.items() if key != "words"}, tmp_path)
    with pytest.raises(ValueError, match="found more, which it does not have; it is of other code"):
        train.load_state(again, {**state, "more": state["words"]}, tmp_path)
    for spoilt, found in (
        (3, "words as a int"),
        ("text", "words as a str"),
        (state["words"][:1], "size mismatch"),
    ):
        with pytest.raises(ValueError, match=f"found {found}.*; it is of other code"):
            train.load_state(again, {**state, "words": spoilt}, tmp_path)


def test_a_stage_starts_once_and_never_when_it_is_taken_up(world, tmp_path):
    """Neither within an epoch nor between two."""
    first = Toy(world)
    fit(first, tmp_path / "whole")
    assert first.started == 1
    for stop_after, started in ((2, 1), (13, 0), (17, 0)):
        broken, again, place = Toy(world), Toy(world), tmp_path / str(stop_after)
        interrupted(functools.partial(fit, broken, place, checkpoint_every=1), stop_after)
        fit(again, place, checkpoint_every=1)
        assert again.started == started and same_state(first, again)


@pytest.fixture
def said(monkeypatch):
    """What progress would say without its pauses."""
    monkeypatch.setattr(train, "LOG_EVERY", 0.0)
    monkeypatch.setattr(train, "UPDATE_EVERY", 0.0)
    return []


def test_progress_in_a_file_is_a_line_per_epoch_that_begins_with_the_time_left(world, tmp_path, said):
    train.fit(Toy(world), world, tmp_path, precision="fp32", log=said.append)
    assert len(said) == 6 and all("step 4/4" in line for line in said)
    assert re.match(r"about \d+ s left in this stage; words, epoch 1/3, step 4/4, \d+ images/s", said[0])


def test_progress_counts_later_stages_at_their_pace_in_an_earlier_run(world, tmp_path, said):
    expected = {"words": 1e-9, "tower": 1e-6}  # a thousand times as slow
    train.fit(Toy(world), world, tmp_path, precision="fp32", log=said.append, expected=expected)
    assert all("left in all; " in line for line in said)
    trainer = train.Trainer(Toy(world), world, tmp_path / "other", expected={"words": 2.0, "tower": 60.0})
    trainer.stages = trainer.method.stages()
    assert (
        trainer.time_left(0, 1.5, 1.0) == "about 2 min left in all"
    )  # 1.5 s, and 3 x 60 s at twice the pace
    assert trainer.time_left(1, 2, 20) == "about 40 s left in all"
    trainer.expected = {}
    assert trainer.time_left(0, 1.5, 1.0) == "about 2 s left in this stage"


def test_progress_on_a_terminal_is_one_line_that_is_gone_in_the_end(world, tmp_path, said, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", terminal)
    train.fit(Toy(world), world, tmp_path, precision="fp32")
    lines = terminal.getvalue().split("\r")
    assert len(lines) == 1 + 24 + 2 and "\n" not in terminal.getvalue(), "a line per step"
    assert lines[-2:] == [" " * len(lines[-3].rstrip()), ""] and lines[1].startswith("about ")


def test_a_line_that_stays_does_not_touch_the_one_that_changes():
    terminal = io.StringIO()
    log = train.LiveLine(terminal)
    log.update("about 9 s left")
    log("not tested")
    assert terminal.getvalue() == "\rabout 9 s left\r              \rnot tested\n"


def test_biases_get_their_own_rate_and_decay(world):
    method = Toy(world)
    group = Group(members=[method.tower], lr=1.0, weight_decay=0.1, bias_factor=2.0, bias_decay=0.0)
    freeze_all_but(method, [group])
    weight, bias = optim.make_optimisers(method, [group])[0].param_groups
    assert (weight["lr"], weight["weight_decay"], bias["lr"], bias["weight_decay"]) == (1.0, 0.1, 2.0, 0.0)


def test_rows_without_a_gradient_do_not_move_and_the_others_follow_adam():
    torch.manual_seed(0)
    table = nn.Parameter(torch.randn(4, 3))
    twin = nn.Parameter(table.detach()[1:2].clone())
    sparse, dense = optim.RowAdam([{"params": [table], "lr": 0.1}]), torch.optim.Adam([twin], 0.1)
    start = table.detach().clone()
    for k in range(5):
        sparse.zero_grad()
        (table[1] * (k + 1) + (table[3] if k == 2 else 0)).sum().backward()
        sparse.step()
        dense.zero_grad()
        (twin[0] * (k + 1)).sum().backward()
        dense.step()
    table, twin = table.detach(), twin.detach()
    assert torch.allclose(table[1], twin[0], atol=1e-6)
    assert torch.equal(table[0], start[0]) and torch.equal(table[2], start[2])
    assert (table[3] - start[3]).abs().max() == pytest.approx(0.1, abs=1e-4)  # one first step of Adam


def test_text_towers_that_nobody_trains_are_not_written(world, tmp_path):
    from reid_core.methods.clip_reid import RECIPE, ClipReID
    from reid_core.recipe import PROFILES

    method = ClipReID(RECIPE.at(PROFILES["smoke"]), world)
    constants = method.constants()
    assert "text.token_embedding.weight" in constants
    assert all(name.startswith("text.") for name in constants)
    assert not set(constants) & set(train.stored(method)) and "words.new" in train.stored(method)


def test_a_table_whose_unused_rows_stay_refuses_weight_decay():
    table = nn.Parameter(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="expected no weight decay on tables .* found 0.1"):
        optim.RowAdam([{"params": [table], "lr": 0.1, "weight_decay": 0.1}])


@pytest.mark.parametrize(
    "told, device, used",
    [
        ({"avx512_bf16": True}, "cpu", "bf16"),
        ({"amx_bf16": True}, "cpu", "bf16"),
        ({"avx2": True}, "cpu", "fp32"),
        ({}, "cpu", "fp32"),
        ({}, "cuda", "bf16"),
    ],
)
def test_a_processor_that_would_emulate_bfloat16_trains_in_fp32(told, device, used, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert precision.usable("bf16", device) == used and precision.usable("fp32", device) == "fp32"


def test_bf16_stays_close_to_fp32(world, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    one, two = Toy(world), Toy(world)
    fit(one, tmp_path / "one")
    train.fit(two, world, tmp_path / "two", precision="bf16", log=lambda *_: None)
    assert not same_state(one, two) and (one.tower.weight - two.tower.weight).abs().mean() < 0.005

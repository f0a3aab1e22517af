"""PAD's short published training runs, replayed with the library's own stages."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import LOSS, OUTPUT, close, golden, in_proportion, lacks, matching, same_values
from golden_runs import (
    LOSSES,
    PARAMETERS,
    Replay,
    batches_of,
    epochs_of,
    same_losses,
    same_parameters,
)
from golden_towers import image_tower, our_name, pool_of, published_pool, template_in, text_tower, weights
from torch import nn

from reid_core.data import Batch, load_data
from reid_core.layers import Head
from reid_core.methods import pad
from reid_core.methods.base import Method
from reid_core.prompts import GrowingTable
from reid_core.recipe import PROFILES
from reid_core.schedules import Schedule

VISUAL = "visual.va_prompt."  # the pool's parts, which have other names and shapes here


class GivenPAD(pad.PADReleased):
    """PAD as released, around what a golden file gives; `position` tells the first domain from later ones."""

    def __init__(self, recipe, labels, classes, position):
        Method.__init__(self, recipe)
        named = SimpleNamespace(name="given")
        self.data = SimpleNamespace(labels=labels, classes=classes, train=labels, manifest=named)
        self.size = (1, 1)
        self.position = position
        self.gamma = nn.Parameter(torch.tensor(recipe.texkd_gamma), False)
        for name in ("bank", "teacher_bank"):
            self.register_buffer(name, torch.zeros(0, 0), persistent=False)
        self.choose()

    def batch(self, pixels, pids, cameras=None):
        return Batch(index=torch.arange(len(pids)), labels=pids, cameras=cameras, views=[pixels[:, None]])


def table_of(words):
    """A table that holds given words (C, tokens, width)."""
    table = GrowingTable(words.shape[1:])
    table.new = nn.Parameter(words.clone())
    return table


# Stage 1: sentences on cached features


def learner(file, variant):
    """The method before a run of its first stage; a run without TEXKD is of the first domain."""
    words = file.tensor("in/initial_cls_ctx")
    held = f"in/{variant}/texkd_class_set_per_iteration_minus1_padded" in file
    span = file["in/epochs"].item()
    settings = {"lr_va_prompt": file.number("in/lr"), "stage1_epochs": span, "stage1_span": span}
    recipe = pad.PADRecipe().but(**settings)
    method = GivenPAD(recipe, file["in/label"], len(words), position=2 if held else 1)
    method.text = text_tower(file, file["in/heads"])
    method.template = template_in(file, method.text, words.shape[1])
    method.words = table_of(words)
    teacher = "in/other_teacher_cls_ctx" if "other_teacher" in variant else "in/initial_cls_ctx"
    method.teacher_words = table_of(file.tensor(teacher))
    return method


def pad_sentences(file, variant, folder, monkeypatch):
    """(method, replay) of a run: the library's stage at the file's rates, since it says nothing of their
    curve (the curve has tests of its own), and with the file's draws of identities."""
    method, rates = learner(file, variant), file[f"out/{variant}/lr_per_epoch"]
    key = f"in/{variant}/texkd_class_set_per_iteration_minus1_padded"
    drawn = iter(file.tensor(key) if key in file else ())
    monkeypatch.setattr(pad, "drawn", lambda *_: (lambda ids: ids[ids >= 0].long())(next(drawn)))
    stage = method.prompt_learning()
    stage.prepare()
    curve = Schedule(lambda epoch: rates[int(epoch) - 1] / (stage.groups[0].lr or 1.0), stage.epochs)
    stage = dataclasses.replace(stage, schedule=curve)
    replay = Replay(method, stage, epochs_of(file, f"{variant}/"), folder)
    in_proportion("pad__stage1_run", np.ravel(replay.rates), rates)
    return method, replay


def runs_of(file, noisy):
    """Variants whose teacher is, or is not, a copy of the student, which makes rounding noise of its
    gradients (D6)."""
    found = [match[1] for _, match in matching(file, r"out/(\w+)/loss_per_iteration")]
    return [variant for variant in found if ("copy" in variant) == noisy] or lacks(file, "such variant")


@golden("pad__stage1_run")
def test_pad_learns_the_published_words(file, tmp_path, monkeypatch):
    name, file = file.name, file()
    for variant in runs_of(file, noisy=False):
        method, replay = pad_sentences(file, variant, tmp_path, monkeypatch)
        same_losses(name, replay.losses(), file[f"out/{variant}/loss_per_iteration"])
        same_parameters(
            name, {"words": method.words()}, {"words": file.tensor(f"out/{variant}/final_cls_ctx")}
        )
        method.fill_bank()
        close(method.bank, file[f"out/{variant}/text_bank_after"], PARAMETERS, name)
        if f"out/{variant}/texkd_kl_per_iteration" in file:
            found = [terms["text distillation"] for terms in replay.terms]
            close(found, file[f"out/{variant}/texkd_kl_per_iteration"], LOSSES, name)


@golden("pad__stage1_run")
def test_a_teacher_that_is_a_copy_teaches_nothing_at_first(file, tmp_path, monkeypatch):
    """Later its gradients are rounding noise that Adam enlarges (D6), so later losses agree only roughly."""
    name, file = file.name, file()
    for variant in runs_of(file, noisy=True):
        _, replay = pad_sentences(file, variant, tmp_path, monkeypatch)
        wanted = file[f"out/{variant}/loss_per_iteration"]
        close(replay.losses()[0], wanted[0], LOSS, name)
        assert replay.terms[0]["text distillation"] == pytest.approx(0, abs=1e-6)
        same_losses("", replay.losses(), wanted, 5e-3)


# Stage 2: the last blocks and the prompts, with a teacher


def student(file):
    """The method in a later domain, with the file's tower, pool, necks, heads and sentences, and settings."""
    rates, decays = (file[f"in/{kind}_backbone_head_prompt"].tolist() for kind in ("lr", "weight_decay"))
    *steps, decay, start, warmup = file["in/schedule_steps_gamma_warmupfactor_warmupiters"].tolist()
    span = file["in/epochs"].item()
    assert decays[0] == decays[1], "the tower and its heads decay alike"
    recipe = pad.PADRecipe().but(
        **dict(zip(("lr_backbone", "lr_head", "lr_va_prompt"), rates, strict=True)),
        weight_decay=decays[0],
        weight_decay_prompts=decays[2],
        unfrozen_blocks=file["in/unfrozen_last_blocks"].item(),
        stage2_epochs=span,
        stage2_span=span,
        stage2_milestones=(tuple(int(step) for step in steps),),
        stage2_warmup_epochs=warmup,
        stage2_warmup_factor=start,
        stage2_lr_decay_factor=decay,
        ema_alpha=file.number("in/ema_momentum"),
        ids_per_batch=1,
    )
    classes = len(file["w/classifier.weight"])
    method = GivenPAD(recipe, file["in/label"][0], classes, position=2)
    size = file["in/pixels"].shape[3:]
    method.image = image_tower(weights(file, "w/visual."), size, file["in/heads"])
    _, *widths = method.image.widths
    method.heads = nn.ModuleList(Head(width, classes, bias=True) for width in widths)
    state = {our_name(name): value for name, value in file.tensors("w/").items() if VISUAL not in name}
    assert not method.load_state_dict(state, strict=False).unexpected_keys
    method.prompts = pool_of(file.tensors(f"w/{VISUAL}"), file["in/k"].item(), pad.PromptPool)
    method.bank = file.tensor("in/text_bank")
    method.teacher = copy.deepcopy(method.image)
    method.teacher_prompts = copy.deepcopy(method.prompts)
    return method


@golden("pad__stage2_run")
def test_the_untrained_student_is_the_published_one(file):
    name, file = file.name, file()
    method = student(file).eval()
    batch = batches_of(method, file)[0]
    f11, f12, _ = method.encode(batch)
    close(method.embed(batch, "f12+fp"), file["out/initial/eval_feature"], OUTPUT, name)
    close(method.heads[0](f12), file["out/initial/eval_mode_score_0"], OUTPUT, name)
    close(f11, file["out/initial/eval_mode_feat_0"], OUTPUT, name)


@golden("pad__stage2_run")
def test_pad_trains_the_published_student_and_teacher(file, tmp_path):
    """Terms, rates, the student, and those parts of the teacher that the file keeps and that anybody reads:
    its necks and classifiers never say anything, and ours has none."""
    name, file = file.name, file()
    method = student(file)
    stage = method.image_learning()
    stage.start()
    replay = Replay(method, stage, [batches_of(method, file)] * stage.epochs, tmp_path)
    same_losses(name, replay.losses(), file["out/loss_per_iteration"])
    found = [[terms["feature distillation"], terms["logit distillation"]] for terms in replay.terms]
    close(found, file["out/kd_total_feat_kl_per_iteration"][:, 1:], LOSSES, name)
    for rates, wanted in zip(replay.rates, file["out/lr_per_epoch_groups"], strict=True):
        same_values(name, rates, wanted)
    same_parameters(name, *of_both(file, "student", method.state_dict(), method.prompts))
    taught = {f"image.{key}": value for key, value in method.teacher.state_dict().items()}
    same_parameters(name, *of_both(file, "ema_teacher", taught, method.teacher_prompts))


def of_both(file, part, found, pool):
    """What we have and what the file has of a trained model, by our names, the pool by the published ones."""
    found = found | {f"pool.{key}": value.detach() for key, value in published_pool(pool).items()}
    wanted = {}
    for key, value in file.tensors(f"out/final/{part}/").items():
        ours = f"pool.{key.removeprefix(VISUAL)}" if key.startswith(VISUAL) else our_name(key)
        if ours in found:
            wanted[ours] = value
    assert any(key.startswith("pool.") for key in wanted) and len(wanted) > len(pool.general) // 4
    return found, wanted


@golden("pad__resume_keys")
def test_the_next_domain_goes_on_with_what_the_published_code_keeps(file):
    """The tower with its pool and the necks go on; classifiers and words are new; the text tower never
    changed."""
    facts = file()
    kept = set(facts["kept_when_the_next_domain_starts"])
    dropped = {name.split(".")[0] for name in set(facts["all_keys"]) - kept}
    assert {name.split(".")[0] for name in kept} == {"image_encoder", "bottleneck", "bottleneck_proj"}
    assert dropped <= {"classifier", "classifier_proj", "prompt_learner", "text_encoder"}
    one, two = (load_data(f"world_{name}@8", "smoke") for name in "ab")
    method = pad.PADReleased(pad.PADRecipe().at(PROFILES["smoke"]), one)
    method.begin_domain(one, 1)
    with torch.no_grad():
        for value in method.state_dict().values():
            value.add_(1)  # away from what a new domain would begin with
    before = {name: value.clone() for name, value in method.state_dict().items()}
    slots = published_pool(method.prompts)
    method.begin_domain(two, 2)
    after = method.state_dict()
    for name, value in before.items():
        if name.startswith("image.") or ".neck." in name:
            assert torch.equal(after[name], value), name
    assert all(torch.equal(value, slots[name]) for name, value in published_pool(method.prompts).items())
    assert len(method.words()) == two.classes and len(method.heads[0].classifier.weight) == two.classes
    assert method.heads[0].classifier.weight.abs().max() < 0.1, "a classifier is new"

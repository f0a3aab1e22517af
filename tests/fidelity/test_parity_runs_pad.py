"""PAD's short published training runs, replayed. Its terms and its pool are put together here: they come with
PAD."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import LOSS, OUTPUT, close, golden, in_proportion, lacks, matching, same_values
from golden_runs import (
    LOSSES,
    PARAMETERS,
    Replay,
    batches_of,
    epochs_of,
    learner,
    looker,
    same_losses,
    same_parameters,
)
from golden_towers import GivenTowers, PoolPrompts, our_name

from reid_core.losses import feature_distillation, logit_distillation
from reid_core.methods.base import Losses, Stage, ema_
from reid_core.methods.clip_reid import RECIPE
from reid_core.optim import Group
from reid_core.schedules import Schedule, warmup_milestones

# Stated by the golden files' description, not by the files.
TEXKD_SCALE, TEXKD_TEMPERATURE, TEXKD_WEIGHT = 7, 0.07, 0.5
LOGIT_TEMPERATURE = 4
WEIGHTS = {
    "identity": 0.25,
    "triplet": 1.0,
    "image to text": 1.0,
    "feature distillation": 0.5,
    "logit distillation": 0.5,
}

# Stage 1: sentences on cached features


def bank_of(method):
    with torch.no_grad():
        return method.sentences(torch.arange(method.data.classes))


class PadSentences:
    """PAD's first stage around ours: the same two terms and, with a teacher, one on cosines with a set of
    classes."""

    def __init__(self, file, variant):
        self.method = learner(file, RECIPE)
        key = f"in/{variant}/texkd_class_set_per_iteration_minus1_padded"
        self.classes = iter(file.tensor(key)) if key in file else None
        teacher = "in/other_teacher_cls_ctx" if "other_teacher" in variant else "in/initial_cls_ctx"
        self.teacher = self.speak(file.tensor(teacher), torch.arange(self.method.data.classes)).detach()

    def speak(self, words, pids):
        return self.method.text.joint_end(self.method.text(*self.method.template(identity=words[pids])))

    def losses(self, batch):
        terms = self.method.sentence_losses(batch).terms
        if self.classes:
            chosen = next(self.classes)
            chosen = chosen[chosen >= 0].long()
            image = F.normalize(batch.cached["image"])
            student, teacher = (
                TEXKD_SCALE * image @ F.normalize(sentences).T
                for sentences in (self.speak(self.method.words(), chosen), self.teacher[chosen])
            )
            terms["text distillation"] = logit_distillation(student, teacher, TEXKD_TEMPERATURE)
        return Losses(terms)

    def stage(self, file, rates):
        """At the file's rates, since it says nothing of their curve (the curve has tests of its own)."""
        span, base = file["in/epochs"].item(), file.number("in/lr")
        distilled = {"text distillation": TEXKD_WEIGHT} if self.classes else {}
        weights, groups = (
            {"image to text": 1.0, "text to image": 1.0, **distilled},
            [Group(members=[self.method.words], lr=base)],
        )
        curve = Schedule(lambda epoch: rates[int(epoch) - 1] / (base or 1.0), span)
        return Stage(
            name="sentences",
            epochs=span,
            sampler=None,
            views=[],
            losses=self.losses,
            weights=weights,
            groups=groups,
            schedule=curve,
        )


def pad_sentences(file, variant, folder):
    pad, rates = PadSentences(file, variant), file[f"out/{variant}/lr_per_epoch"]
    replay = Replay(pad.method, pad.stage(file, rates), epochs_of(file, f"{variant}/"), folder)
    in_proportion("pad__stage1_run", np.ravel(replay.rates), rates)
    return pad.method, replay


def runs_of(file, noisy):
    """Variants whose teacher is, or is not, a copy of the student, which makes rounding noise of its
    gradients (D6)."""
    found = [match[1] for _, match in matching(file, r"out/(\w+)/loss_per_iteration")]
    return [variant for variant in found if ("copy" in variant) == noisy] or lacks(file, "such variant")


@golden("pad__stage1_run")
def test_pad_learns_the_published_words(file, tmp_path):
    name, file = file.name, file()
    for variant in runs_of(file, noisy=False):
        method, replay = pad_sentences(file, variant, tmp_path)
        same_losses(name, replay.losses(), file[f"out/{variant}/loss_per_iteration"])
        same_parameters(
            name, {"words": method.words()}, {"words": file.tensor(f"out/{variant}/final_cls_ctx")}
        )
        close(bank_of(method), file[f"out/{variant}/text_bank_after"], PARAMETERS, name)
        if f"out/{variant}/texkd_kl_per_iteration" in file:
            found = [terms["text distillation"] for terms in replay.terms]
            close(found, file[f"out/{variant}/texkd_kl_per_iteration"], LOSSES, name)


@golden("pad__stage1_run")
def test_a_teacher_that_is_a_copy_teaches_nothing_at_first(file, tmp_path):
    """Later its gradients are rounding noise that Adam enlarges (D6), so later losses agree only roughly."""
    name, file = file.name, file()
    for variant in runs_of(file, noisy=True):
        _, replay = pad_sentences(file, variant, tmp_path)
        wanted = file[f"out/{variant}/loss_per_iteration"]
        close(replay.losses()[0], wanted[0], LOSS, name)
        assert replay.terms[0]["text distillation"] == pytest.approx(0, abs=1e-6)
        same_losses("", replay.losses(), wanted, 5e-3)


# Stage 2: the last blocks and the prompts, with a teacher


class Student(GivenTowers):
    """Ours with prompts in every block, and a teacher that follows as an average."""

    neck_bias = True

    def start(self, prompts, momentum):
        self.prompts, self.momentum = prompts, momentum

    def encode(self, batch):
        return self.image.reid_features(self.image(batch.images.flatten(0, 1), prompter=self.prompts))

    def start_teacher(self):
        self.teacher = [copy.deepcopy(self).eval()]  # in a list, so that it is no part of the student

    def losses(self, batch):
        f = self.encode(batch)
        with torch.no_grad():
            taught = self.teacher[0].encode(batch)
        logits = [features[2] @ self.bank.T for features in (f, taught)]
        distilled = {
            "feature distillation": feature_distillation(f, taught),
            "logit distillation": logit_distillation(*logits, LOGIT_TEMPERATURE),
        }
        return Losses(self.image_losses(batch).terms | distilled)

    def follow(self, carry):
        ema_(self.teacher[0], self, self.momentum)


def student(file):
    method = looker(file, Student)
    method.start(
        PoolPrompts(file.tensors("w/visual.va_prompt."), file["in/k"].item()), file.number("in/ema_momentum")
    )
    method.load(file.tensors("w/"))
    method.start_teacher()
    return method


def later_domain(method, file):
    rates, decays = (file[f"in/{kind}_backbone_head_prompt"].tolist() for kind in ("lr", "weight_decay"))
    last = list(method.image.blocks[-file["in/unfrozen_last_blocks"].item() :])
    groups = [
        Group(members=members, lr=rate, weight_decay=decay)
        for members, rate, decay in zip((last, [method.heads], [method.prompts]), rates, decays)
    ]
    *steps, decay, start, warmup = file["in/schedule_steps_gamma_warmupfactor_warmupiters"].tolist()
    span = file["in/epochs"].item()
    curve = warmup_milestones(span, warmup, start, steps, decay)
    return Stage(
        name="visual",
        epochs=span,
        sampler=None,
        views=[],
        losses=method.losses,
        weights=WEIGHTS,
        groups=groups,
        schedule=curve,
        after_step=method.follow,
    )


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
    """Terms, rates, the student, and those parts of the teacher that the file keeps."""
    name, file = file.name, file()
    method = student(file)
    stage = later_domain(method, file)
    replay = Replay(method, stage, [batches_of(method, file)] * stage.epochs, tmp_path)
    same_losses(name, replay.losses(), file["out/loss_per_iteration"])
    found = [[terms["feature distillation"], terms["logit distillation"]] for terms in replay.terms]
    close(found, file["out/kd_total_feat_kl_per_iteration"][:, 1:], LOSSES, name)
    for rates, wanted in zip(replay.rates, file["out/lr_per_epoch_groups"], strict=True):
        same_values(name, rates, wanted)
    for part, model in (("student", method), ("ema_teacher", method.teacher[0])):
        final = {our_name(key): value for key, value in file.tensors(f"out/final/{part}/").items()}
        same_parameters(name, model.state_dict(), final)

"""CLIP-ReID's short published training runs, replayed with the method's own stages."""

import numpy as np
import torch
from golden import close, golden, in_proportion, same_values
from golden_runs import (
    FEATURE,
    PARAMETERS,
    Replay,
    batches_of,
    epochs_of,
    learner,
    looker,
    same_losses,
    same_parameters,
)
from golden_towers import our_name

from reid_core.methods.clip_reid import RECIPE


@golden("clipreid__stage1_run")
def test_stage1_learns_the_published_words(file, tmp_path):
    name, file = file.name, file()
    span, base = file["in/epochs"].item(), file.number("in/base_lr")
    recipe = RECIPE.but(
        stage1_epochs=span,
        stage1_span=span,
        stage1_lr=base,
        stage1_min_lr=file.number("in/lr_min"),
        stage1_warmup_init_lr=file.number("in/warmup_lr_init"),
        stage1_warmup_epochs=file["in/warmup_epochs"].item(),
        stage1_weight_decay=file.number("in/weight_decay"),
        stage2_ids_per_batch=1,
    )
    method = learner(file, recipe)
    replay = Replay(method, method.prompt_learning(), epochs_of(file), tmp_path)
    same_losses(name, replay.losses(), file["out/loss_per_iteration"])
    in_proportion(name, np.ravel(replay.rates), file["out/lr_per_epoch"])
    same_parameters(name, {"words": method.words()}, {"words": file.tensor("out/final_cls_ctx")})
    method.bank = torch.empty_like(file.tensor("out/text_bank_after"))
    method.fill_bank()
    close(method.bank, file["out/text_bank_after"], PARAMETERS, name)


def clip_reid(file):
    weights = dict(
        zip(("id_weight", "triplet_weight", "i2t_weight"), file["in/loss_weights_id_triplet_i2t"].tolist())
    )
    *steps, decay, start, warmup = file["in/schedule_step_gamma_warmupfactor_warmupiters"].tolist()
    span, base = file["in/epochs"].item(), file.number("in/base_lr")
    method = looker(
        file,
        stage2_epochs=span,
        stage2_span=span,
        stage2_lr=base,
        stage2_head_lr=base,
        stage2_milestones=tuple(map(int, steps)),
        stage2_lr_decay_factor=decay,
        stage2_warmup_factor=start,
        stage2_warmup_epochs=warmup,
        stage2_bias_lr_factor=file.number("in/bias_lr_factor"),
        stage2_weight_decay=file.number("in/weight_decay"),
        **weights,
    )
    method.load(file.tensors("w/"))
    return method


@golden("clipreid__stage2_run")
def test_stage2_trains_the_published_tower(file, tmp_path):
    """Weights, running statistics, rates of weights and biases, and the test feature of the first batch."""
    name, file = file.name, file()
    method = clip_reid(file)
    batches = batches_of(method, file)
    replay = Replay(method, method.stages()[1], [batches] * file["in/epochs"].item(), tmp_path)
    same_losses(name, replay.losses(), file["out/loss_per_iteration"])
    for rates, wanted in zip(replay.rates, file["out/lr_per_epoch_weights_and_biases"], strict=True):
        same_values(name, rates, wanted)
    final = {our_name(key): value for key, value in file.tensors("out/final/").items()}
    same_parameters(name, method.state_dict(), final)
    close(
        method.eval().embed(batches[0], "f12+fp"), file["out/final_eval_feature_first_batch"], FEATURE, name
    )

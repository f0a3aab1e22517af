"""Towers and heads against published code: tokens, features and gradients. Prompted towers are in
test_parity_prompted, text towers in test_parity_sentences."""

import re

import torch
import torch.nn.functional as F
from golden import (
    GRADIENT,
    LOSS,
    OUTPUT,
    SAME,
    TOWER,
    agree,
    close,
    golden,
    gradients_agree,
    matching,
)
from golden_towers import (
    GivenTowers,
    camera_embedding,
    clip_vit,
    image_tower,
    our_name,
    position_table,
    residual_tower,
    stored,
    text_tower,
    timm_tower,
    weights,
)

from reid_core.losses import identity, pair_contrast, similarity_distribution_matching
from reid_core.methods.base import freeze_all_but, total
from reid_core.methods.clip_reid import RECIPE
from reid_core.towers import resize_positions

# Position tables


@golden("clipreid__resize_pos_embed", "irra__resize_pos_embed")
def test_position_tables_are_resized_without_antialias(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/(\w+/)?(\d+)x(\d+)"):
        table = file.tensor(f"in/{match[1] or ''}positional_embedding")
        close(resize_positions(table, (int(match[2]), int(match[3]))), file[key], OUTPUT, name)


@golden("vladr__pos_resize", "demo__pos_resize")
def test_positions_are_resampled_bilinearly_without_antialias(file):
    file = file()
    agree(file, "out/pos", resize_positions(file.tensor("in/pos"), tuple(file.settings["grid"])), SAME)


@golden("htt__pos_resize")
def test_timm_positions_are_resampled_alike(file):
    file = file()
    resized = resize_positions(file.tensor("in/pos")[0], tuple(file.settings["grid"]))
    agree(file, "out/pos", resized[None], SAME)


# The image transformer


def strides(file):
    return [file[key].item() for key, _ in matching(file, r"in/s\d+/stride")]


def vit(file, stride, side_information):
    """The tower of clipreid__vit, entered with CLIP's own position table, and the maps the file stores."""
    table, native = position_table(file)
    state = weights(file, "w/visual.") | {"positional_embedding": table}
    camera = camera_embedding(file.tensor("w/cv_embed"), file.number("in/sie_coe"))
    size, heads = file["in/pixels"].shape[2:], file["in/heads"]
    tower = image_tower(state, size, heads, stride, native, camera=camera)
    out = tower(file.tensor("in/pixels"), file.tensor("in/camera") if side_information else None)
    return tower, {"penultimate": out.hidden[-2], "last": out.tokens, "projected": tower.joint_tokens(out)}


@golden("clipreid__vit")
def test_position_table_is_resized_as_published(file):
    name, file = file.name, file()
    for stride in strides(file):
        tower, _ = vit(file, stride, False)
        assert list(tower.grid) == file[f"in/s{stride}/grid"].tolist()
        close(tower.positional_embedding, file[f"w_s{stride}/visual.positional_embedding"], OUTPUT, name)


@golden("clipreid__vit")
def test_image_tokens_are_the_published_ones_at_both_strides_with_and_without_cameras(file):
    name, file = file.name, file()
    for stride in strides(file):
        for variant in ("plain", "sie"):
            _, maps = vit(file, stride, variant == "sie")
            for key, found in maps.items():
                close(found, file[f"out/s{stride}/{variant}/{key}"], OUTPUT, name)


@golden("clipreid__vit")
def test_image_gradients_are_the_published_ones_at_both_strides_with_and_without_cameras(file):
    """Also that a camera which does not occur gets no gradient: its row of the published table is zero."""
    name, file = file.name, file()
    for stride in strides(file):
        for variant in ("plain", "sie"):
            tower, maps = vit(file, stride, variant == "sie")
            sum(
                (found[:, 0] * file.tensor(f"in/cotangent_cls_{key}")).sum() for key, found in maps.items()
            ).backward()
            found = {f"image.{key}": p.grad for key, p in tower.named_parameters()}
            for key, wanted in file.tensors(f"grad/s{stride}/{variant}/").items():
                close(found[our_name(key)], wanted, GRADIENT, name)


@golden("demo__clip_vit")
def test_demo_projects_all_tokens(file):
    file = file()
    image = clip_vit(file)
    agree(file, "out/tokens_without_camera", image.joint_tokens(image(file.tensor("in/image"))), TOWER)


@golden("demo__clip_vit")
def test_demo_tells_the_camera_to_the_class_token_only(file):
    file = file()
    camera = camera_embedding(file.tensor("w/cv_embed"), file.settings["sie_coefficient"], tokens=1)
    image = clip_vit(file, camera=camera)
    out = image.joint_tokens(image(file.tensor("in/image"), file.tensor("in/cam")))
    agree(file, "out/global_with_camera", out[:, 0], TOWER)
    agree(file, "out/patch_tokens_with_camera", out[:, 1:], TOWER)


def htt_coefficient(settings):
    """The first number that the settings say about it."""
    numbers = re.findall(r"\d+(?:\.\d+)?", str(settings.get("sie_coefficient", settings["sie"])))
    return float(numbers[0]) if numbers else 1.0


@golden("htt__vit")
def test_htt_tells_the_camera_to_all_tokens(file):
    """Only one of the two cases has cameras; the other is run with a table of zeros."""
    file = file()
    image, state, cameras = timm_tower(file), file.tensors("w/"), file.tensor("in/cam")
    tables = {name: value for name, value in state.items() if name not in image.state_dict()}
    table = next(iter(tables.values()), torch.zeros(int(cameras.max()) + 1, 1, image.width))
    image.camera = camera_embedding(table, htt_coefficient(file.settings), tokens=None)
    found = image(file.tensor("in/image"), cameras).tokens[:, 0]
    agree(file, "out/class_token", found, TOWER)
    named = stored(file, "grad/", image, **{name: image.camera.table for name in tables})
    gradients_agree(file, "grad/", (found * file.tensor("in/cotangent")).sum(), named, TOWER)


# Heads, necks and the objective of stage 2


def clip_reid(file):
    recipe = RECIPE.but(stage2_ids_per_batch=1)
    camera = camera_embedding(file.tensor("w/cv_embed"), file.number("in/sie_coe"))
    size, stride = file["in/pixels"].shape[2:], int(file["in/stride"])
    image = image_tower(weights(file, "w/visual."), size, file["in/heads"], stride, camera=camera)
    method = GivenTowers(recipe, file["in/label"], len(file["w/classifier.weight"]), image)
    method.load(file.tensors("w/"))
    method.bank = file.tensor("in/text_bank")
    return method.eval()


def batch_of(method, file, rows=None):
    return method.batch(file.tensor("in/pixels"), file.tensor("in/label"), rows)


@golden("clipreid__vit_model")
def test_test_feature_is_the_published_one_with_any_side_information(file):
    """Cameras, views and pairs of both are rows of one table."""
    name, file = file.name, file()
    method, cameras, views = clip_reid(file), file.tensor("in/camera"), file.tensor("in/view")
    rows = {
        "none": None,
        "camera": cameras,
        "view": views,
        "camera_view": cameras * file["in/view_num"].item() + views,
    }
    for kind, row in rows.items():
        batch = batch_of(method, file, row)
        necks = [head.neck(f) for head, f in zip(method.heads, method.encode(batch)[1:])]
        close(method.embed(batch, "f12+fp"), file[f"out/eval/{kind}/before"], OUTPUT, name)
        close(torch.cat(necks, 1), file[f"out/eval/{kind}/after"], OUTPUT, name)


@golden("clipreid__vit_model")
def test_cached_feature_ignores_the_camera(file):
    name, file = file.name, file()
    method = clip_reid(file)
    batch = batch_of(method, file, file.tensor("in/camera"))
    close(method.joint_feature(batch), file["out/get_image"], OUTPUT, name)


@golden("clipreid__vit_model")
def test_logits_and_features_in_training_are_the_published_ones(file):
    name, file = file.name, file()
    method = clip_reid(file).train()
    f11, f12, fp = method.encode(batch_of(method, file, file.tensor("in/camera")))
    found = {
        "feat_penultimate": f11,
        "feat_last": f12,
        "feat_projected": fp,
        "i2t_logits": fp @ method.bank.T,
    }
    found |= {f"score_{k}": head(f) for k, (head, f) in enumerate(zip(method.heads, (f12, fp)))}
    state = method.state_dict()
    found |= {key: state[our_name(key)] for key in file.tensors("out/train/") if "running" in key}
    for key, wanted in file.tensors("out/train/").items():
        if key != "loss":
            close(found[key], wanted, OUTPUT, name)


@golden("clipreid__vit_model")
def test_stage2_loss_and_gradients_are_the_published_ones(file):
    name, file = file.name, file()
    method = clip_reid(file)
    stage = method.stages()[1]
    freeze_all_but(method, stage.groups)
    loss = total(stage.losses(batch_of(method, file, file.tensor("in/camera"))).terms, stage.weights)
    close(loss, file["out/train/loss"], LOSS, name)
    loss.backward()
    parameters = dict(method.named_parameters())
    for key, wanted in file.tensors("grad/").items():
        close(parameters[our_name(key)].grad, wanted, GRADIENT, name)
    assert all(
        (parameters[f"heads.{k}.neck.bias"].grad is not None) == file["out/bottleneck_bias_has_grad"]
        for k in (0, 1)
    )


# The residual network


def seen(file, training):
    tower = residual_tower(file).train(training)
    return tower, tower(file.tensor("in/pixels"))


@golden("clipreid__rn50")
def test_residual_tower_has_the_published_grid_and_positions(file):
    name, file = file.name, file()
    tower = residual_tower(file)
    assert list(tower.grid) == file["in/grid"].tolist()
    close(tower.attnpool.positional_embedding, file["w/visual.attnpool.positional_embedding"], OUTPUT, name)


@golden("clipreid__rn50")
def test_residual_stages_and_attention_pool_are_the_published_ones(file):
    name, file = file.name, file()
    tower, out = seen(file, training=False)
    for k, key in ((-2, "out/layer3"), (-1, "out/layer4")):
        close(out.hidden[k].mT.unflatten(2, tower.grid), file[key], OUTPUT, name)
    close(tower.joint_tokens(out).transpose(0, 1), file["out/attnpool_tokens_first"], OUTPUT, name)
    close(tower.joint_cls(out), file["out/get_image"], OUTPUT, name)
    close(torch.cat(tower.reid_features(out)[1:], 1), file["out/eval_feature"], OUTPUT, name)


@golden("clipreid__rn50")
def test_residual_tower_in_training_is_the_published_one(file):
    name, file = file.name, file()
    tower, out = seen(file, training=True)
    for found, key in zip(tower.reid_features(out), ("layer3_gap", "layer4_gap", "projected")):
        close(found, file[f"out/train/feat_{key}"], OUTPUT, name)
    for key, match in matching(file, r"out/train/(.*running.*)"):
        close(tower.state_dict()[match[1]], file[key], OUTPUT, name)


# IRRA's pair of towers


def irra_tokens(file):
    state = weights(file, "w/base_model.visual.")
    image = image_tower(state, file["in/pixels"].shape[2:], file["in/visual_heads"])
    text, ids = text_tower(file, file["in/text_heads"], "w/base_model."), file.tensor("in/caption_ids")
    return image, image(file.tensor("in/pixels")), text, text(text.embed(ids), ids.argmax(1))


@golden("irra__model")
def test_all_tokens_of_both_towers_are_the_published_ones(file):
    """The cross module and its heads are left out: no method here uses them."""
    name, file = file.name, file()
    image, seen, text, read = irra_tokens(file)
    close(image.joint_tokens(seen), file["out/image_tokens"], OUTPUT, name)
    close(image.joint_cls(seen), file["out/encode_image"], OUTPUT, name)
    close(text.joint_tokens(read), file["out/text_tokens"], OUTPUT, name)
    close(text.joint_end(read), file["out/encode_text"], OUTPUT, name)


@golden("irra__model")
def test_losses_on_both_towers_are_the_published_ones(file):
    """Gradients are left out: the file's are those of a sum that contains losses no method here uses."""
    name, file = file.name, file()
    image, seen, text, read = irra_tokens(file)
    v, t = image.joint_cls(seen), text.joint_end(read)
    pids, scale = file.tensor("in/pid"), file.number("in/logit_scale")
    close(similarity_distribution_matching(v, t, pids, 1 / scale), file["out/sdm_loss"], LOSS, name)
    close((pair_contrast(v, t, scale) + pair_contrast(t, v, scale)) / 2, file["out/itc_loss"], LOSS, name)
    logits = [
        F.linear(f, file.tensor("w/classifier.weight"), file.tensor("w/classifier.bias")) for f in (v, t)
    ]
    close(sum(identity(z, pids) for z in logits) / 2, file["out/id_loss"], LOSS, name)

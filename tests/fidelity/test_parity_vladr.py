"""VLADR's network and both of its stages against published code."""

import torch
import torch.nn.functional as F
from golden import SAME, TOWER, agree, golden, gradients_agree, leaves, said
from golden_towers import clip_vit, fill, stored, template_in, text_tower
from torch import nn

from reid_core import losses
from reid_core.layers import CrossAttention, Head
from reid_core.methods import vladr
from reid_core.optim import Group, make_optimisers
from reid_core.prompts import GrowingTable
from reid_core.schedules import warmup_milestones

RATE = 1e-12
RELATION = 1e-3  # of the terms that compare relations, and of gradients through them


# The network


@golden("vladr__cross_attention")
def test_attributes_are_read_from_patches_by_learned_queries(file):
    file = file()
    decoder, x = Decoder(file, "w/", file.settings["num_heads"]), leaves(file, "patch_tokens")
    decoder.region_attn.remember = True
    region = decoder.region_attn(x["patch_tokens"])
    agree(file, "out/region", region, SAME)
    agree(file, "out/attn_head_mean", decoder.region_attn.maps.mean(1), SAME)
    attribute = decoder(x["patch_tokens"])
    agree(file, "out/attribute", attribute, SAME)
    named = stored(file, "grad/", decoder, **x)
    gradients_agree(file, "grad/", (attribute * file.tensor("in/cotangent")).sum(), named, SAME)


class Decoder(nn.Module):
    """Queries, cross-attention and an affine map, under the published names."""

    def __init__(self, file, prefix, heads):
        super().__init__()
        queries, width = file[f"{prefix}region_attn.queries"].shape
        self.region_attn = CrossAttention(queries=queries, width=width, heads=heads)
        self.region_proj = nn.Linear(*reversed(file[f"{prefix}region_proj.weight"].shape))
        fill(self, file.tensors(prefix))

    def forward(self, patches):
        return F.normalize(self.region_proj(self.region_attn(patches)), dim=-1)


class Network(nn.Module):
    """The parts of VLADR's image side that learn, with the weights under `prefix`."""

    def __init__(self, file, prefix):
        super().__init__()
        self.visual = clip_vit(file, f"{prefix}visual.")
        self.decoder = Decoder(file, prefix, file.settings["region_heads"])
        self.head, self.head_proj = (head_with(file, prefix, suffix) for suffix in ("", "_proj"))

    def forward(self, images):
        """Class token, joint class token and attributes."""
        out = self.visual(images)
        joint = self.visual.joint_tokens(out)
        return out.tokens[:, 0], joint[:, 0], self.decoder(joint[:, 1:])


def head_with(file, prefix, suffix):
    head = Head(*reversed(file[f"{prefix}classifier{suffix}.weight"].shape), bias=True)
    head.classifier.weight.data = file.tensor(f"{prefix}classifier{suffix}.weight")
    head.neck.load_state_dict(file.tensors(f"{prefix}bottleneck{suffix}."), strict=False)
    return head


@golden("vladr__model_forward")
def test_vladr_norms_all_tokens_of_the_last_block(file):
    file = file()
    image = clip_vit(file)
    out = image(file.tensor("in/image"))
    agree(file, "out/x11", out.hidden[-2], TOWER)
    agree(file, "out/x12", out.tokens, TOWER)
    agree(file, "out/xproj", image.joint_tokens(out), TOWER)
    agree(file, "out/get_image", image.joint_cls(out), TOWER)


@golden("vladr__model_forward")
def test_vladr_searches_with_two_normed_vectors(file):
    file = file()
    network = Network(file, "w/").eval()
    seen, joint, attributes = network(file.tensor("in/image"))
    feature = torch.cat([network.head.neck(seen), network.head_proj.neck(joint)], 1)
    agree(file, "out/eval_feature", feature, TOWER)
    agree(file, "out/eval_feature_normalised", F.normalize(feature), TOWER)
    agree(file, "out/eval_attribute", attributes, TOWER)
    agree(file, "out/eval_Q", F.normalize(attributes.flatten(1)), TOWER)
    agree(file, "out/eval_EOQ", F.normalize(torch.cat([feature, attributes.flatten(1)], 1)), TOWER)


@golden("vladr__model_forward")
def test_a_training_pass_moves_the_running_statistics(file):
    file = file()
    network = Network(file, "w/")
    seen, joint, attributes = network(file.tensor("in/image"))
    agree(file, "out/train_logits", network.head(seen), TOWER)
    agree(file, "out/train_logits_proj", network.head_proj(joint), TOWER)
    agree(file, "out/train_attribute", attributes, TOWER)
    agree(file, "out/bn_running_mean_after", network.head.neck.running_mean, TOWER)
    agree(file, "out/bn_running_var_after", network.head.neck.running_var, TOWER)
    agree(file, "out/bn_proj_running_mean_after", network.head_proj.neck.running_mean, TOWER)


# Stage 1


@golden("vladr__stage1_train")
def test_stage_one_of_vladr_trains_as_published(file):
    """Given features, so without the image tower. Warm-up and milestone are constants of the published
    function, which the file does not say."""
    file = file()
    text = text_tower(file, file.settings["heads"]).requires_grad_(False)
    words = GrowingTable(file["w/prompt_learner.cls_ctx"].shape[1:])
    words.new = nn.Parameter(file.tensor("w/prompt_learner.cls_ctx"))
    rate, decay = said(file, file.settings["optimizer"], "base lr", "weight_decay")
    (adam,) = make_optimisers(words, [Group(members=[words], lr=rate, weight_decay=decay)])
    curve = warmup_milestones(60, 10, 0.01, (30,), unit="step")
    sentence = template_in(file, text, words.new.shape[1])
    found, rates = [], []
    for step, (pids, image) in enumerate(zip(file.tensor("in/labels"), file.tensor("in/image_features"))):
        read = text.joint_end(text(*sentence(identity=words()[pids])))
        pairs = ((image, read), (read, image))
        loss = sum(losses.supervised_contrastive(a, b, pids, pids, cosine=False) for a, b in pairs)
        adam.param_groups[0]["lr"] = rate * curve.factor(step)
        adam.zero_grad()
        loss.backward()
        adam.step()
        found.append(loss.item())
        rates.append(adam.param_groups[0]["lr"])
    agree(file, "out/lr_per_iteration", rates, RATE)
    agree(file, "out/loss_per_iteration", found, SAME)
    agree(file, "out/cls_ctx_after", words.new, SAME)


# Stage 2


@golden("vladr__stage2_step")
def test_one_step_of_vladr_has_the_published_terms(file):
    """The optimiser's move is left out: its rates and groups have tests of their own."""
    file = file()
    network, terms, attributes = stage2(file)
    pairs = zip(attributes.split(1, 1), file.tensor("in/text_features").split(1, 1))
    parts = [losses.attribute_alignment(*pair) for pair in pairs]
    agree(file, "out/malign_per_part", torch.stack(parts), TOWER)
    for name, term in terms.items():
        agree(file, f"out/{name}", term, RELATION if name == "dalign" else TOWER)
    agree(file, "out/total", sum(terms.values()), TOWER)
    agree(file, "out/bn_running_mean_after", network.head.neck.running_mean, TOWER)
    agree(file, "out/bn_proj_running_var_after", network.head_proj.neck.running_var, TOWER)


@golden("vladr__stage2_step")
def test_one_step_of_vladr_has_the_published_gradients(file):
    file = file()
    network, terms, _ = stage2(file)
    heads = {
        "classifier.weight": network.head.classifier.weight,
        "bottleneck.weight": network.head.neck.weight,
        "bottleneck.bias": network.head.neck.bias,
    }
    visual = {f"visual.{name}": value for name, value in network.visual.named_parameters()}
    named = stored(file, "grad/", network.decoder, **visual, **heads)
    assert len(named) == sum(key.startswith("grad/") for key in file)
    gradients_agree(file, "grad/", sum(terms.values()), named, RELATION)


def stage2(file):
    """The network after both views, the terms of its loss, and the attributes of the weak view."""
    network, old = Network(file, "w/new/"), clip_vit(file, "w/old/visual.")
    ids, weak = file.tensor("in/labels_local") + file.tensor("in/label_offset"), file.tensor("in/weak")
    terms, views = {}, {}
    for view in ("weak", "strong"):
        seen, joint, attributes = views[view] = network(file.tensor(f"in/{view}"))
        network.head_proj.neck(joint)
        terms[f"ce_{view}"] = losses.identity(network.head(seen), ids)
        terms[f"tri_{view}"] = losses.batch_hard_triplet(joint, ids, None)
    _, joint, attributes = views["weak"]
    present, place = ids.unique(return_inverse=True)
    said = identity_sentences(file, present)[place]  # of each row's identity
    terms["coarse"] = losses.batch_classification(joint, said, ids)
    terms["malign"] = losses.attribute_alignment(attributes, file.tensor("in/text_features"))
    before = Decoder(file, "w/old/", file.settings["region_heads"])(old.joint_tokens(old(weak))[:, 1:])
    terms["dalign"] = losses.relation_divergence(attributes, before, file.settings["tau_relation"])
    return network, terms, attributes


# Between domains


@golden("vladr__head_growth")
def test_heads_and_words_grow_as_published(file):
    file = file()
    old = file.tensor("w/old_head")
    labels = file.tensor("in/labels") - file.tensor("in/labels").min()
    features = file.tensor("in/features")[:, : old.shape[1]]  # the mean is cut, here what it is taken of
    centres = vladr.class_centres(features, labels, int(labels.max()) + 1)
    agree(file, "out/class_centres", centres, SAME)
    head = Head(old.shape[1], len(old), bias=True)
    head.resize(old)
    head.grow(len(centres))
    head.classifier.weight.data[len(old) :] = centres
    agree(file, "out/new_head", head.classifier.weight, SAME)
    words = GrowingTable(file["w/old_ctx"].shape[1:])
    words.new = nn.Parameter(file.tensor("w/old_ctx"))
    words.grow(len(file["w/stage1_ctx"]), old="frozen")
    words.new.data = file.tensor("w/stage1_ctx")  # what stage 1 has learned
    agree(file, "out/new_ctx", words(), SAME)


@golden("vladr__model_fusion")
def test_models_are_averaged_as_published(file):
    """But for the counter, which the published code averages and cuts to a whole number (D6)."""
    file = file()
    old, fused = file.tensors("w/old/"), file.tensors("w/new/")
    counter = fused["bottleneck.num_batches_tracked"].clone()
    vladr.fuse_(fused, old, file.settings["alpha_new"])
    assert torch.equal(fused["bottleneck.num_batches_tracked"], counter)
    checked = [key for key in file if key.startswith("out/") and "num_batches" not in key]
    for key in checked:
        agree(file, key, fused[key.removeprefix("out/")], SAME)
    assert len(checked) == len(fused) - 1


def identity_sentences(file, ids):
    """The learned words of identities between the stored fixed ones, read by the text tower."""
    text = text_tower(file, file.settings["text_heads"], "w/new/")
    around = (file.tensor(f"w/new/prompt_learner.token_{name}") for name in ("prefix", "suffix"))
    first, last = (words.expand(len(ids), -1, -1) for words in around)
    words = torch.cat([first, file.tensor("w/new/prompt_learner.cls_ctx")[ids], last], 1)
    end = file.tensor("in/template_token_ids").argmax().expand(len(ids))
    return text.joint_end(text(words, end)).detach()

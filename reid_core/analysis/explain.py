"""Explanations: relevance through self- and cross-attention, Grad-CAM, and scores of both against the world's
masks.

    B images, M spectra, T image tokens (class tokens, then h x w patches line by line), Q queries of a
    cross-attention, H x W pixels, D width of a feature

What is explained is a score, a function of features (B, D) -> (B,); a map says how much each patch
contributes.
"""

import dataclasses
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from data_prep.world.truth import REGIONS, Masks, attributes
from reid_core.data import Batch, Columns, still

GROUPS = {  # group -> regions of a mask: whom the query shows, other people, things that stand around
    "person": ("head", "upper", "lower", "foot", "backpack", "carried", "vehicle"),
    "passer-by": ("passer-by",),
    "clutter": ("clutter", "hiding"),
    "background": ("background",),
}
SCORES = ("pointing", "overlap", *GROUPS)
TOGETHER = 32  # images explained in one pass
PLACES = 8  # of a ranked list that is shown
BRIGHT = 0.5  # `overlap` counts the pixels that reach this part of the peak


@contextmanager
def watched(**modules):
    """{name: attention maps (B, heads, Q, T)} of all attention that runs inside each module, in order.

    Fused kernels do not return their maps. Inside this context they are replaced by softmax(q k^T / sqrt d)
    v: the same output up to rounding, and a map that has a gradient. The modules themselves are not changed.
    """
    maps = {name: [] for name in modules}
    inside = []  # names of the modules that run now, the innermost last
    kernel = F.scaled_dot_product_attention
    hooks = []
    for name, module in modules.items():
        hooks += marks(module, name, inside)

    def attend(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
        weights = attention_weights(q, k, attn_mask, is_causal, scale)  # (B, heads, Q, T)
        if inside:
            maps[inside[-1]].append(weights)
        return F.dropout(weights, dropout_p) @ v

    F.scaled_dot_product_attention = attend  # for the whole process: not to be used beside other threads
    try:
        yield maps
    finally:
        F.scaled_dot_product_attention = kernel
        for hook in hooks:
            hook.remove()


def marks(module, name, inside):
    """Hooks that keep `name` on the stack `inside` while the module runs."""

    def enter(*_):
        inside.append(name)

    def leave(*_):
        inside.pop()

    return module.register_forward_pre_hook(enter), module.register_forward_hook(leave)


def attention_weights(q, k, mask=None, causal=False, scale=None):
    """(..., Q, d), (..., T, d) -> (..., Q, T): softmax over the T keys."""
    logits = q @ k.mT * (scale or q.shape[-1] ** -0.5)
    if causal:
        mask = torch.full(logits.shape[-2:], -torch.inf, device=q.device).triu(1)  # (Q, T)
    if mask is not None:
        logits = logits + mask
    return logits.softmax(-1)


def relevance(method, batch, score, name=None):
    """Relevance of each patch for the score of the feature `name` of each image: (B, h, w), not negative; (B,
    M, h, w) for M > 1 spectra. `name` is the method's first test feature unless told.

    The rule is that of Chefer et al. (ICCV 2021). PromptSG and CLIP-ReID cite an earlier method of these
    authors (CVPR 2021). Both add up A-bar, the mean over heads of (gradient x map)+; the earlier one
    propagates layer-wise relevance in the place of the map and is defined for self-attention only, not for a
    cross-attention such as PromptSG's.
    """
    name = name or query_of(method)
    (tower, token), *others = readers_of(method, name)
    behind = [module for module, _ in others if getattr(module, "goes_on", False)]
    others = [(module, place) for module, place in others if module not in behind]
    modules = {"tower": tower}
    for k, module in enumerate([*behind, *(module for module, _ in others)]):
        modules[f"reader {k}"] = module
    with torch.enable_grad(), watched(**modules) as maps:
        # no image depends on another, so the gradient of the sum is that of each score by its own image
        total = score(method.embed(with_gradient(batch), name)).sum()
    read = own_maps(others)
    blocks = list(maps["tower"])
    for k in range(len(behind)):
        blocks += maps[f"reader {k}"]
    for k in range(len(behind), len(behind) + len(others)):
        read += maps[f"reader {k}"]
    weighed = weigh_all([*blocks, *read], total)
    depth = len(blocks)
    first = class_tokens(tower)
    count = first + tower.grid[0] * tower.grid[1]  # prompts stand behind the patches, and are cut off
    found = through_blocks([a[:, :count, :count] for a in weighed[:depth]])  # (B, T, T)
    if read:
        answer = others[-1][1]
        row = read_by(weighed[depth:], found, answer)  # (B, T)
    else:
        row = found[:, token]  # (B, T, T) -> (B, T)
    patches = row[:, first:].unflatten(1, tower.grid)  # (B * M, T) -> (B * M, h, w)
    return spectra_kept(patches, batch)


def readers_of(method, name):
    """[(module, token)] of what reads the image for a feature (`Method.readers`); modules that compute
    attention themselves are set to keep their maps. ValueError for a tower without attention blocks."""
    (tower, token), *others = method.readers(name)
    if not hasattr(tower, "blocks"):
        raise ValueError(
            f"expected a tower made of attention blocks, found {type(tower).__name__}; look at it with "
            "Grad-CAM."
        )
    for module, _ in others:
        module.remember = True
        module.maps = None  # no map of an earlier pass may be taken for one of this
    return [(tower, token), *others]


def own_maps(readers):
    """The maps that readers computed and kept themselves; those of readers that use the kernel come from
    `watched`."""
    found = []
    for module, _ in readers:
        if module.maps is not None and module.maps.requires_grad:
            found.append(module.maps)
        module.remember = False
        module.maps = None  # a kept map would hold the whole graph in memory
    return found


def spectra_kept(maps, batch):
    """(B * M, h, w) of M spectra -> (B, M, h, w); (B, h, w) where there is one."""
    if len(maps) <= len(batch.index):
        return maps
    return maps.unflatten(0, (len(batch.index), -1))  # (B * M, h, w) -> (B, M, h, w)


def weigh_all(maps, total):
    """A-bar (`weigh`) of each map, by the gradient of the summed score."""
    gradients = torch.autograd.grad(total, maps, allow_unused=True)  # None where the score ignores a map
    return [weigh(a.detach(), g) for a, g in zip(maps, gradients)]


def weigh(attention, gradient):
    """A-bar, the mean over heads of (gradient x attention)+: (B, heads, Q, T) twice -> (B, Q, T). Zero for a
    map that the score does not depend on (gradient None)."""
    if gradient is None:
        return torch.zeros_like(attention[:, 0])
    return (gradient * attention).clamp(min=0).mean(1)  # (B, heads, Q, T) -> (B, Q, T)


def through_blocks(weighed):
    """R <- R + A-bar R from the first block to the last, R = I at the start: (B, T, T); R[:, i] is the
    relevance of all tokens for token i.

    Prompts are left out, which is exact for deep prompts: the next block replaces them.
    """
    itself = torch.eye(weighed[0].shape[-1], device=weighed[0].device)  # (T, T)
    found = itself.expand_as(weighed[0])  # (B, T, T)
    for a in weighed:
        # not +=: the first one is a view of a single matrix; the last block may have asked for few tokens
        found = found[:, : a.shape[1]] + a @ found
    return found


def read_by(weighed, tokens, answer):
    """Relevance (B, T) of the image tokens for a module that reads them by cross-attention. `weighed` is
    A-bar of the cross-attention (B, Q, T), then of the self-attention blocks after it, which see the Q
    queries or the T re-weighted tokens; `tokens` is R of the tower. `answer` is the place of the query, or
    token, that becomes the feature. The queries count as given: what they hold of the image is not
    followed."""
    query, *blocks = weighed
    tokens = normalised(tokens)[:, -query.shape[2] :]  # a reader may leave the class token out
    passed = not blocks or blocks[0].shape[-1] == query.shape[1]
    if passed:  # the blocks see the queries
        found = query @ tokens  # (B, Q, T) of the reader, (B, T, T) -> (B, Q, T)
    else:  # the blocks see the tokens, each multiplied by its mean weight over the queries
        found = query.mean(1)[..., None] * tokens  # (B, T, T)
    for a in blocks:
        found = found + a @ found
    return found[:, answer]  # (B, T)


def normalised(relevances):
    """I + (R - I) / sum_j (R - I)_ij: what each token gathered from others sums to one (Chefer et al., ICCV
    2021, before a cross-attention)."""
    itself = torch.eye(relevances.shape[-1], device=relevances.device)  # (T, T)
    gathered = (
        relevances - itself
    )  # (B, T, T); a row of zeros where a token gathered nothing: hence the clamp
    return gathered / gathered.sum(-1, keepdim=True).clamp(min=1e-12) + itself


def query_of(method):
    """The name of the query feature in a method's first test with image queries."""
    return next(task.query for task in method.retrieval_tasks().values() if task.query_type == "image")


def class_tokens(tower):
    """The number of class tokens, which stand before the patches."""
    return 1 + len(getattr(tower, "extra_embedding", ()))


def with_gradient(batch, images=None):
    """The batch with images that gradients reach, even through a frozen tower; `images` (B * M, 3, H, W)
    instead of its own."""
    if images is None:
        images = batch.images
    else:
        images = images.unflatten(0, batch.images.shape[:2])  # (B * M, 3, H, W) -> (B, M, 3, H, W)
    return dataclasses.replace(batch, views=[images.detach().clone().requires_grad_()])


def nearness(targets):
    """Score: cosine to one target per image (B, D), such as the mean feature of its true matches or its
    sentence."""
    return lambda features: F.cosine_similarity(features, targets)


def logit(classify, pids):
    """Score: the logit of one identity per image."""
    return lambda features: classify(features).gather(1, pids[:, None])[:, 0]


class Encoder(nn.Module):
    """images (B * M, 3, H, W) -> features (B, D): the signature that the package expects of a model."""

    def __init__(self, method, batch, name):
        super().__init__()
        self.method = method
        self.batch = batch
        self.name = name

    def forward(self, images):
        return self.method.embed(with_gradient(self.batch, images), self.name)


def grad_cam(method, batch, score, name=None):
    """Grad-CAM (Selvaraju et al., ICCV 2017) of the score of each image, on the last layer whose patches the
    score depends on, without class and prompt tokens: (B, h, w) from 0 to 1; (B, M, h, w) for M > 1 spectra.
    """
    # here, since the import takes more than a second: of scikit-learn, too
    from reid_core.analysis.patch_cam import PatchCAM

    name = name or query_of(method)
    model = Encoder(method, batch, name)
    targets = [AllAtOnce(score, len(batch.images)).part] * len(batch.images)  # one object: it gathers
    with torch.enable_grad(), PatchCAM(model, [layer_of(method, name)], patches_of(method.image)) as cam:
        found = cam(batch.images.flatten(0, 1), targets)  # (B, M, 3, H, W) -> (B * M, h, w)
    method.zero_grad(set_to_none=True)  # the package calls backward: gradients of the weights remain
    return spectra_kept(torch.from_numpy(found), batch)


class AllAtOnce:
    """Adapter to the package, which scores one feature at a time, while a score here takes the batch:
    features are gathered until all are there. The sum over the batch, and its gradients, are the same."""

    def __init__(self, score, number):
        self.score = score
        self.number = number
        self.waiting = []

    def part(self, feature):
        self.waiting.append(feature)
        if len(self.waiting) < self.number:
            return feature.sum() * 0  # adds nothing to the loss, and belongs to its graph
        return self.score(torch.stack(self.waiting)).sum()  # features (D,) -> (B, D)


def layer_of(method, name):
    """The norm before the last block, which the class token reads; the final norm where another module reads
    the patches; a ResNet's last stage."""
    tower = method.image
    if not hasattr(tower, "blocks"):
        return tower.layer4
    if len(method.readers(name)) > 1:
        return tower.final_norm
    last = tower.blocks[-1]
    return last.ln_1 if hasattr(last, "ln_1") else last.norm1  # as open_clip calls it, or timm


def patches_of(tower):
    """The function that turns the layer's tokens into (B, D, h, w); None for a ResNet."""
    if not hasattr(tower, "blocks"):
        return None
    first = class_tokens(tower)
    rows, columns = tower.grid

    def patches(tokens):
        image = tokens[:, first : first + rows * columns]  # prompts stand behind
        return image.mT.unflatten(2, (rows, columns))  # (B, h * w, D) -> (B, D, h, w)

    return patches


HOW = {"relevance": relevance, "grad_cam": grad_cam}


def all_of(how, method, data, split, rows, targets, name):
    """Maps (Q, h, w), or (Q, M, h, w) of M > 1 spectra, for the nearness of a feature of the images `rows` of
    a split to targets (Q, D); none for the relevance of a tower without attention."""
    if how is relevance and not hasattr(method.image, "blocks"):
        return np.zeros((0, *method.image.grid), np.float32)
    found = []
    for part in torch.arange(len(rows)).split(TOGETHER):
        batch = batch_of(method, data, torch.from_numpy(rows[part]), split)
        found.append(how(method, batch, nearness(targets[part]), name))
    return torch.cat(found).float().cpu().numpy()


def as_bytes(maps):
    """Maps (Q, ...) as uint8, each from 0 to 255."""
    return (255 * stretched(torch.from_numpy(maps))).round().byte().numpy()


def batch_of(method, data, rows, split="query"):
    """A Batch of some images of a split, unaugmented as in testing; `rows` is a tensor of positions."""
    view = method.test_view()
    device = next(method.parameters()).device
    told = Columns(data, split, device).at(rows.to(device))
    store = data.store(split, method.size, view.filter)
    return Batch(**told, views=[still(view, store, rows.numpy(), told["present"])])


def masks_of(data, paths):
    """Masks of some images of a world, ray-traced again; none for real data."""
    if data.origin != "world":
        return []
    trace = Masks(data.manifest.root)
    return [trace(path) for path in paths]


def hours_of(data, paths):
    """When some images of a world were taken: "day", "dusk" or "night"; "" for real data."""
    if data.origin != "world":
        return [""] * len(paths)
    told = attributes(data.manifest.root)
    return [told[path]["when"] for path in paths]


def stretched(maps):
    """Each map (B, h, w) from its lowest value at 0 to its highest at 1, as it is drawn; a flat map is 0. The
    maps of a shot's spectra (B, M, h, w) share one scale."""
    over = tuple(range(1, maps.dim()))
    low, high = maps.amin(over, keepdim=True), maps.amax(over, keepdim=True)  # (B, 1, ...) each
    return (maps - low) / (high - low).clamp(min=1e-12)


def spread(found, size):
    """A map (h, w) over the pixels (H, W) of the image, as the overlay shows it."""
    patches = torch.as_tensor(np.asarray(found, np.float32))[None, None]  # (1, 1, h, w): a batch, for torch
    pixels = F.interpolate(patches, tuple(size), mode="bilinear", align_corners=False)
    return pixels[0, 0].numpy()  # (1, 1, H, W) -> (H, W)


def pointing(found, region):
    """Pointing game (Zhang et al. 2018): is the peak of the map (H, W) inside the region? With ties, the
    share of peaks that are."""
    return float(region[found == found.max()].mean())


def energy(found, region):
    """Share of the map that lies inside the region. A map that is nowhere above zero counts as a uniform
    one."""
    whole = found.sum()
    if whole > 0:
        return float((found * region).sum() / whole)
    return float(region.mean())


def overlap(found, region, bright=BRIGHT):
    """Intersection over union of the region with the pixels that reach `bright` of the peak."""
    marked = found >= bright * found.max()
    shared = (marked & region).sum()
    either = (marked | region).sum()
    return float(shared / max(either, 1))


def group(mask, name):
    """Where a mask (H, W) of numbers into REGIONS shows a group: (H, W) of truth."""
    return np.isin(mask, list(map(REGIONS.index, GROUPS[name])))


def judge(found, mask):
    """{score: value} of a map (h, w) against the mask (H, W) of its image: all of SCORES."""
    wide = spread(found, mask.shape)  # (h, w) -> (H, W): small regions are smaller than a patch
    person = group(mask, "person")
    inside = {name: energy(wide, group(mask, name)) for name in GROUPS}
    return {"pointing": pointing(wide, person), "overlap": overlap(wide, person), **inside}


def chance(mask):
    """Scores of a uniform map: the region's share of the pixels, for every score."""
    return judge(np.ones((1, 1)), mask)


class Chosen(NamedTuple):
    """Positions of images, and why they are shown: the group that fills most of each, and its share of the
    pixels."""

    rows: np.ndarray
    why: list
    share: np.ndarray


def fullest(masks, name, number, pids):
    """The images (positions in `masks`) that a group fills most, at most one per person: figures are chosen
    by this rule, not by eye."""
    share = np.array([group(mask, name).mean() for mask in masks])
    order = np.argsort(-share, kind="stable")  # (N,) positions, the fullest first
    _, first = np.unique(np.asarray(pids)[order], return_index=True)  # the fullest of each person
    rows = order[np.sort(first)][:number]
    return Chosen(rows, [name] * len(rows), share[rows])

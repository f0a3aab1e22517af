"""Tiny towers made of open_clip's and timm's classes and a golden file's weights, which go in by name; every
size is an array's. Around them: CLIP-ReID and PAD's prompt pool as the library has them."""

import re
from types import SimpleNamespace

import torch
from golden import matching
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from timm.models import vision_transformer as timm_vit
from torch import nn

from reid_core.data import Batch
from reid_core.layers import Head
from reid_core.loading import tokenizer_of
from reid_core.methods.base import Method
from reid_core.methods.clip_reid import RECIPE, ClipReID
from reid_core.prompts import GrowingTable, PromptPool, PromptTemplate
from reid_core.towers import CameraEmbedding, ClipResNet, ClipViT, TextEncoder, TimmViT, among, grid_of

TOKENIZER = tokenizer_of(RECIPE.backbone)
VOCABULARY = 49408  # of CLIP; files that store some rows of its table give their numbers
ADDED = r"va_prompt\.|VPT|_i2i"  # in names of what a published tower has more than CLIP's
IMAGES = ("in/image", "in/images", "in/weak")


def weights(file, prefix):
    """{name: tensor} under `prefix`, without prompts and second class tokens."""
    return {name: value for name, value in file.tensors(prefix).items() if not re.search(ADDED, name)}


def shape_of(state, mlp="mlp.c_fc"):
    """(layers, mlp_ratio) of a transformer."""
    layers = {match[1] for name in state for match in [re.search(r"blocks\.(\d+)\.", name)] if match}
    hidden, width = next(value.shape for name, value in state.items() if name.endswith(f"{mlp}.weight"))
    return len(layers), hidden / width


def fill(module, state):
    """Load the parameters of `module` by name; `state` may hold more."""
    module.load_state_dict({name: state[name] for name in module.state_dict()})
    return module


def stored(file, prefix, module, **more):
    """{name: tensor} of the parameters of `module`, and of `more`, whose gradients lie under `prefix`."""
    named = {**dict(module.named_parameters()), **more}
    return {name: tensor for name, tensor in named.items() if prefix + name in file}


# Image towers


def image_tower(state, size, heads, stride=None, native=None, **options):
    """A ClipViT. `native` is the grid that its position table was made for, that of the image unless told;
    `options` are ClipViT's."""
    width, _, patch, _ = state["conv1.weight"].shape
    layers, ratio = shape_of(state)
    rows, columns = native or grid_of(size, patch, stride or patch)
    visual = VisionTransformer(
        (rows * patch, columns * patch),
        patch,
        width,
        layers,
        int(heads),
        ratio,
        output_dim=state["proj"].shape[1],
        act_layer=QuickGELU,
    )
    visual.load_state_dict(state)
    return ClipViT(visual, tuple(size), stride, **options)


def clip_vit(file, prefix="w/visual.", heads="heads", **options):
    """The ClipViT under `prefix`, at the size of the stored images; `heads` is the name of a setting."""
    images = next(value for key, value in file.items() if key in IMAGES)
    return image_tower(weights(file, prefix), images.shape[-2:], file.settings[heads], **options)


def timm_tower(file):
    """A TimmViT with the stored weights, at the size of the stored images."""
    state, size = file.tensors("w/"), file["in/image"].shape[-2:]
    width, patch = state["cls_token"].shape[-1], state["patch_embed.proj.weight"].shape[-1]
    layers, ratio = shape_of(state, "mlp.fc1")
    visual = timm_vit.VisionTransformer(
        size,
        patch,
        num_classes=0,
        embed_dim=width,
        depth=layers,
        num_heads=file.settings["heads"],
        mlp_ratio=ratio,
        global_pool="token",
    )
    return TimmViT(fill(visual, state), size)


def camera_embedding(table, coefficient, tokens=1):
    """A CameraEmbedding with the rows of `table`: (cameras, D) or (cameras, 1, D)."""
    table = table.flatten(1)
    camera = CameraEmbedding(*table.shape, coefficient, tokens)
    camera.table = nn.Parameter(table.clone())
    return camera


def position_table(file):
    """The stored table of positions and its grid: (1 + rows x columns, D), (rows, columns)."""
    ((key, match),) = matching(file, r"in/positional_embedding_(\d+)x(\d+)")
    return file.tensor(key), (int(match[1]), int(match[2]))


def residual_tower(file):
    """A ClipResNet, entered with the position table of a square image."""
    state = file.tensors("w/visual.")
    state["attnpool.positional_embedding"], (side, _) = position_table(file)
    visual = ModifiedResNet(
        file["in/layers"].tolist(),
        len(state["attnpool.c_proj.bias"]),
        int(file["in/heads"]),
        side * 32,
        int(file["in/width"]),
    )
    visual.load_state_dict(state, strict=False)  # the files leave the batch counters out
    return ClipResNet(visual, file["in/pixels"].shape[2:])


# The text tower and its sentences


def text_tower(file, heads, prefix="w/"):
    """A TextEncoder; of the token embeddings a file may store those rows that it uses, or none."""
    names = r"(token_embedding|positional_embedding|text_projection|transformer\.|ln_final)"
    state = {name: value for name, value in file.tensors(prefix).items() if re.match(names, name)}
    context, width = state["positional_embedding"].shape
    if "token_embedding.weight" not in state:
        table = state["token_embedding.weight"] = torch.zeros(VOCABULARY, width)
        if "token_embedding.rows" in state:
            known = ("in/token_embedding.row_ids", "in/used_token_ids")
            table[file.tensor(next(key for key in known if key in file))] = state.pop("token_embedding.rows")
    layers, ratio = shape_of(state)
    text = TextTransformer(
        context,
        len(state["token_embedding.weight"]),
        width,
        int(heads),
        layers,
        ratio,
        output_dim=state["text_projection"].shape[1],
        act_layer=QuickGELU,
    )
    text.load_state_dict(state)
    return TextEncoder(text)


def template_of(text, sentence, words):
    """The published template, whose x's stand for the `words` that are learned."""
    gap, sentence = " ".join("x" * words), sentence.lower()
    assert gap in sentence
    return PromptTemplate(sentence.replace(gap, "{identity}"), text, TOKENIZER)


def template_in(file, text, words):
    """The template that a file stores as token ids."""
    ids = file["in/template_token_ids"]
    return template_of(text, TOKENIZER.decode(ids[1 : ids.argmax()].tolist()), words)


# Methods


PUBLISHED = {  # CLIP-ReID's and PAD's names -> ours
    "cv_embed": "image.camera.table",
    "classifier.": "heads.0.classifier.",
    "classifier_proj.": "heads.1.classifier.",
    "bottleneck.": "heads.0.neck.",
    "bottleneck_proj.": "heads.1.neck.",
    "visual.": "image.",
    "image_encoder.": "image.",
    "prompt_learner.cls_ctx": "words.new",
    "text_encoder.": "text.",
}


def our_name(name):
    """Ours for a published parameter or buffer."""
    start = next(start for start in PUBLISHED if name.startswith(start))
    return PUBLISHED[start] + name.removeprefix(start)


class GivenTowers(ClipReID):
    """CLIP-ReID as the library has it, around towers and a data set's numbers that a golden file gives."""

    neck_bias = False

    def __init__(self, recipe, labels, classes, image=None, text=None, words=None):
        Method.__init__(self, recipe)
        self.data = SimpleNamespace(labels=labels, classes=classes, train=labels)
        if image is not None:
            self.image, (_, *widths) = image, image.widths
            self.heads = nn.ModuleList(Head(width, classes, bias=self.neck_bias) for width in widths)
        if text is not None:
            self.text = text
        words = torch.empty(classes, 0, 0) if words is None else words
        self.words = GrowingTable(words.shape[1:])
        self.words.new = nn.Parameter(words.clone())
        self.register_buffer("bank", None, persistent=False)

    def load(self, state):
        """Take tensors under their published names; every one must have a place."""
        missing = self.load_state_dict({our_name(name): value for name, value in state.items()}, strict=False)
        assert not missing.unexpected_keys

    def batch(self, pixels, pids, cameras=None):
        return Batch(index=torch.arange(len(pids)), labels=pids, cameras=cameras, views=[pixels[:, None]])


class WatchedPool(PromptPool):
    """The library's pool, writing down what it picks: `chosen`, (B, k) per call."""

    def __init__(self, *args, **how):
        super().__init__(*args, **how)
        self.chosen = []

    def nearest(self, index, x, count):
        self.chosen.append(super().nearest(index, x, count))
        return self.chosen[-1]


class AccumulatingPool(WatchedPool):
    """Prompts stay, their successors join them, and the query is the mean of all."""

    through = staticmethod(among)

    def forward(self, index, x, prompts):
        return torch.cat([super().forward(index, torch.cat([x, prompts], 1), prompts), prompts], 1)


def pool_of(state, k, kind=WatchedPool):
    """The library's pool with the parts that a golden file gives by their published names."""
    parts = {}
    for name in ("g_prompt", "e_prompt", "e_key"):
        count = sum(key.startswith(f"{name}.") for key in state)
        parts[name] = torch.stack([state[f"{name}.{i}"] for i in range(count)])
    blocks, slots, each, width = parts["e_prompt"].shape
    pool = kind(
        blocks,
        width,
        general=parts["g_prompt"].shape[1],
        each=each,
        slots=slots,
        picked=k,
        spread=0.0,
    )
    pool.general.data, pool.keys, pool.waiting = parts["g_prompt"], parts["e_key"], parts["e_prompt"]
    frozen = int(state["frozen_masks"][0].sum()) if "frozen_masks" in state else 0
    opened = int(state["active_sizes"][0, 0]) if "active_sizes" in state else 0
    if opened:
        pool.open(frozen)
        pool.open(opened - frozen)
    return pool


def published_pool(pool, value=lambda tensor: tensor):
    """A pool's parts under their published names; with `value`, something of each, such as its gradient."""
    frozen, trained, waiting = pool.frozen, value(pool.trained), pool.waiting
    if value(pool.general) is not pool.general:  # gradients: those of what is not trained are zero
        frozen, waiting = torch.zeros_like(frozen), torch.zeros_like(waiting)
    slots = torch.cat([frozen, trained, waiting], 1)
    found = {}
    for i in range(len(slots)):
        found |= {f"g_prompt.{i}": value(pool.general)[i], f"e_prompt.{i}": slots[i]}
        found[f"e_key.{i}"] = pool.keys[i]
    return found


def published_masks(pool):
    """The bookkeeping of the published pool: how many slots are open, which are frozen, which are trained."""
    blocks, slots = pool.keys.shape[:2]
    frozen, trained = pool.frozen.shape[1], pool.trained.shape[1]
    place = torch.arange(slots).expand(blocks, -1)
    return {
        "active_sizes": torch.full((blocks, 1), frozen + trained),
        "frozen_masks": place < frozen,
        "trainable_masks": (place >= frozen) & (place < frozen + trained),
    }

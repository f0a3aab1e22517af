"""Pretraining of the project's own models: tiny CLIP, on images of the synthetic world and sentences about
them, and a tower of the same shape trained on attribute labels, which stands for ImageNet.

    python -m reid_core pretrain clip | attributes

Both are Methods, trained by the same loop as the papers.

    B images, S shots of a split, D width of a tower
"""

import datetime
import json
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from data_prep.catalogue import build_folder
from data_prep.world import people, truth
from data_prep.world.build import VERSION
from reid_core import loading, train
from reid_core.augment import HALF, Augmentation
from reid_core.data import CaptionTable, load_data, still_batches
from reid_core.loading import load_clip, load_timm
from reid_core.losses import pair_contrast
from reid_core.methods.base import Losses, Method, Stage
from reid_core.optim import Group
from reid_core.recipe import Recipe, assumed
from reid_core.report import tables
from reid_core.runs import measure, provenance
from reid_core.runs.run import known
from reid_core.samplers import CaptionShuffle, Shuffle
from reid_core.schedules import warmup_cosine

TOLD = (*people.TOLD, "colour", "roof", "stripe", "wheels", "spoiler")
HALVES = Augmentation("bilinear", HALF, HALF)


@dataclass(frozen=True)
class PretrainRecipe(Recipe):
    image_height: int = assumed(128, "8 x 4 patches of 16 pixels: a fourth of the cost of 16 x 8")
    image_width: int = assumed(64, "as the height")
    epochs: int = assumed(8, "under an hour on two cores")
    batch: int = assumed(256, "with 64, steps of this size stay in their own noise")
    lr: float = assumed(1e-3, "usual for Adam at this size")
    matrix_lr: float = assumed(
        0.02, "usual for Muon, which moves the matrices of the blocks and learns more in a minute than Adam"
    )
    position_scale: float = assumed(
        0.3, "sinusoids as large as a patch: with small random positions the first minutes teach little"
    )
    attribute_weight: float = assumed(
        1.0, "label loss beside the contrast, which alone starts very slowly with small batches"
    )
    word_weight: float = assumed(1.0, "the end token has to tell its words, as the class token its labels")
    beta2: float = assumed(0.98, "as OpenAI's for CLIP")
    warmup_epochs: float = assumed(0.5, "usual")
    flip_p: float = assumed(0.5, "no sentence says left or right")
    pad: int = assumed(6, "people are not centred in every box")


class Pretraining(Method):
    """What both models share: one stage over all pairs, and linear heads that name attributes."""

    def __init__(self, recipe, data, image):
        super().__init__(recipe)
        self.size, self.data, self.image = (recipe.image_height, recipe.image_width), data, image
        names, labels = attribute_labels(data)
        self.register_buffer("labels", labels, persistent=False)
        self.heads = nn.ModuleList(nn.Linear(image.width, len(words)) for words in names)

    def stage(self, sampler, weights, captions=None):
        r = self.recipe
        view = Augmentation("bicubic", HALF, HALF, r.flip_p, r.pad)
        curve = warmup_cosine(r.epochs, r.lr, 0.0, r.warmup_epochs, 0.0)
        pretraining = Stage(
            name="pretrain",
            epochs=r.epochs,
            sampler=sampler,
            views=[view],
            losses=self.losses,
            weights=weights,
            groups=self.groups(),
            schedule=curve,
            captions=captions,
        )
        return [pretraining]

    def groups(self):
        """The matrices of the blocks, for Muon, and all other parameters, for Adam."""
        r, named = self.recipe, dict(self.named_parameters())
        matrices = [p for name, p in named.items() if "blocks." in name and p.dim() == 2]
        inner = {id(p) for p in matrices}
        rest = [p for p in named.values() if id(p) not in inner]
        return [
            Group(members=matrices, lr=r.matrix_lr, muon=True),
            Group(members=rest, lr=r.lr, betas=(0.9, r.beta2)),
        ]

    def name_attributes(self, feature, rows):
        """Cross-entropy of the attribute heads on class tokens (B, D), averaged over the images that have the
        attribute, then over attributes; `rows` (B,) are positions of shots."""
        labels = self.labels[rows].T
        told = [
            F.cross_entropy(head(feature).float(), y, reduction="sum") / (y >= 0).sum().clamp(min=1)
            for head, y in zip(self.heads, labels)
        ]
        return sum(told) / len(labels)


class TinyClip(Pretraining):
    """CLIP's contrastive loss (Radford et al. 2021) on images of the world and sentences about them, with two
    auxiliary losses, without which so few pairs teach little: attributes from the class token, and the words
    of the sentence from the end token."""

    def __init__(self, recipe, data):
        image, text, tokenizer = load_clip("tiny", "random", (recipe.image_height, recipe.image_width))
        super().__init__(recipe, data, image)
        self.text, self.tokenizer = text, tokenizer
        image.positional_embedding.data[1:] = grid_positions(image.grid, image.width, recipe.position_scale)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))
        self.captions = CaptionTable(data.train.captions, self.tokenizer)
        self.seen = torch.unique(torch.from_numpy(self.captions.ids.astype("int64")))
        self.words = nn.Linear(text.width, len(self.seen))
        place = torch.full((text.token_embedding.num_embeddings,), len(self.seen))
        self.register_buffer("place", place.index_copy(0, self.seen, torch.arange(len(self.seen))), False)

    def stages(self):
        pairs = CaptionShuffle(range(len(self.data.train)), self.captions.counts, self.recipe.batch)
        weights = {
            "image to text": 0.5,
            "text to image": 0.5,
            "attributes": self.recipe.attribute_weight,
            "words": self.recipe.word_weight,
        }
        return self.stage(pairs, weights, self.captions)

    def losses(self, batch):
        looked = self.image(batch.images[:, 0])
        read = self.text(self.text.embed(batch.text), batch.text.argmax(1))
        image, text = self.image.joint_cls(looked), self.text.joint_end(read)
        scale = self.logit_scale.clamp(max=4.6).exp()
        return Losses(
            {
                "image to text": pair_contrast(image, text, scale),
                "text to image": pair_contrast(text, image, scale),
                "attributes": self.name_attributes(looked.tokens[:, 0], batch.index),
                "words": self.name_words(read, batch.text),
            }
        )

    def name_words(self, read, ids):
        """Binary cross-entropy of the end token on every word of the training sentences, summed over batch
        and words and divided by the number of words that are there."""
        end = read.tokens[torch.arange(len(ids), device=ids.device), read.end]
        there = torch.zeros(len(ids), len(self.seen) + 1, device=ids.device)
        there = there.scatter_(1, self.place[ids], 1.0)[:, :-1]  # the last column is padding
        return (
            F.binary_cross_entropy_with_logits(self.words(end).float(), there, reduction="sum") / there.sum()
        )


class AttributeTower(Pretraining):
    """An image tower trained by cross-entropy on the attributes that sentences tell; it reads no sentence."""

    def __init__(self, recipe, data):
        super().__init__(recipe, data, load_timm("tiny_vit", None, (recipe.image_height, recipe.image_width)))
        places = grid_positions(self.image.grid, self.image.width, recipe.position_scale)
        self.image.pos_embed.data[:, 1:] = places

    def stages(self):
        images = Shuffle(range(len(self.data.train)), self.recipe.batch, drop_last=True)
        return self.stage(images, {"attributes": 1.0})

    def losses(self, batch):
        feature = self.image(batch.images[:, 0]).tokens[:, 0]
        return Losses({"attributes": self.name_attributes(feature, batch.index)})


def grid_positions(grid, width, scale, periods=(2.0, 32.0)):
    """Sinusoidal positions (h x w, width) of the patches of a `grid` (h, w), as Vaswani et al. (2017) for
    words; `periods` in patches."""
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    lowest, highest = (math.log(2 * math.pi / period) for period in periods)
    speed = torch.linspace(lowest, highest, width // 4).exp()
    angles = torch.cat([torch.outer(rows, speed), torch.outer(columns, speed)], 1)
    return scale * torch.cat([angles.sin(), angles.cos()], 1)


def attribute_labels(data):
    """(the words of each attribute, labels (S, attributes)); -100, which cross-entropy ignores, where there
    is none."""
    table = truth.attributes(data.manifest.root)
    told = [table[path]["person"] for path in data.train.paths[:, 0]]
    names = [sorted({who[name] for who in told if name in who}) for name in TOLD]
    place = [{word: k for k, word in enumerate(words)} for words in names]
    labels = [[place[k].get(who.get(name), -100) for k, name in enumerate(TOLD)] for who in told]
    return names, torch.tensor(labels)


RECIPE = PretrainRecipe()
KINDS = {"clip": (TinyClip, "tiny", RECIPE), "attributes": (AttributeTower, "tiny_vit", RECIPE.but(epochs=5))}


def pretrain(kind, data="world_pairs", profile="laptop", epochs=None, device=None, log=print):
    """Train one of KINDS, and write its weights in half precision and its record beside the architectures."""
    known(KINDS, kind, "model")
    Kind, name, recipe = KINDS[kind]
    recipe = recipe.but(
        **({"epochs": epochs} if epochs else {}), **({"batch": 32} if profile == "smoke" else {})
    )
    pairs = load_data(data, profile)
    began = {"commit": provenance.git("rev-parse", "HEAD"), "clean": provenance.clean_tree()}
    train.seed_all(0)
    method = Kind(recipe, pairs)
    key = f"{kind}-{profile}-{provenance.digest(recipe)}-{pairs.manifest.fingerprint}"
    history = train.fit(method, pairs, build_folder() / "pretrain" / key, device=device, key=key, log=log)
    state, notes = {"clip": clip_state, "attributes": image_state}[kind](method.cpu())
    record = {
        "model": name,
        "made by": f"python -m reid_core pretrain {kind}",
        "pairs": len(pairs.train),
        "data": measure.describe(pairs),
        "renderer": VERSION,
        "recipe": provenance.plain(recipe.__dict__),
        "history": history,
        **began,
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "minutes": round(sum(h["seconds"] for h in history) / 60, 1),
    }
    folder = loading.FOLDER if profile != "smoke" else build_folder() / "pretrain"
    save_file(state, folder / f"{name}.safetensors", notes)
    (folder / f"{name}.safetensors").chmod(0o644)
    (folder / f"{name}.record.json").write_text(json.dumps(record, indent=1) + "\n")
    return folder / f"{name}.safetensors"


def clip_state(method):
    """Both towers under open_clip's names, with only the token embeddings that training saw; and the metadata
    of the file."""
    even_out(method.image, next(still_batches(method.data, "train", method.size, HALVES)).images)
    state = {f"visual.{key}": value for key, value in method.image.state_dict().items()}
    state |= {
        key: value for key, value in method.text.state_dict().items() if key != "token_embedding.weight"
    }
    state["token_embedding.rows"] = method.text.token_embedding.weight.detach()[method.seen]
    state = {key: value.half().contiguous() for key, value in state.items()}
    state |= {"token_embedding.ids": method.seen.int(), "logit_scale": method.logit_scale.detach()}
    return state, {"quick_gelu": "true", "token_seed": "0"}


@torch.no_grad()
def even_out(image, images):
    """Scale the residual stream so that the class token has the same length before the last block as after
    the final norm. Every block begins with a norm, so the tower's outputs do not change; but Muon leaves the
    raw token 25 times as long, and CLIP-ReID's triplet loss on it would dominate."""
    looked = image.eval()(images[:, 0])
    raw, normed = (tokens[:, 0].norm(dim=1).mean() for tokens in (looked.hidden[-2], looked.tokens))
    inner = [layer for block in image.blocks for layer in (block.attn.out_proj, block.mlp.c_proj)]
    for layer in (image.ln_pre, *inner):
        layer.weight.mul_(normed / raw)
        layer.bias.mul_(normed / raw)


def image_state(method):
    """The image tower in half precision, and no metadata."""
    return {key: value.half().contiguous() for key, value in method.image.state_dict().items()}, {}


def record(name):
    """The record of how the weights of one of the project's models were made, or None."""
    path = loading.FOLDER / f"{name}.record.json"
    return json.loads(path.read_text()) if path.exists() else None


def as_table(records):
    """A table of the records of several models."""
    lines = [
        [
            name,
            told["made by"],
            f"{told['pairs']:,}",
            told["recipe"]["epochs"],
            f"{told['minutes']:.0f}",
            ", ".join(f"{loss} {value:.2f}" for loss, value in told["history"][-1]["losses"].items()),
            told["commit"][:7],
            told["date"],
            "yes" if told["recipe"] == as_now(name) else "no",
        ]
        for name, told in records.items()
    ]
    headings = [
        "model",
        "command",
        "pairs",
        "epochs",
        "minutes",
        "last losses",
        "commit",
        "date",
        "recipe as it is now",
    ]
    return tables.table(headings, lines, "How the weights that come with the book were made")


def as_now(name):
    """The recipe of a model in the present code, in the form of a record."""
    return next(provenance.plain(recipe.__dict__) for _, made, recipe in KINDS.values() if made == name)


def finding(told):
    """A sentence for a caption: the losses of a record's first and last epoch."""
    first, last = told["history"][0]["losses"], told["history"][-1]["losses"]
    falls = ", ".join(f"{name} {first[name]:.2f} to {last[name]:.2f}" for name in first)
    return f"From the first epoch's mean to the last's, of {told['recipe']['epochs']}, in nats: {falls}"


@torch.inference_mode()
def likeness(clip, images, sentences):
    """Cosines (N, N) of uint8 images (N, H, W, 3) with N sentences."""
    seen = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images]) / 255
    image, text = clip.image.eval(), clip.text.eval()
    features = image.joint_cls(image((seen - 0.5) / 0.5))
    return F.normalize(features, dim=1) @ F.normalize(text.sentences(clip.tokenizer(sentences)), dim=1).T

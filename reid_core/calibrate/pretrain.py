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
from reid_core import checkpoint, loading, train
from reid_core.augment import HALF, Augmentation
from reid_core.data import CaptionTable, load_data, still_batches
from reid_core.loading import load_clip, load_timm
from reid_core.losses import pair_contrast
from reid_core.methods.base import Losses, Method, Stage
from reid_core.optim import Group
from reid_core.recipe import Recipe, assumed
from reid_core.report import tables
from reid_core.runs import measure, provenance
from reid_core.runs.records import read_object
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
        self.size = (recipe.image_height, recipe.image_width)
        self.data = data
        self.image = image
        names, labels = attribute_labels(data)
        self.register_buffer("labels", labels, persistent=False)  # (S, attributes), of the data
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
        r = self.recipe
        matrices = []
        rest = []
        for name, parameter in self.named_parameters():
            if "blocks." in name and parameter.dim() == 2:
                matrices.append(parameter)
            else:
                rest.append(parameter)
        return [
            Group(members=matrices, lr=r.matrix_lr, muon=True),
            Group(members=rest, lr=r.lr, betas=(0.9, r.beta2)),
        ]

    def name_attributes(self, feature, rows):
        """Cross-entropy of the attribute heads on class tokens (B, D), averaged over the images that have the
        attribute, then over attributes; `rows` (B,) are positions of shots."""
        labels = self.labels[rows].T  # (attributes, B)
        losses = []
        for head, label in zip(self.heads, labels):
            total = F.cross_entropy(head(feature).float(), label, reduction="sum")
            there = (label >= 0).sum().clamp(min=1)  # a batch may show none: 0 / 1 instead of 0 / 0
            losses.append(total / there)
        return sum(losses) / len(labels)


class TinyClip(Pretraining):
    """CLIP's contrastive loss (Radford et al. 2021) on images of the world and sentences about them, with two
    auxiliary losses, without which so few pairs teach little: attributes from the class token, and the words
    of the sentence from the end token."""

    def __init__(self, recipe, data):
        image, text, tokenizer = load_clip("tiny", "random", (recipe.image_height, recipe.image_width))
        super().__init__(recipe, data, image)
        self.text = text
        self.tokenizer = tokenizer
        places = grid_positions(image.grid, image.width, recipe.position_scale)
        image.positional_embedding.data[1:] = places  # the first is the class token's
        self.logit_scale = nn.Parameter(torch.tensor(2.66))  # ln(1 / 0.07), as CLIP begins
        self.captions = CaptionTable(data.train.captions, self.tokenizer)
        ids = torch.from_numpy(self.captions.ids.astype("int64"))  # of all sentences, one after the other
        self.seen = torch.unique(ids)  # the words of the training sentences, of 49,408
        self.words = nn.Linear(text.width, len(self.seen))
        place = torch.full((text.token_embedding.num_embeddings,), len(self.seen))  # word -> its column
        place = place.index_copy(0, self.seen, torch.arange(len(self.seen)))
        self.register_buffer("place", place, persistent=False)

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
        looked = self.image(batch.images[:, 0])  # one spectrum
        ends = batch.text.argmax(1)  # (B,) the end token has the highest id
        read = self.text(self.text.embed(batch.text), ends)
        image = self.image.joint_cls(looked)  # (B, E)
        text = self.text.joint_end(read)  # (B, E)
        scale = self.logit_scale.clamp(max=4.6).exp()  # at most about 100, as CLIP
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
        end = read.tokens[torch.arange(len(ids), device=ids.device), read.end]  # (B, D)
        there = torch.zeros(len(ids), len(self.seen) + 1, device=ids.device)  # (B, words + 1)
        there = there.scatter_(1, self.place[ids], 1.0)[:, :-1]  # the last column is padding
        logits = self.words(end).float()  # (B, words)
        total = F.binary_cross_entropy_with_logits(logits, there, reduction="sum")
        return total / there.sum()


class AttributeTower(Pretraining):
    """An image tower trained by cross-entropy on the attributes that sentences tell; it reads no sentence."""

    def __init__(self, recipe, data):
        super().__init__(recipe, data, load_timm("tiny_vit", None, (recipe.image_height, recipe.image_width)))
        places = grid_positions(self.image.grid, self.image.width, recipe.position_scale)
        self.image.pos_embed.data[:, 1:] = places  # timm's has a first axis of one

    def stages(self):
        images = Shuffle(range(len(self.data.train)), self.recipe.batch, drop_last=True)
        return self.stage(images, {"attributes": 1.0})

    def losses(self, batch):
        feature = self.image(batch.images[:, 0]).tokens[:, 0]  # (B, D) class tokens
        return Losses({"attributes": self.name_attributes(feature, batch.index)})


def grid_positions(grid, width, scale, periods=(2.0, 32.0)):
    """Sinusoidal positions (h x w, width) of the patches of a `grid` (h, w), as Vaswani et al. (2017) for
    words; `periods` in patches."""
    height, breadth = grid
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(breadth), indexing="ij")  # (h, w) each
    first = math.log(2 * math.pi / periods[0])
    last = math.log(2 * math.pi / periods[1])
    speed = torch.linspace(first, last, width // 4).exp()  # (width / 4,) radians a patch
    down = torch.outer(rows.flatten(), speed)  # (h x w, width / 4)
    across = torch.outer(columns.flatten(), speed)
    angles = torch.cat([down, across], 1)  # (h x w, width / 2)
    return scale * torch.cat([angles.sin(), angles.cos()], 1)


def attribute_labels(data):
    """(the words of each attribute, labels (S, attributes)); -100, which cross-entropy ignores, where there
    is none."""
    table = truth.attributes(data.manifest.root)
    told = [table[path]["person"] for path in data.train.paths[:, 0]]
    names = []
    columns = []
    for name in TOLD:
        words = sorted({who[name] for who in told if name in who})  # a car has no hair
        place = {word: k for k, word in enumerate(words)}
        names.append(words)
        columns.append([place.get(who.get(name), -100) for who in told])
    return names, torch.tensor(columns).T.contiguous()  # (attributes, S) -> (S, attributes)


RECIPE = PretrainRecipe()
KINDS = {  # name -> method, name of the weights, recipe
    "clip": (TinyClip, "tiny", RECIPE),
    "attributes": (AttributeTower, "tiny_vit", RECIPE.but(epochs=5)),
}


def pretrain(kind, data="world_pairs", profile="laptop", epochs=None, device=None, log=print):
    """Train one of KINDS, and write its weights in half precision and its record beside the architectures."""
    known(KINDS, kind, "model")
    Kind, name, recipe = KINDS[kind]
    if epochs:
        recipe = recipe.but(epochs=epochs)
    if profile == "smoke":
        recipe = recipe.but(batch=32)  # the smoke world holds fewer pairs than a batch
    pairs = load_data(data, profile)
    # the code that trains is the code at the start, whatever is committed meanwhile
    began = provenance.of_code()
    train.seed_all(0)
    method = Kind(recipe, pairs)
    marks = (provenance.digest(recipe), pairs.manifest.fingerprint, provenance.code())
    key = "-".join((kind, profile, *marks))
    place = build_folder() / "pretrain" / key
    with checkpoint.alone(place, "trains"):
        history = train.fit(method, pairs, place, device=device, key=key, log=log)
    about = {
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
    # a smoke model is never put in the place of the project's own
    folder = build_folder() / "pretrain" if profile == "smoke" else loading.FOLDER
    return save(method.cpu(), about, folder)


def save(method, about, folder):
    """Write the weights and the record `about` of a trained model; the path of the weights."""
    state, notes = clip_state(method) if isinstance(method, TinyClip) else image_state(method)
    path = folder / f"{about['model']}.safetensors"
    save_file(state, path, notes)
    path.chmod(0o644)  # for everybody to read, whatever the umask
    text = json.dumps(about, indent=1) + "\n"
    path.with_suffix(".record.json").write_text(text, encoding="utf-8")
    return path


def clip_state(method):
    """Both towers under open_clip's names, with only the token embeddings that training saw; and the metadata
    of the file."""
    batch = next(still_batches(method.data, "train", method.size, HALVES))
    even_out(method.image, batch.images)
    state = {f"visual.{key}": value for key, value in method.image.state_dict().items()}
    state |= method.text.state_dict()
    table = state.pop("token_embedding.weight")  # (49,408, width), most of which no sentence names
    state["token_embedding.rows"] = table[method.seen]  # (words, width)
    state = halved(state)
    state["token_embedding.ids"] = method.seen.int()
    state["logit_scale"] = method.logit_scale.detach()
    # the rows that are left out are drawn again from this seed when the file is read
    return state, {"quick_gelu": "true", "token_seed": "0"}


def halved(state):
    """Weights in half precision; safetensors takes contiguous tensors alone."""
    return {key: value.half().contiguous() for key, value in state.items()}


@torch.no_grad()
def even_out(image, images):
    """Scale the residual stream so that the class token has the same length before the last block as after
    the final norm. Every block begins with a norm, so the tower's outputs do not change; but Muon leaves the
    raw token 25 times as long, and CLIP-ReID's triplet loss on it would dominate."""
    looked = image.eval()(images[:, 0])
    raw = looked.hidden[-2][:, 0].norm(dim=1).mean()  # before the last block
    normed = looked.tokens[:, 0].norm(dim=1).mean()  # after the final norm
    writers = [image.ln_pre]  # every layer that adds to the residual stream
    for block in image.blocks:
        writers += [block.attn.out_proj, block.mlp.c_proj]
    for layer in writers:
        layer.weight.mul_(normed / raw)
        layer.bias.mul_(normed / raw)


def image_state(method):
    """The image tower in half precision, and no metadata."""
    return halved(method.image.state_dict()), {}


def record(name):
    """The record of how the weights of one of the project's models were made, or None."""
    return read_object(loading.FOLDER / f"{name}.record.json") or None


def as_table(records):
    """A table of the records of several models."""
    lines = [list(row_of(name, told).values()) for name, told in records.items()]
    headings = list(row_of(*next(iter(records.items()))))
    return tables.table(headings, lines, "How the weights that come with the book were made")


def row_of(name, told):
    """{heading: cell} of one record."""
    losses = told["history"][-1]["losses"].items()
    return {
        "model": name,
        "command": told["made by"],
        "pairs": f"{told['pairs']:,}",
        "epochs": told["recipe"]["epochs"],
        "minutes": f"{told['minutes']:.0f}",
        "last losses": ", ".join(f"{loss} {value:.2f}" for loss, value in losses),
        "commit": told["commit"][:7],
        "date": told["date"],
        "recipe as it is now": "yes" if told["recipe"] == as_now(name) else "no",
    }


def as_now(name):
    """The recipe of a model in the present code, in the form of a record."""
    recipes = {weights: recipe for _, weights, recipe in KINDS.values()}
    return provenance.plain(recipes[name].__dict__)


def finding(told):
    """A sentence for a caption: the losses of a record's first and last epoch."""
    first, last = told["history"][0]["losses"], told["history"][-1]["losses"]
    falls = ", ".join(f"{name} {first[name]:.2f} to {last[name]:.2f}" for name in first)
    return f"From the first epoch's mean to the last's, of {told['recipe']['epochs']}, in nats: {falls}"


@torch.inference_mode()
def likeness(clip, images, sentences):
    """Cosines (N, N) of uint8 images (N, H, W, 3) with N sentences."""
    pixels = [torch.from_numpy(image).permute(2, 0, 1) for image in images]  # (H, W, 3) -> (3, H, W)
    seen = torch.stack(pixels) / 255  # (N, 3, H, W)
    image = clip.image.eval()
    text = clip.text.eval()
    features = image.joint_cls(image((seen - 0.5) / 0.5))  # (N, E)
    said = text.sentences(clip.tokenizer(sentences))  # (N, E)
    return F.normalize(features, dim=1) @ F.normalize(said, dim=1).T

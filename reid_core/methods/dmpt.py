"""DMPT (WACV 2025): three spectra through one frozen tower; prompts, projections and the layer in which the
prompts of the spectra exchange learn. No code was released.

D1: the paper's three frozen copies of the tower are one, run once on all spectra: they never differ; its
ratio of 6.5 % counts three (`budget`). D2: what is frozen is in evaluation mode. D4: positions are resized
bilinearly, as by all methods it compares itself with (`towers.resize_positions`). D23: the baselines keep the
centre loss. D24: labels follow the sorted identities. D25: the last epoch is tested. D27: three seeds or
more; the order of the rows counts more than the numbers, which nobody reproduced. D28: no camera embedding.
D31: the maps have biases. D19: schedule and optimiser are those of methods that tune prompts of such a tower.

B shots of M spectra, D width of the tower, E of the joint space, S semantic prompts
"""

import itertools
from dataclasses import dataclass

import torch
from torch import nn

from data_prep.manifest import MODALITIES
from reid_core.augment import HALF, Augmentation, Erasing, normalise
from reid_core.layers import Head, PromptBinding
from reid_core.loading import OWN, load_clip, load_timm
from reid_core.losses import batch_hard_triplet, centre_l1, identity, modality_contrast, modality_pull
from reid_core.methods.base import Losses, Method, Paper, Stage, Task, Variant, chance_of, learnable
from reid_core.optim import Group
from reid_core.prompts import SpectrumPrompts
from reid_core.recipe import Recipe, assumed, one_of, stated
from reid_core.samplers import IdentityBatches
from reid_core.schedules import warmup_cosine

VEHICLES = ("rgbnt100", "msvr310")  # sets of vehicles; the worlds' names end in theirs
COPIES = 3  # of the tower, as the paper counts


@dataclass(frozen=True)
class DMPTRecipe(Recipe):
    tower: str = stated("clip", "Sec. 4.2: CLIP or ImageNet", row="backbones")
    backbone: str = stated("ViT-B-16-quickgelu", "Sec. 4.2", "backbone", "backbones")
    pretrained: str = assumed("openai", "D3", "weights", "clip_weights")
    imagenet_tower: str = assumed(
        "vit_base_patch16_224.orig_in21k_ft_in1k", "D3", "imagenet", "imagenet_weights"
    )
    image_height: int = stated(256, "Sec. 4.2: persons and vehicles (D29)", "pixels")
    image_width: int = stated(128, "Sec. 4.2", "pixels")
    tuned: str = stated("prompts", "Sec. 3: the tower is frozen; all of it where it is fine-tuned")
    semantic_prompt_tokens_S: int = stated(32, "Sec. 4.2; the bind has as many", "tokens")
    share_semantic_prompts: bool = assumed(False, "D30: superscripts of Sec. 3.3")
    prompt_init_uniform: float = assumed(0.0625, "D11")
    prompt_insertion: str = assumed("after ln_pre", "D7")
    modality_prompt_tokens_M: int = stated(1, "Sec. 4.2")
    modality_words: tuple = assumed(("visible", "near-infrared", "thermal-infrared"), "D5: Sec. 3.2, not 3.3")
    modality_pool: str = assumed("mean", "D5: words have up to three tokens; D6: a map per block")
    text_prompt: str = stated("a {word} photo of a {kind}.", "Sec. 3.2; the period: D12")
    interaction: str = stated("bind", "Sec. 3.4")
    interaction_layers_k: int = stated(1, "Sec. 4.4")
    sa_norm: str = assumed("pre", "D8")
    sa_head_width: int = assumed(64, "D8b: as the tower's", row="sa_heads")
    interaction_init_std: float = assumed(0.02, "D8c")
    image_text_proj: str = assumed("trained", "D10")
    con_mode: str = assumed("modality", "D16: Eq. 5 as printed is constant")
    con_temperature: float = assumed(0.01, "D16", "temperature")
    con_feature: str = assumed("encoder", "D17")
    neck_feature: str = assumed("after", "D18")
    label_smoothing: float = assumed(0.1, "D14: its citation")
    triplet_margin: float = assumed(0.0, "D15: 0 is the soft margin", row="triplet")
    centre_detached: bool = assumed(False, "D13", row="center_mae")
    epochs: int = assumed(60, "D19d: RGBNT201, MSVR310, Market1501-MM", "epochs", "epochs_rgbnt201")
    span: int = assumed(60, "D19d; the epochs that the schedule is written in", row="epochs_rgbnt201")
    ids_per_batch: int = assumed(16, "D19e", row="batch_size")
    images_per_id: int = assumed(4, "D19e", row="batch_size")
    lr_peak: float = assumed(1e-3, "D19a: the printed 0.001 is where the warm-up ends", "new lr")
    lr_tower: float = assumed(
        3.5e-6, "rate of a tower that is fine-tuned: CLIP-ReID's warm-up", "pretrained lr"
    )
    warmup_epochs: float = assumed(10, "D19b")
    warmup_factor: float = assumed(0.01, "D19b")
    lr_min_factor: float = assumed(0.001, "D19c")
    bias_lr_factor: float = assumed(1.0, "D19f")
    weight_decay: float = stated(1e-4, "Sec. 4.2")
    loss_weights: tuple = stated((1.0, 1.0, 1.0, 1.0), "Eq. 17")
    flip_p: float = assumed(0.5, "D21")
    pad: int = assumed(10, "D21")
    random_erasing_p: float = assumed(0.5, "D21")
    augmentation_sync: str = assumed("none", "D20: independent for each spectrum")
    norm_mean_std: tuple = assumed((HALF, HALF), "D21")
    missing: str = assumed("zeros", "D26")


DMPTRecipe.for_data = {  # D19d, D19e
    name: {"epochs": 30, "span": 30, "ids_per_batch": 8, "images_per_id": 16} for name in ("rgbnt100",)
}


class DMPT(Method):
    """Decoupled modality-aware prompt tuning: one stage (Sec. 3).

    ValueError for a field of the recipe that names no choice, and for data without three spectra.
    """

    multispectral = True

    def __init__(self, recipe, data):
        super().__init__(recipe)
        r = recipe
        self.size = (r.image_height, r.image_width)
        self.data = data
        self.spectra = self.spectra_needed = data.train.paths.shape[1]  # M
        words = self.spectra_words()
        clip, text, self.tokenizer = load_clip(r.backbone, r.pretrained, self.size)
        towers = {"clip": lambda: clip, "imagenet": lambda: imagenet(r, self.size)}
        self.image = one_of(towers, r.tower, "tower")()
        self.make_prompts(text, words)
        self.make_interaction()
        self.make_projections(clip, text, words)
        with chance_of("heads"):
            self.head = Head(self.spectra * self.image.width, data.classes)  # D9: one, on all side by side
        self.register_buffer("means", torch.zeros(self.spectra, 3, 1, 1))  # of the training images
        self.choose()

    def spectra_words(self):
        """The word of each spectrum."""
        words = self.recipe.modality_words
        if self.spectra != len(words):
            raise ValueError(
                f"expected {len(words)} spectra ({', '.join(words)}) in {self.data.manifest.name}, found "
                f"{self.spectra}; choose a multispectral data set, such as world_rgbnt201."
            )
        return words

    def make_prompts(self, text, words):
        """S_p and M_p of every block (Sec. 3.3)."""
        r = self.recipe
        pools = {"mean": pooled, "slots": in_slots}
        pool = one_of(pools, r.modality_pool, "modality_pool")
        vectors = [
            pool(word_vectors(text, self.tokenizer, word), r.modality_prompt_tokens_M) for word in words
        ]
        norms = {"after ln_pre": lambda: None, "before ln_pre": lambda: self.image.ln_pre}
        with chance_of("prompts"):
            self.prompts = SpectrumPrompts(
                len(self.image.blocks),
                self.spectra,
                self.image.width,
                semantic=r.semantic_prompt_tokens_S,
                spread=r.prompt_init_uniform,
                words=torch.stack(vectors),
                count=r.modality_prompt_tokens_M,
                shared=r.share_semantic_prompts,
                norm=one_of(norms, r.prompt_insertion, "prompt_insertion")(),
            )

    def make_interaction(self):
        """k layers of PromptIBind behind the tower (Sec. 3.4)."""
        r = self.recipe
        width = self.image.width
        layer = {
            "heads": max(1, width // r.sa_head_width),
            "norm": r.sa_norm,
            "std": r.interaction_init_std,
            "exchange": r.interaction,
        }
        self.read = None if r.interaction_layers_k else 1  # tokens of the tower: a layer reads all
        with chance_of("interaction"):
            self.layers = nn.ModuleList(
                PromptBinding(self.spectra, width, **layer) for _ in range(r.interaction_layers_k)
            )

    def make_projections(self, clip, text, words):
        """ImageProj and TextProj (D10), and what the frozen text tower says of the sentence of each spectrum:
        it is asked once, and not kept."""
        kind = "vehicle" if self.data.manifest.name.endswith(VEHICLES) else "person"
        sentences = [self.recipe.text_prompt.format(word=word, kind=kind) for word in words]
        ends = torch.cat([end_of(text, self.tokenizer, sentence) for sentence in sentences])  # (M, W)
        self.register_buffer("sentences", ends, persistent=False)
        projections = {
            "clip": lambda: clip.proj.detach().clone(),
            "imagenet": lambda: drawn(self.image, clip),
        }
        self.image_proj = nn.Parameter(projections[self.recipe.tower]())  # (D, E)
        self.text_proj = nn.Parameter(text.text_projection.detach().clone())  # (W, E)

    def choose(self):
        """What the remaining words of the recipe stand for."""
        r = self.recipe
        contrasts = {
            "modality": lambda z, t: modality_contrast(z, t, r.con_temperature),
            "pull": modality_pull,
            "off": None,
        }
        self.contrast = one_of(contrasts, r.con_mode, "con_mode")
        terms = {
            "identity": self.identity_term,
            "triplet": self.triplet_term,
            "centre": self.centre_term,
            "contrast": self.contrast_term,
        }
        self.terms = {name: term for name, term in terms.items() if name != "contrast" or self.contrast}
        self.compared = one_of({"encoder": 0, "interaction": 1}, r.con_feature, "con_feature")
        learnt = {"trained": [self.image_proj, self.text_proj], "frozen": []}
        self.learnt = one_of(learnt, r.image_text_proj, "image_text_proj") if self.contrast else []
        self.tower_groups = one_of({"prompts": [], "all": [self.image]}, r.tuned, "tuned")
        one_of(MISSING, r.missing, "missing")

    # stage

    def stages(self):
        r = self.recipe
        weights = dict(zip(("identity", "triplet", "centre", "contrast"), r.loss_weights))
        low = r.lr_peak * r.lr_min_factor
        start = r.lr_peak * r.warmup_factor
        decay = {"weight_decay": r.weight_decay, "bias_factor": r.bias_lr_factor}
        members = [self.prompts, self.layers, self.head, *self.learnt]
        groups = [Group(members=members, lr=r.lr_peak, **decay)]
        groups += [Group(members=[tower], lr=r.lr_tower, **decay) for tower in self.tower_groups]
        tuning = Stage(
            name="prompt tuning",
            epochs=r.epochs,
            sampler=IdentityBatches(self.data.labels, r.ids_per_batch, r.images_per_id),
            views=[self.train_view()],
            losses=self.losses,
            weights={name: weights[name] for name in self.terms},
            groups=groups,
            schedule=warmup_cosine(r.span, r.lr_peak, low, r.warmup_epochs, start),
            prepare=self.learn_means,
        )
        return [tuning]

    def learn_means(self):
        """The mean of each spectrum and channel over the training images, as the tower sees them: what may
        stand for a missing image (D26)."""
        view = self.test_view()
        pixels = self.data.store("train", self.size, view.filter).pixels.unflatten(0, (-1, self.spectra))
        chunks = [part.float().mean((0, 3, 4)) * len(part) for part in pixels.split(256)]  # (M, 3) each
        mean = torch.stack(chunks).sum(0) / len(pixels)
        self.means.copy_(normalise(view, mean[..., None, None]))

    def train_view(self):
        r = self.recipe
        erasing = (Erasing(r.random_erasing_p),)
        return Augmentation(
            "bicubic", *r.norm_mean_std, r.flip_p, r.pad, erasing=erasing, shared=r.augmentation_sync
        )

    def test_view(self):
        return Augmentation("bilinear", *self.recipe.norm_mean_std)

    # encoders

    def encode(self, batch, missing="zeros"):
        """(class tokens of the tower, class tokens after the interaction), (M, B, D) each. All spectra pass
        the tower at once; `missing` names what stands for one that is not there."""
        share, who, _ = MISSING[missing]
        there = batch.present  # (B, M)
        # zeros after the normalisation are mid-grey, as in the published protocol (D26)
        blank = share * self.means  # (M, 3, 1, 1)
        seen = torch.where(there[..., None, None, None], batch.images, blank)
        out = self.image(seen.flatten(0, 1), prompter=self.prompts, read=self.read)
        x = torch.cat([out.tokens, out.prompts], 1)  # (B M, T, D)
        x = x.unflatten(0, there.shape).transpose(0, 1)  # (M, B, T, D)
        first = x[:, :, 0]
        for depth, layer in enumerate(self.layers, 1):
            wanted = 1 if depth == len(self.layers) else None  # of the last layer the class token alone
            x = layer(x, self.recipe.semantic_prompt_tokens_S, wanted, who(there.T))
        return first, x[:, :, 0]

    # losses

    def losses(self, batch):
        """Eq. 17."""
        encoded, final = self.encode(batch)
        return Losses({name: term(encoded, final, batch.labels) for name, term in self.terms.items()})

    def identity_term(self, encoded, final, labels):
        return identity(self.head(joined(final)), labels, self.recipe.label_smoothing)

    def triplet_term(self, encoded, final, labels):
        return batch_hard_triplet(joined(final), labels, self.recipe.triplet_margin or None)

    def centre_term(self, encoded, final, labels):
        detach = self.recipe.centre_detached
        return torch.stack([centre_l1(f, labels, detach=detach) for f in final]).mean()

    def contrast_term(self, encoded, final, labels):
        """Image features against the sentences of the spectra (Sec. 3.2, Eq. 5, 6 as D16 reads them)."""
        z = (encoded, final)[self.compared] @ self.image_proj  # (M, B, E)
        return self.contrast(z.transpose(0, 1), self.sentences @ self.text_proj)

    # tests

    def features(self, batch, names):
        """ "before" and "after" the neck, (B, M D), and "tower", the class tokens that know of no other
        spectrum; "before rgb", "tower rgb" and so on (B, D), those of one spectrum; behind a colon, what
        stands for a missing spectrum where that is not the recipe's."""
        found = {}
        for missing in {name.partition(":")[2] for name in names}:
            made = self.vectors(batch, missing or self.recipe.missing)
            found |= {f"{name}:{missing}" if missing else name: value for name, value in made.items()}
        return found

    def vectors(self, batch, missing):
        """{name: (B, M D)} of all features with one word for what is missing."""
        there = batch.present.T  # (M, B)
        left = MISSING[missing][2]
        encoded, final = (left(x, there) for x in self.encode(batch, missing))  # (M, B, D) each
        before = joined(final)
        blocks = self.head.neck(before).unflatten(1, (self.spectra, -1)).transpose(0, 1)  # (M, B, D)
        found = {"before": before, "after": joined(left(blocks, there)), "tower": joined(encoded)}
        for m, spectrum in enumerate(MODALITIES):
            found |= {f"tower {spectrum}": encoded[m], f"before {spectrum}": final[m]}
        return found

    def retrieval_tasks(self):
        """The paper's own; by another feature; by one spectrum before and after it heard of the others, which
        tells what the others put into it (Sec. 3.4: contamination); and without some of the spectra (D26)."""
        neck = one_of({"after": "after", "before": "before"}, self.recipe.neck_feature, "neck_feature")
        other = {"after": "before", "before": "after"}[neck]
        tasks = {
            "image to image": Task(neck, neck),
            f"image to image, {other} the neck": Task(other, other),
            "image to image, before the interaction": Task("tower", "tower"),
        }
        for spectrum in MODALITIES:
            for feature, when in (("tower", "before"), ("before", "after")):
                one = f"{feature} {spectrum}"
                tasks[f"image to image by {spectrum}, {when} the interaction"] = Task(one, one)
        for gone in LACKING:
            for filling in FILLINGS:
                feature = f"{neck}:{filling}"
                tasks[test_without(gone, filling)] = Task(feature, feature, without=gone)
        return tasks

    def readers(self, name):
        """The tower, and the self-attention of each layer behind it, but for the tower's own features. Of
        tokens that are fused directly only the tower is followed."""
        behind = () if name.startswith("tower") or self.recipe.interaction == "tokens" else self.layers
        return [(self.image, 0), *((layer.internal, 0) for layer in behind)]


LACKING = tuple(gone for count in (1, 2) for gone in itertools.combinations(MODALITIES, count))
FILLINGS = ("zeros", "mean", "mask")  # of MISSING: what stands for a missing spectrum in a test (D26)


def test_without(gone, filling):
    """The name of the test without some spectra."""
    return f"image to image without {' and '.join(gone)}, {filling}"


test_without.__test__ = False  # pytest takes it for a test otherwise


def joined(x):
    """(M, B, D) -> (B, M D)."""
    return x.transpose(0, 1).flatten(1)


def everybody(there):
    """The bind takes every spectrum, whatever it shows."""


def those(there):
    """The bind takes the spectra that are there (M, B)."""
    return there


def kept(x, there):
    """(M, B, D) as it is: what the tower makes of a blank image stays in the feature."""
    return x


def masked(x, there):
    """(M, B, D) with zeros for the spectra that are not there (M, B)."""
    return x * there[..., None].to(x.dtype)


# what stands for a missing spectrum (D26) -> (share of its mean image, who binds, what becomes of its block)
MISSING = {
    "zeros": (0.0, everybody, kept),
    "mean": (1.0, everybody, kept),
    "mask": (0.0, those, masked),
}


def imagenet(recipe, size):
    """The frozen ImageNet tower, or a name of ours that stands for it; random with random CLIP weights."""
    name = recipe.imagenet_tower
    weights = name if name in OWN else True
    return load_timm(name, weights if recipe.pretrained else None, size)


def drawn(image, clip):
    """A projection for a tower that has none: (D, E)."""
    with chance_of("projection"):
        return torch.randn(image.width, clip.joint_width) * image.width**-0.5


def word_vectors(text, tokenizer, word):
    """The embeddings (tokens, W) of a word."""
    return text.embed(torch.tensor(tokenizer.encode(word))).detach().clone()


def pooled(vectors, count):
    """(W,), whatever the `count` of prompts: their map makes them of one vector."""
    return vectors.mean(0)


def in_slots(vectors, count):
    """(count, W): neighbouring tokens share a slot where there are more of them, else they repeat."""
    return nn.functional.adaptive_avg_pool1d(vectors.T[None], max(count, 1))[0].T


@torch.no_grad()
def end_of(text, tokenizer, sentence):
    """The end token (1, W) of a sentence, before the projection."""
    ids = torch.tensor([[tokenizer.sot_token_id, *tokenizer.encode(sentence), tokenizer.eot_token_id]])
    out = text(text.embed(ids), ids.argmax(1))
    return out.tokens[:, out.end[0]].clone()


def budget(method):
    """{what: parameters} as the paper counts them (Table 1): trained ones, the frozen tower once and three
    times, and the share of trained ones in per cent with three."""
    trained = learnable(method)
    tower = sum(p.numel() for p in method.image.parameters())
    within = tower * (method.recipe.tuned == "all")  # of those that are trained, in the tower
    share = (COPIES * within + trained - within) / (COPIES * tower + trained - within)
    return {
        "trained": trained,
        "tower": tower,
        "three towers": COPIES * tower,
        "per cent": 100 * share,
    }


RECIPE = DMPTRecipe()
NO_TEXT = {"con_mode": "off"}
NO_MODALITY = {"modality_prompt_tokens_M": 0}
NO_BIND = {"interaction_layers_k": 0}
NO_PROMPTS = {"semantic_prompt_tokens_S": 0, **NO_MODALITY, **NO_BIND, **NO_TEXT}
PRINTED = {
    "(1): S_p=1;M_p=0;S_bind=0;W_t=0": {**NO_MODALITY, **NO_BIND, **NO_TEXT},  # Baseline 1
    "(2): S_p=1;M_p=0;S_bind=1;W_t=0": {**NO_MODALITY, **NO_TEXT},
    "(3): S_p=1;M_p=1;S_bind=1;W_t=0": NO_TEXT,
    "(4): S_p=1;M_p=1;S_bind=1;W_t=1": {},
    **{f"Interaction Layer Depth={k}": {"interaction_layers_k": k} for k in range(3)},
    **{f"Modality Prompt Length={m}": {"modality_prompt_tokens_M": m} for m in range(4)},
}
OTHERS = {  # what it is measured against
    "Baseline2": {**NO_MODALITY, **NO_BIND},
    "fine-tuning": {"tuned": "all", **NO_PROMPTS},
    "fine-tuning with text": {"tuned": "all", **NO_PROMPTS, "con_mode": "modality"},
    "head alone": NO_PROMPTS,
}
IMAGENET = {  # the rows of Tables 1 and 2 that start from ImageNet weights
    "ImageNet tower (D3)": {"tower": "imagenet"},
    "Baseline1, ImageNet tower": {"tower": "imagenet", **NO_MODALITY, **NO_BIND, **NO_TEXT},
    "Baseline2, ImageNet tower": {"tower": "imagenet", **OTHERS["Baseline2"]},
}
# Fig. 4, whose values are lost (D22)
LENGTHS = {f"{count} semantic prompts": {"semantic_prompt_tokens_S": count} for count in (4, 8, 16, 64)}
FIGURE_1 = {  # Fig. 1: how else spectra may exchange
    "prompts exchange directly": {"interaction": "prompts"},
    "tokens are fused directly": {"interaction": "tokens"},
    "language binds": {**NO_BIND, "con_mode": "pull", "text_prompt": "a photo of a {kind}."},
}

READINGS = {  # readings of unspecified details
    "a word per slot (D5)": {"modality_pool": "slots", "modality_prompt_tokens_M": 2},
    "prompts pass the first norm (D7)": {"prompt_insertion": "before ln_pre"},
    "attention without norm and residual (D8)": {"sa_norm": "none"},
    "projections frozen (D10)": {"image_text_proj": "frozen"},
    "centre detached (D13)": {"centre_detached": True},
    "triplet margin 0.3 (D15)": {"triplet_margin": 0.3},
    "features pulled to their sentences (D16)": {"con_mode": "pull"},
    "contrast after the interaction (D17)": {"con_feature": "interaction"},
    "one augmentation for all spectra (D20)": {"augmentation_sync": "all"},
    "semantic prompts shared (D30)": {"share_semantic_prompts": True},
}
CONTROLS = {  # what remains of a gain when the language is taken away
    "control: words without meaning": {
        "modality_words": ("north", "east", "south"),
    },
}
TABLES = {
    "Table 3": [row for row in PRINTED if row.startswith("(")],
    "Table 4": [row for row in PRINTED if row.startswith("Interaction")],
    "Table 5": [row for row in PRINTED if row.startswith("Modality")],
}
PAPER = Paper(
    recipe=RECIPE,
    variants={"dmpt": Variant(DMPT)},
    rows={"full": {}, **PRINTED, **OTHERS, **IMAGENET, **LENGTHS, **FIGURE_1, **READINGS, **CONTROLS},
    tables=TABLES,
    test_only=("neck_feature", "missing"),
    pictured=("full", *TABLES["Table 3"][:3]),
    untrained=("dmpt", "dmpt", "head alone"),
    instead={"world_market": "world_rgbnt201", "market1501": "rgbnt201"},
)

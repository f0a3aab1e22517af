"""HPL (AAAI 2026): one model for image and text queries. Two class tokens, one for each task, and prompts at
two levels: words that an identity learns, and pseudo-words that an image or a caption is turned into.

There is no official code. Decisions D1-D25 are listed on the book's page of decisions; where one is a
choice it is a field of the recipe. Those that leave no choice: D14 pairs are shuffled and define the
epoch, the images come as P x K; D17 float32 weights under bfloat16; D19 people whom either set tests are
removed from the other (data_prep.join); D23 both classifiers know all identities of the merged sets; D24 the
last epoch is reported; D25 the two weights are taken as printed.

    B rows of a batch: N pairs of image and caption, then images in groups of K; T tokens (class tokens
    first), L words of a caption, Q pseudo-words, E width of the joint space, W width of a word
"""

import copy
import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from reid_core.augment import CLIP_MEAN, CLIP_STD, Augmentation, Erasing
from reid_core.data import CaptionTable
from reid_core.layers import Classifier, Head, TokenInversion
from reid_core.loading import TEXT_TOWERS, load_clip
from reid_core.losses import (
    bank_classification,
    batch_hard_triplet,
    identity,
    pair_contrast,
    similarity_distribution_matching,
    squared_distance,
)
from reid_core.methods.base import Cached, Losses, Method, Paper, Stage, Task, Variant, chance_of, nothing
from reid_core.optim import Group
from reid_core.prompts import GrowingTable, PromptTemplate
from reid_core.recipe import Recipe, assumed, one_of, stated
from reid_core.samplers import CaptionShuffle, IdentityBatches, Zipped
from reid_core.schedules import exponential, warmup_then_cosine
from reid_core.towers import ImageTokens, TextTokens


@dataclass(frozen=True)
class HPLRecipe(Recipe):
    backbone: str = stated("ViT-B-16-quickgelu", "Sec. Implementations", "backbone")
    pretrained: str = assumed(
        "openai",
        "the paper starts from LUPerson-MLLM (Tan et al. 2024): name its file where you have it",
        "weights",
        "init_weights",
    )
    text_tower: str = stated("pretrained", 'the caption and prompt encoders; a control row takes "random"')
    image_height: int = stated(384, "Sec. Implementations", "pixels")
    image_width: int = stated(128, "Sec. Implementations", "pixels")
    class_tokens: int = stated(2, "Sec. Task-Routed Transformer; Table 3 row 1: one for both tasks")
    class_token_start: str = assumed(
        "copy", 'D1: of CLIP\'s token and its position; "random"', row="new_class_token_init"
    )
    class_token_isolated: bool = assumed(
        False, "D2: the others may attend to the new token", row="class_token_mask"
    )
    class_head: str = assumed(
        "shared", 'D3: last norm and projection of both tokens; "separate"', row="ln_post_proj_shared"
    )
    prompt_full: str = assumed(
        "A photo of a {identity} and {instance} person.",
        "D8: article and period as in Fig. 2",
        row="prompt_article_period",
    )
    prompt_identity: str = assumed("A photo of a {identity} person.", "D8: as CLIP-ReID's")
    id_tokens_per_identity: int = assumed(4, "D4")
    id_tokens_init_std: float = assumed(0.02, "D4")
    inst_tokens: int = assumed(4, "D5: pseudo-words of an image or a caption", row="inst_tokens_K")
    inversion_blocks: int = stated(4, "Sec. Implementations")
    inversion_heads: int = assumed(8, "as IRRA's cross-modal transformer")
    inversion_readout: str = assumed(
        "queries", 'D5: learned queries; "class": the class or end token, one pseudo-word'
    )
    inversion_reads: str = assumed("joint", 'D6: all tokens after the projection; "states" before it')
    inversion_mask: bool = assumed(True, "D7: what stands behind a caption's end is hidden")
    inversion_query_init_std: float = assumed(0.02, "D5")
    prompt_scale: float = assumed(
        50.0,
        "D10: on cosines in Eq. 8, 9, 11, which print no temperature",
        "scale",
        "prompt_cosine_scale",
    )
    prompt_cosine: bool = assumed(True, "D10; raw dot products are CLIP-ReID's")
    distance_normalised: bool = assumed(
        True, "D9: both sides of Eq. 6 and 10 have length one", row="normalise_l2_losses"
    )
    sdm_temperature: float = assumed(0.02, "as IRRA", "temperature")
    sdm_epsilon: float = assumed(1e-8, "as IRRA")
    t2i_classifier_init_std: float = assumed(0.001, "as IRRA")
    label_smoothing_i2i: float = assumed(0.1, "D11: Luo et al. 2019")
    triplet_margin: float = assumed(0.3, "D11: batch-hard")
    i2i_loss_scope: str = assumed(
        "images", 'D12: identity and triplet loss see the image half; "all" sees both'
    )
    cic_reduction: str = assumed("mean", 'D13: over the batch; Eq. 11 prints a "sum"')
    prompts_moved: int = stated(0, "a control row gives everybody another's identity prompt in Eq. 11")
    detach_prompt_targets: bool = assumed(False, "D22: prompts in Eq. 10 keep their gradient")
    i2i_feature: str = assumed("c2", "D20: before the neck")
    t2i_feature: str = assumed("c1", "D21")
    batch_t2i_pairs: int = stated(64, "Sec. Implementations")
    batch_i2i_images: int = stated(64, "Sec. Implementations")
    images_per_id: int = stated(4, "Sec. Implementations")
    epoch_pairs: int = assumed(0, "D14: pairs of image and caption in an epoch; 0: all of them", "pairs")
    stage1_epochs: int = stated(10, "Sec. Implementations", "epochs")
    stage1_span: int = stated(10, "the epochs that the schedule is written in", row="stage1_epochs")
    stage1_lr_inversion: float = stated(5e-5, "Sec. Implementations", "new lr")
    stage1_lr_id_tokens: float = stated(0.02, "Sec. Implementations", "new lr")
    stage1_lr_gamma: float = stated(0.8, "Sec. Implementations")
    stage1_row_sparse: bool = assumed(
        True,
        "D15: a row of the table moves only when its identity is seen",
        row="stage1_optimizer_id_tokens",
    )
    stage1_loss_weights: tuple = stated((1.0, 1.0, 1.0), "Eq. 13")
    stage1_weight_decay: float = assumed(0.0, "D15")
    stage2_epochs: int = stated(60, "Sec. Implementations", "epochs")
    stage2_span: int = stated(60, "the epochs that the schedule is written in", row="stage2_epochs")
    stage2_lr: float = stated(1e-5, "Sec. Implementations", "pretrained lr")
    stage2_classifier_lr_factor: float = assumed(5.0, "D17: as IRRA")
    stage2_warmup_epochs: float = stated(5, "Sec. Implementations")
    stage2_warmup_factor: float = stated(0.1, "Sec. Implementations: from 1e-6", row="stage2_warmup_init_lr")
    stage2_weight_decay: float = assumed(4e-5, "D17: on matrices; norms, biases and tokens have none")
    stage2_adam_betas: tuple = assumed((0.9, 0.999), "D17: as IRRA")
    stage2_adam_eps: float = assumed(1e-3, "D17: as IRRA, whose float16 needs it")
    stage2_inversion: str = assumed(
        "frozen", 'D18: gradients pass through it; "trained" with its rate of stage I', row="stage2_frozen"
    )
    loss_weights_base: tuple = stated((1.0, 1.0, 1.0, 1.0), "Eq. 2")
    cic_weight: float = stated(1.0, "Eq. 14")
    lambda1_ilpa: float = stated(0.4, "Sec. Implementations")
    tgps_share: float = stated(1.0, "Eq. 10; Table 4: 0 or 1")
    vgps_share: float = stated(1.0, "Eq. 10; Table 4: 0 or 1")
    lambda2_cmpr: float = stated(0.06, "Sec. Implementations")
    flip_p: float = assumed(0.5, "D16: as IRRA, on both halves", row="stage2_flip_p")
    pad: int = assumed(10, "D16", "pixels", "stage2_pad")
    random_erasing_p: float = assumed(0.5, "D16", row="stage2_random_erasing_p")
    random_erasing_area_min: float = assumed(0.02, "D16")
    random_erasing_area_max: float = assumed(0.4, "D16")
    random_erasing_fill: tuple = assumed((0.0, 0.0, 0.0), "D16: after normalising")
    norm_mean: tuple = assumed(CLIP_MEAN, "D16")
    norm_std: tuple = assumed(CLIP_STD, "D16")


TARGETS = {True: torch.Tensor.detach, False: lambda prompts: prompts}  # D22
SIZES = {"mean": lambda rows: 1, "sum": len}  # D13: what the mean over a batch is multiplied by
BASE = ("matching", "identity t2i", "triplet", "identity i2i")  # the terms of Eq. 2


class Encoded(NamedTuple):
    """What the towers say of a batch in stage II."""

    labels: torch.Tensor  # (N,) of the pairs
    out: ImageTokens  # of all images; of class tokens alone where no prompt is made
    c1: torch.Tensor  # (B, E)
    c2: torch.Tensor  # (B, E)
    text: TextTokens  # of the captions
    t: torch.Tensor  # (N, E) their end tokens


class HPL(Method):
    """Stage I builds prompts with frozen towers (Eq. 13), stage II learns features (Eq. 14). It trains on
    pairs of the data set that a joint one names first, and on images of the others; a set alone gives both.

    ValueError for a field of the recipe that names no choice, and for data without captions.
    """

    def __init__(self, recipe, data):
        super().__init__(recipe)
        r = recipe
        self.size = (r.image_height, r.image_width)
        self.data = data
        extra = one_of({1: 0, 2: 1}, r.class_tokens, "class_tokens")
        self.image, self.text, self.tokenizer = load_clip(
            r.backbone, r.pretrained, self.size, extra_tokens=extra, isolated=r.class_token_isolated
        )
        one_of({"copy": kept, "random": drawn}, r.class_token_start, "class_token_start")(self.image)
        self.second = one_of({"shared": Shared, "separate": Separate}, r.class_head, "class_head")(self.image)
        self.count = 1 + extra  # of class tokens
        self.places = {"c1": 0, "c2": extra}  # one stands for both (Table 3 row 1)
        self.text = one_of(TEXT_TOWERS, r.text_tower, "text_tower")(self.text, r.backbone)
        self.prompt_encoder = copy.deepcopy(self.text)  # its weights never change
        self.make_prompts()
        with chance_of("heads"):
            joint = self.image.joint_width
            self.match = Classifier(joint, data.classes, r.t2i_classifier_init_std)
            self.head = Head(joint, data.classes)
        self.captions = CaptionTable(data.train.captions, self.tokenizer)
        self.choose()

    def make_prompts(self):
        """The words of each identity, the two inversion networks, and the sentences that take both."""
        r = self.recipe
        with chance_of("words"):
            self.identities = GrowingTable((r.id_tokens_per_identity, self.text.width), r.id_tokens_init_std)
            self.identities.grow(self.data.classes, old="dropped")
        # which tokens an inversion network reads, and how wide they are (D6)
        sides = {"joint": ("joint_tokens", "joint_width"), "states": ("states_of", "width")}
        self.reads, width = one_of(sides, r.inversion_reads, "inversion_reads")
        with chance_of("inversion"):
            self.inversion = nn.ModuleDict(
                {
                    side: self.make_inversion(getattr(tower, width))
                    for side, tower in (("image", self.image), ("caption", self.text))
                }
            )
        self.full = PromptTemplate(r.prompt_full, self.text, self.tokenizer)
        self.short = PromptTemplate(r.prompt_identity, self.text, self.tokenizer)
        bank = torch.zeros(self.data.classes, self.text.joint_width)  # (C, E)
        self.register_buffer("bank", bank, persistent=False)

    def make_inversion(self, width):
        r = self.recipe
        words = self.text.token_embedding.weight.detach()  # (vocabulary, W)
        return TokenInversion(
            width=width,
            words=self.text.width,
            count=r.inst_tokens,
            blocks=r.inversion_blocks,
            heads=r.inversion_heads,
            std=r.inversion_query_init_std,
            length=words.norm(dim=1).mean().item(),
            readout=r.inversion_readout,
            masked=r.inversion_mask,
        )

    def choose(self):
        """What the remaining words of the recipe stand for."""
        r = self.recipe
        self.target = TARGETS[r.detach_prompt_targets]
        self.times = one_of(SIZES, r.cic_reduction, "cic_reduction")
        # the first row that the losses of image retrieval see, from the number of pairs (D12)
        scopes = {"images": lambda pairs: pairs, "all": lambda pairs: 0}
        self.first = one_of(scopes, r.i2i_loss_scope, "i2i_loss_scope")
        trained = {"frozen": [], "trained": [self.inversion]}
        self.inverting = one_of(trained, r.stage2_inversion, "stage2_inversion")

    # data

    def halves(self):
        """(rows with captions, of the data set that is named first; rows of the others, of this one where it
        is alone)."""
        domains = self.data.train.domains
        first = domains == domains[0]
        pairs = np.flatnonzero(first & (self.captions.counts > 0))
        if not len(pairs):
            raise ValueError(
                f"expected captions in the training images of {domains[0]}, found none; name a set with "
                "captions first, such as cuhkpedes+market1501."
            )
        return pairs, np.flatnonzero(~first if (~first).any() else first)

    def pairs(self):
        rows, counts, size = self.halves()[0], self.captions.counts, self.recipe.batch_t2i_pairs
        self.check_batch(counts[rows].sum(), size, "captions", rows, "batch_t2i_pairs")
        return CaptionShuffle(rows, counts, size, most=self.recipe.epoch_pairs)

    def groups(self):
        r = self.recipe
        rows = self.halves()[1]
        people = r.batch_i2i_images // r.images_per_id
        self.check_batch(len(set(self.data.labels[rows])), people, "identities", rows, "batch_i2i_images")
        return IdentityBatches(self.data.labels, people, r.images_per_id, rows)

    def check_batch(self, found, needed, what, rows, field):
        """ValueError where some rows have too little for a batch."""
        if found < needed:
            sets = " and ".join(dict.fromkeys(self.data.train.domains[rows]))
            raise ValueError(
                f"expected at least {needed} {what} in the training images of {sets} for a batch, found "
                f"{found}; lower {field} or join more data."
            )

    def sampler(self):
        """64 pairs of image and caption beside 16 x 4 images; the pairs define the epoch (D14)."""
        return Zipped(self.pairs(), self.groups())

    def train_view(self):
        r = self.recipe
        area = (r.random_erasing_area_min, r.random_erasing_area_max)
        erasing = Erasing(r.random_erasing_p, area, fill=r.random_erasing_fill)
        return Augmentation("bilinear", r.norm_mean, r.norm_std, r.flip_p, r.pad, erasing=(erasing,))

    def test_view(self):
        return Augmentation("bilinear", self.recipe.norm_mean, self.recipe.norm_std)

    # stages

    def stages(self):
        return [self.prompt_construction(), self.feature_learning()]

    def prompt_construction(self):
        """Stage I. The towers are frozen, so that every image is encoded once, without augmentation (D16)."""
        r = self.recipe
        terms = ("text to image", "image to text", "inversion consistency")
        decay = {"weight_decay": r.stage1_weight_decay}
        return Stage(
            name="stage 1: prompt construction",
            epochs=r.stage1_epochs,
            sampler=self.sampler(),
            views=[],  # its steps read the cache
            losses=self.prompt_losses,
            weights=dict(zip(terms, r.stage1_loss_weights)),
            groups=[
                Group(members=[self.inversion], lr=r.stage1_lr_inversion, **decay),
                Group(
                    members=[self.identities],
                    lr=r.stage1_lr_id_tokens,
                    row_sparse=r.stage1_row_sparse,
                    **decay,
                ),
            ],
            schedule=exponential(r.stage1_span, r.stage1_lr_gamma),
            captions=self.captions,
            # half precision: all tokens of 47,000 images are ten gigabytes
            cache={
                "read": Cached(self.tokens_read, self.test_view(), torch.float16),
                "class": Cached(self.class_token, self.test_view()),
            },
        )

    def feature_learning(self):
        """Stage II. The identity prompts are frozen: their features are computed once. A row that gives all
        terms of a part no weight does not compute them."""
        r = self.recipe
        parts = {
            self.base_losses: dict(zip(BASE, r.loss_weights_base)),
            self.identity_losses: {"identity prompts": r.cic_weight},
            self.instance_losses: {
                "instance prompts": r.lambda1_ilpa,
                "prompt regularisation": r.lambda2_cmpr,
            },
        }
        there = {part: weights for part, weights in parts.items() if any(weights.values())}
        weights = {term: weight for some in there.values() for term, weight in some.items()}
        read = None if self.instance_losses in there else self.count  # prompts are made of all tokens
        losses = functools.partial(self.feature_losses, tuple(there), read)
        towers = [self.image, self.second, self.text]
        prepare = self.fill_bank if self.identity_losses in there else nothing
        return self.tuning(self.sampler(), losses, weights, towers, [self.match, self.head], prepare)

    def tuning(self, sampler, losses, weights, towers, heads, prepare=nothing):
        """A Stage that fine-tunes towers, and heads at a higher rate (D17)."""
        r = self.recipe
        adam = {"betas": r.stage2_adam_betas, "eps": r.stage2_adam_eps}
        decayed = {**adam, "weight_decay": r.stage2_weight_decay}
        groups = []
        for modules, lr in ((towers, r.stage2_lr), (heads, r.stage2_lr * r.stage2_classifier_lr_factor)):
            matrices, others = by_decay(modules)
            groups += [Group(members=matrices, lr=lr, **decayed), Group(members=others, lr=lr, **adam)]
        if self.inverting:
            groups.append(Group(members=self.inverting, lr=r.stage1_lr_inversion))
        return Stage(
            name="stage 2: feature learning",
            epochs=r.stage2_epochs,
            sampler=sampler,
            views=[self.train_view()],
            losses=losses,
            weights=weights,
            groups=groups,
            schedule=warmup_then_cosine(r.stage2_span, r.stage2_warmup_epochs, r.stage2_warmup_factor),
            captions=self.captions,
            prepare=prepare,
        )

    # encoders

    def encode_image(self, batch, read=None):
        """What the tower says of the first view, ImageTokens; of the first `read` tokens alone."""
        return self.image(batch.images.flatten(0, 1), read=read)  # images (B, 1, 3, H, W)

    def class_tokens(self, out):
        """c1 and c2 (B, E), in the joint space, not normalised."""
        return self.image.joint_cls(out), self.second(out, self.places["c2"])

    def encode_classes(self, batch):
        """The same of a batch, without the patches of the last block."""
        return self.class_tokens(self.encode_image(batch, self.count))

    def class_token(self, batch):
        """c1 (B, E): what stage I caches."""
        return self.encode_classes(batch)[0]

    def tokens_read(self, batch):
        """The tokens (B, T, E) that the image's inversion network reads: what stage I caches."""
        return self.read_of(self.image, self.encode_image(batch))

    def read_of(self, tower, out):
        """The tokens that an inversion network reads, of a tower's output (D6)."""
        return {"joint_tokens": tower.joint_tokens, "states_of": tokens_of}[self.reads](out)

    def encode_text(self, batch):
        """TextTokens of the captions (N, L)."""
        return self.text(self.text.embed(batch.text), batch.text.argmax(1))  # the end has the largest id

    def pseudo_words(self, image, text):
        """P_v (B, Q, W) of tokens (B, T, E), and P_t (N, Q, W) of TextTokens (Eq. 4)."""
        first = torch.zeros(len(image), dtype=torch.long, device=image.device)  # the class token answers
        caption = self.read_of(self.text, text)  # (N, L, E)
        return (
            self.inversion["image"](image, first, first + image.shape[1] - 1),  # an image has no padding
            self.inversion["caption"](caption, text.end, text.end),
        )

    def prompts(self, words, *instances):
        """Features (B, E) of the full prompt with identity words (B, ., W), for each of several tensors of
        pseudo-words: those of its first rows (Eq. 5)."""
        sentences = [self.full(identity=words[: len(one)], instance=one) for one in instances]
        joined = [torch.cat(parts) for parts in zip(*sentences)]
        features = self.prompt_encoder.feature(*joined)
        return features.split([len(one) for one in instances])

    def identity_prompts(self, labels):
        """Features (B, E) of identities (B,) (Eq. 7)."""
        sentences = self.short(identity=self.identities(labels))
        return self.prompt_encoder.feature(*sentences)

    # losses

    def prompt_losses(self, batch):
        """Stage I: identity prompts against images (Eq. 8, 9), and prompts that keep what they were made of
        (Eq. 6)."""
        r = self.recipe
        pairs, images = batch.parts()
        v, text = batch.cached["class"], self.encode_text(pairs)  # (B, E)
        words = self.pseudo_words(batch.cached["read"].to(v.dtype), text)
        seen, told = self.prompts(self.identities(batch.labels), *words)  # (B, E) and (N, E)
        # each distinct person of the image half is read once: its rows stand together
        people = torch.cat([pairs.labels, images.labels[:: r.images_per_id]])
        first, second = self.identity_prompts(people).split(
            [len(pairs.labels), len(people) - len(pairs.labels)]
        )
        identities = torch.cat([first, second.repeat_interleave(r.images_per_id, 0)])  # (B, E)
        contrast = (r.prompt_scale, r.prompt_cosine)
        consistent = squared_distance(seen, v, r.distance_normalised) + squared_distance(
            told, self.text.joint_end(text), r.distance_normalised
        )
        return Losses(
            {
                "text to image": pair_contrast(identities, v, *contrast),
                "image to text": pair_contrast(v, identities, *contrast),
                "inversion consistency": consistent,
            }
        )

    @torch.no_grad()
    def fill_bank(self):
        """The features (C, E) of all identity prompts: frozen in stage II (D18)."""
        labels = torch.arange(len(self.bank), device=self.bank.device)  # (C,)
        prompts = torch.cat([self.identity_prompts(some) for some in labels.split(256)]).float()
        self.bank = prompts.roll(self.recipe.prompts_moved, 0)

    def feature_losses(self, parts, read, batch):
        """Stage II (Eq. 14), as the sum of its parts, which want the first `read` image tokens."""
        encoded = self.encode(batch, read)
        terms = {}
        for part in parts:
            terms |= part(batch, encoded)
        return Losses(terms)

    def encode(self, batch, read):
        """The Encoded of a batch, of the first `read` image tokens."""
        pairs, _ = batch.parts()
        out = self.encode_image(batch, read)
        text = self.encode_text(pairs)
        return Encoded(pairs.labels, out, *self.class_tokens(out), text, self.text.joint_end(text))

    def base_losses(self, batch, encoded):
        """Eq. 2."""
        count = len(encoded.t)
        return {
            **self.matching_losses(encoded.c1[:count], encoded.t, encoded.labels),
            **self.image_losses(encoded.c2, batch.labels, self.first(count)),
        }

    def identity_losses(self, batch, encoded):
        """Eq. 11."""
        how = (self.recipe.prompt_scale, self.recipe.prompt_cosine)
        by_identity = bank_classification(encoded.c2, self.bank, batch.labels, *how)
        return {"identity prompts": by_identity * self.times(encoded.c2)}

    def instance_losses(self, _, encoded):
        """Eq. 10 and 12: prompts of the pairs, each for the other side."""
        r = self.recipe
        count = len(encoded.t)
        read = self.read_of(self.image, encoded.out)[:count]  # (N, T, E)
        p_v, p_t = self.pseudo_words(read, encoded.text)  # (N, Q, W) each
        seen, told = map(self.target, self.prompts(self.identities(encoded.labels), p_v, p_t))  # (N, E) each
        by_text = squared_distance(told, encoded.c1[:count], r.distance_normalised)  # L_tgps
        by_image = squared_distance(seen, encoded.t, r.distance_normalised)  # L_vgps
        return {
            "instance prompts": r.tgps_share * by_text + r.vgps_share * by_image,
            "prompt regularisation": squared_distance(p_t, p_v, normalise=False),
        }

    def matching_losses(self, v, t, labels):
        """Terms of Eq. 2 for text to image, on images and captions (N, E)."""
        r = self.recipe
        logits = [self.match(feature) for feature in (v, t)]  # (N, C) each, of one classifier
        return {
            "matching": similarity_distribution_matching(v, t, labels, r.sdm_temperature, r.sdm_epsilon),
            "identity t2i": sum(identity(z, labels) for z in logits) / 2,
        }

    def image_losses(self, c2, labels, first=0):
        """Terms of Eq. 2 for image to image, on the rows from `first` on."""
        r = self.recipe
        c2, labels = c2[first:], labels[first:]
        return {
            "triplet": batch_hard_triplet(c2, labels, r.triplet_margin),
            "identity i2i": identity(self.head(c2), labels, r.label_smoothing_i2i),
        }

    # tests

    def features(self, batch, names):
        """ "c1" and "c2", the two class tokens in the joint space (B, E), and "caption" (N, E)."""
        if "caption" in names:
            return {"caption": self.text.sentences(batch.text)}
        return dict(zip(("c1", "c2"), self.encode_classes(batch)))

    def readers(self, name):
        """Each feature is a class token of the tower; KeyError for "caption", which reads no image."""
        return [(self.image, self.places[name])]

    def retrieval_tasks(self):
        """Each task by its own token, and by the other's."""
        images, sentences = self.recipe.i2i_feature, self.recipe.t2i_feature
        return {
            "image to image": Task(images, images),
            "image to image, re-ranked": Task(images, images, rerank=True),
            "text to image": Task("caption", sentences, "text"),
            "image to image by the other token": Task(sentences, sentences),
            "text to image by the other token": Task("caption", images, "text"),
        }

    def constants(self):
        """Also those of the prompt encoder, which no stage trains."""
        copied = self.prompt_encoder.named_parameters(prefix="prompt_encoder")
        return [*super().constants(), *(name for name, _ in copied)]


def kept(image):
    """The new class token as `ClipViT` makes it: a copy of the old one (D1)."""


def drawn(image):
    """The new class token at random, of the old one's spread; its position stays a copy (D1)."""
    with chance_of("class token"):
        image.extra_embedding.data.normal_(std=image.class_embedding.std().item())


class Shared(nn.Module):
    """The second class token through the last norm and projection of the tower (D3)."""

    def __init__(self, image):
        super().__init__()
        self.project = image.joint_token  # no module: the tower's parameters stay its own

    def forward(self, out, place):
        """ImageTokens -> the token at `place`, (B, E)."""
        return self.project(out, place)


class Separate(nn.Module):
    """The second class token through a norm and a projection of its own, copies at the start (D3)."""

    def __init__(self, image):
        super().__init__()
        self.norm = copy.deepcopy(image.ln_post)
        self.proj = nn.Parameter(image.proj.detach().clone())  # (D, E)

    def forward(self, out, place):
        """ImageTokens -> the token at `place`, (B, E)."""
        return self.norm(out.hidden[-1][:, place]) @ self.proj


def tokens_of(out):
    """All tokens of a tower's output before the projection, (B, T, D)."""
    return out.tokens


def by_decay(modules):
    """(matrices, all other parameters) of some modules: class tokens and positions are no matrices (D17)."""
    matrices, others = [], []
    for module in modules:
        for name, p in module.named_parameters():
            fixed = getattr(module.get_submodule(name.rpartition(".")[0]), "fixed", ())
            if name.rpartition(".")[2] in fixed:
                continue  # the bias of a neck
            plain = p.dim() > 1 and not name.endswith(("embedding", "position"))
            (matrices if plain else others).append(p)
    return matrices, others


class SentencesAlone(HPL):
    """The half for text to image as a model of its own: Eq. 2 without image retrieval (Fig. 1a)."""

    def stages(self):
        weights = dict(zip(BASE[:2], self.recipe.loss_weights_base[:2]))
        return [self.tuning(self.pairs(), self.losses, weights, [self.image, self.text], [self.match])]

    def losses(self, batch):
        c1, _ = self.encode_classes(batch)
        return Losses(self.matching_losses(c1, self.text.sentences(batch.text), batch.labels))


class ImagesAlone(HPL):
    """The half for image to image as a model of its own: Eq. 2 without captions (Fig. 1a)."""

    def halves(self):
        """(nothing, all rows): no caption is read."""
        return (), np.arange(len(self.data.train))

    def stages(self):
        weights = dict(zip(BASE[2:], self.recipe.loss_weights_base[2:]))
        return [self.tuning(self.groups(), self.losses, weights, [self.image], [self.head])]

    def losses(self, batch):
        _, c2 = self.encode_classes(batch)
        return Losses(self.image_losses(c2, batch.labels))


RECIPE = HPLRecipe()
ALONE = {"class_tokens": 1, "stage1_epochs": 0}
NO_PROMPTS = {"stage1_epochs": 0, "cic_weight": 0.0, "lambda1_ilpa": 0.0, "lambda2_cmpr": 0.0}
PRINTED = {
    "TRT=0;HPL=0;CMPR=0": {"class_tokens": 1, **NO_PROMPTS},
    "TRT=1;HPL=0;CMPR=0": NO_PROMPTS,
    "TRT=1;HPL=1;CMPR=0": {"lambda2_cmpr": 0.0},
    "TRT=1;HPL=1;CMPR=1": {},
    "L_tgps=0;L_vgps=0": NO_PROMPTS,  # without identity prompts, too: its numbers are those of Table 3
    "L_tgps=1;L_vgps=0": {"lambda2_cmpr": 0.0, "vgps_share": 0.0},
    "L_tgps=0;L_vgps=1": {"lambda2_cmpr": 0.0, "tgps_share": 0.0},
    "L_tgps=1;L_vgps=1": {"lambda2_cmpr": 0.0},
}
WEIGHTS = {  # the grids of Figure 3
    **{f"lambda1 {value:g}": {"lambda1_ilpa": value} for value in (0.2, 0.3, 0.5, 0.6)},
    **{f"lambda2 {value:g}": {"lambda2_cmpr": value} for value in (0.04, 0.08)},
}
SIZES_OF_PROMPTS = {
    "one pseudo-word (D5)": {"inst_tokens": 1},
    "eight pseudo-words (D5)": {"inst_tokens": 8},
    "two inversion blocks": {"inversion_blocks": 2},
    "one inversion block": {"inversion_blocks": 1},
}
READINGS = {  # readings of unspecified details
    "identity prompts alone": {"lambda1_ilpa": 0.0, "lambda2_cmpr": 0.0},
    "second token at random (D1)": {"class_token_start": "random"},
    "second token isolated (D2)": {"class_token_isolated": True},
    "second token with its own projection (D3)": {"class_head": "separate"},
    "class token is inverted (D5)": {"inversion_readout": "class", "inst_tokens": 1},
    "tokens before the projection (D6)": {"inversion_reads": "states"},
    "padding is read (D7)": {"inversion_mask": False},
    "no article, no period (D8)": {
        "prompt_full": "A photo of {identity} and {instance} person",
        "prompt_identity": "A photo of {identity} person",
    },
    "raw distances (D9)": {"distance_normalised": False},
    "plain cosine as printed (D10)": {"prompt_scale": 1.0},
    "image losses on both halves (D12)": {"i2i_loss_scope": "all"},
    "identity prompts summed as printed (D13)": {"cic_reduction": "sum"},
    "dense Adam for identity words (D15)": {"stage1_row_sparse": False, "stage1_lr_id_tokens": 3.5e-4},
    "epsilon 1e-8 (D17)": {"stage2_adam_eps": 1e-8},
    "inversion trained in stage II (D18)": {"stage2_inversion": "trained"},
    "prompts detached (D22)": {"detach_prompt_targets": True},
}
BALANCE = {"image losses weigh three times": {"loss_weights_base": (1.0, 1.0, 3.0, 3.0)}}  # of Eq. 2
CONTROLS = {  # what remains of a gain when the language is taken away
    "control: random text tower": {"text_tower": "random"},
    "control: another's prompt": {"prompts_moved": 1},
    "control: words without meaning": {
        "prompt_full": "{identity}{instance}",
        "prompt_identity": "{identity}",
    },
}
TABLES = {
    "Table 3": [row for row in PRINTED if row.startswith("TRT")],
    "Table 4": [row for row in PRINTED if row.startswith("L_")],
}
PAPER = Paper(
    recipe=RECIPE,
    variants={
        "hpl": Variant(HPL),
        "sentences": Variant(SentencesAlone, ALONE, rows=("full",)),
        "images": Variant(ImagesAlone, ALONE, rows=("full",)),
    },
    rows={"full": {}, **PRINTED, **WEIGHTS, **BALANCE, **SIZES_OF_PROMPTS, **READINGS, **CONTROLS},
    tables=TABLES,
    test_only=("i2i_feature", "t2i_feature"),
    pictured=("full", "TRT=0;HPL=0;CMPR=0"),
)

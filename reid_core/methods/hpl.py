"""HPL (AAAI 2026): what the contract of `base` must carry for it. Its chapter completes it."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from reid_core.augment import CLIP_MEAN, CLIP_STD, Augmentation, Erasing
from reid_core.data import CaptionTable
from reid_core.layers import Head
from reid_core.loading import load_clip
from reid_core.methods.base import Method, Paper, Stage, Task, Variant
from reid_core.optim import Group
from reid_core.prompts import GrowingTable
from reid_core.recipe import Recipe, assumed, stated
from reid_core.samplers import CaptionShuffle, IdentityBatches, Zipped
from reid_core.schedules import exponential, warmup_then_cosine


@dataclass(frozen=True)
class HPLRecipe(Recipe):
    backbone: str = stated("ViT-B-16-quickgelu", "Sec. Implementations", "backbone")
    pretrained: str = assumed(
        "openai",
        "Sec. Implementations: CLIP pretrained further on LUPerson, where the user has it",
        "weights",
        "init_weights",
    )
    image_height: int = stated(384, "Sec. Implementations", "pixels")
    image_width: int = stated(128, "Sec. Implementations", "pixels")
    batch_t2i_pairs: int = stated(64, "Sec. Implementations")
    batch_i2i_images: int = stated(64, "Sec. Implementations")
    images_per_id: int = stated(4, "Sec. Implementations")
    id_tokens_per_identity: int = assumed(4, "D4")
    id_tokens_init_std: float = assumed(0.02, "D4")
    stage1_epochs: int = stated(10, "Sec. Implementations", "epochs")
    stage1_span: int = stated(10, "the epochs that the schedule is written in", row="stage1_epochs")
    stage1_lr_inversion: float = stated(5e-5, "Sec. Implementations", "new lr")
    stage1_lr_id_tokens: float = stated(0.02, "Sec. Implementations", "new lr")
    stage1_lr_gamma: float = stated(0.8, "Sec. Implementations")
    stage1_loss_weights: tuple = stated((1.0, 1.0, 1.0), "Eq. 13")
    stage2_epochs: int = stated(60, "Sec. Implementations", "epochs")
    stage2_span: int = stated(60, "the epochs that the schedule is written in", row="stage2_epochs")
    stage2_lr: float = stated(1e-5, "Sec. Implementations", "pretrained lr")
    stage2_classifier_lr_factor: float = assumed(5.0, "D17")
    stage2_warmup_epochs: float = stated(5, "Sec. Implementations")
    stage2_warmup_factor: float = stated(0.1, "Sec. Implementations: from 1e-6", row="stage2_warmup_init_lr")
    stage2_weight_decay: float = assumed(4e-5, "D17")
    stage2_adam_eps: float = assumed(1e-3, "D17")
    loss_weights_base: tuple = stated((1.0, 1.0, 1.0, 1.0), "Eq. 2")
    lambda1_ilpa: float = stated(0.4, "Sec. Implementations")
    lambda2_cmpr: float = stated(0.06, "Sec. Implementations")


class HPL(Method):
    """Stage I builds prompts with frozen towers, stage II learns features. Two class tokens, two tests
    (Eq. 2-13). NotImplementedError for its losses."""

    def __init__(self, recipe, data):
        super().__init__(recipe)
        self.size = (recipe.image_height, recipe.image_width)
        self.data = data
        self.image, self.text, self.tokenizer = load_clip(
            recipe.backbone, recipe.pretrained, self.size, extra_tokens=1
        )
        width = self.image.joint_width
        self.inversion = nn.ModuleDict(
            {side: nn.Linear(width, self.text.width) for side in ("image", "caption")}
        )
        # (C, tokens of an identity, width of a word)
        self.identities = GrowingTable(
            (recipe.id_tokens_per_identity, self.text.width), recipe.id_tokens_init_std
        )
        self.identities.grow(data.classes, old="dropped")
        self.match = nn.Linear(width, data.classes)  # the classifier of the text-to-image side
        self.head = Head(width, data.classes)
        self.captions = CaptionTable(data.train.captions, self.tokenizer)

    def sampler(self):
        """64 (image, sentence) pairs beside 16 x 4 images; the pairs define the epoch."""
        r = self.recipe
        captioned = np.flatnonzero(self.captions.counts)  # rows that have a sentence
        pairs = CaptionShuffle(captioned, self.captions.counts, r.batch_t2i_pairs)
        identities = r.batch_i2i_images // r.images_per_id  # P
        return Zipped(pairs, IdentityBatches(self.data.labels, identities, r.images_per_id))

    def stages(self):
        return [self.prompt_construction(), self.feature_learning()]

    def prompt_construction(self):
        r = self.recipe
        terms = ("text to image", "image to text", "inversion consistency")
        return Stage(
            name="stage 1: prompt construction",
            epochs=r.stage1_epochs,
            sampler=self.sampler(),
            views=[Augmentation("bilinear", CLIP_MEAN, CLIP_STD)],
            losses=self.prompt_losses,
            weights=dict(zip(terms, r.stage1_loss_weights)),
            groups=[
                Group(members=[self.inversion], lr=r.stage1_lr_inversion),
                Group(members=[self.identities], lr=r.stage1_lr_id_tokens, row_sparse=True),
            ],
            schedule=exponential(r.stage1_span, r.stage1_lr_gamma),
            captions=self.captions,
        )

    def feature_learning(self):
        r = self.recipe
        adam = {"weight_decay": r.stage2_weight_decay, "bias_decay": 0.0, "eps": r.stage2_adam_eps}
        weights = dict(zip(("matching", "identity t2i", "triplet", "identity i2i"), r.loss_weights_base))
        weights |= {
            "identity prompts": 1.0,
            "instance prompts": r.lambda1_ilpa,
            "prompt regularisation": r.lambda2_cmpr,
        }
        erasing = Erasing(area=(0.02, 0.4), fill=(0.0, 0.0, 0.0))
        return Stage(
            name="stage 2: feature learning",
            epochs=r.stage2_epochs,
            sampler=self.sampler(),
            views=[Augmentation("bilinear", CLIP_MEAN, CLIP_STD, 0.5, 10, erasing=(erasing,))],
            losses=self.feature_losses,
            weights=weights,
            groups=[
                Group(members=[self.image, self.text], lr=r.stage2_lr, **adam),
                Group(
                    members=[self.match, self.head], lr=r.stage2_lr * r.stage2_classifier_lr_factor, **adam
                ),
            ],
            schedule=warmup_then_cosine(r.stage2_span, r.stage2_warmup_epochs, r.stage2_warmup_factor),
            captions=self.captions,
        )

    def prompt_losses(self, batch):
        raise NotImplementedError("HPL's losses come with its chapter")

    feature_losses = prompt_losses

    def features(self, batch, names):
        """ "c1" and "c2", the two class tokens in the joint space (B, E), and "caption" (N, E)."""
        if "caption" in names:
            return {"caption": self.text.sentences(batch.text)}
        tokens = self.image.joint_tokens(self.image(batch.images.flatten(0, 1)))  # (B, T, E)
        return {"c1": tokens[:, 0], "c2": tokens[:, 1]}

    def readers(self, name):
        """Each feature is a class token of the tower; KeyError for "caption", which reads no image."""
        return [(self.image, {"c1": 0, "c2": 1}[name])]

    def test_view(self):
        return Augmentation("bilinear", CLIP_MEAN, CLIP_STD)

    def retrieval_tasks(self):
        return {"image to image": Task("c2", "c2"), "text to image": Task("caption", "c1", "text")}


PAPER = Paper(recipe=HPLRecipe(), variants={"hpl": Variant(HPL)}, complete=False)

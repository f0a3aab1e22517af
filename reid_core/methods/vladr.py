"""VLADR (CVPR 2026), as described and as released: what the contract of `base` must carry. Its chapter
completes it."""

import copy
from dataclasses import dataclass

from torch import nn

from reid_core.augment import IMAGENET_MEAN, IMAGENET_STD, Augmentation, Erasing
from reid_core.layers import CrossAttention, Head
from reid_core.loading import load_clip
from reid_core.methods.base import Cached, LifelongMethod, Paper, Stage, Task, Variant
from reid_core.optim import Group
from reid_core.prompts import GrowingTable
from reid_core.recipe import Recipe, assumed, released
from reid_core.samplers import CameraBatches
from reid_core.schedules import warmup_milestones


@dataclass(frozen=True)
class VLADRRecipe(Recipe):
    backbone: str = released(
        "ViT-B-16-quickgelu", "reid/models/CLIP_ReID/model/make_model_clipreid.py", "backbone"
    )
    pretrained: str = released("openai", "reid/models/CLIP_ReID/model/make_model_clipreid.py", "weights")
    image_height: int = released(256, "lreid_dataset/datasets/get_data_loaders.py:38-74", "pixels")
    image_width: int = released(128, "lreid_dataset/datasets/get_data_loaders.py:38-74", "pixels")
    attributes_K: int = released(4, "reid/models/CrossAttention.py:7")
    decoder_heads: int = released(8, "reid/models/CrossAttention.py:7")
    query_init_std: float = released(0.02, "reid/models/CrossAttention.py:29")
    ctx_tokens: int = released(4, "reid/models/CLIP_ReID/model/make_model_clipreid.py:204-249")
    ctx_init_std: float = released(0.02, "reid/models/CLIP_ReID/model/make_model_clipreid.py:204-249")
    stage1_epochs: int = released(120, "train_stage1.py:149-174, 314-330", "epochs")
    stage1_lr: float = released(3.5e-3, "train_stage1.py:149-174, 314-330", "new lr")
    stage1_weight_decay: float = released(1e-4, "train_stage1.py:149-174, 314-330")
    stage2_epochs: int = released(60, "train_stage2.py:194-203, 283-303", "epochs")
    stage2_lr: float = released(5e-6, "train_stage2.py:194-203, 283-303", "pretrained lr")
    stage2_weight_decay: float = released(1e-4, "train_stage2.py:194-203, 283-303")
    stage2_lr_region_attn: float = released(5e-6, "train_stage2.py:194-203, 283-303", "new lr")
    bias_lr_factor: float = released(
        2.0, "train_stage2.py:194-203, 283-303: 1e-5 over 5e-6", row="stage2_lr_bias"
    )
    warmup_steps: float = released(10, "train_stage2.py:194-203, 283-303")
    warmup_factor: float = released(0.01, "train_stage2.py:194-203, 283-303")
    lr_milestone: float = released(30, "train_stage2.py:194-203, 283-303")
    lr_step_unit: str = assumed("step", "D1: per iteration, as released; 'epoch' as in its lineage")
    stage1_span: float = released(
        120 * 573,
        "train_stage1.py:149-174, 314-330: iterations on Market-1501 at batch 16",
        row="stage1_epochs",
    )
    stage2_span: float = released(
        60 * 143,
        "train_stage2.py:194-203, 283-303: iterations on Market-1501 at batch 64",
        row="stage2_epochs",
    )
    fusion_alpha_new: float = released(0.6, "train_stage2.py:216-218")
    malign_weight: float = released(1.0, "reid/trainer_stage2.py:113-134")
    dalign_weight: float = released(1.0, "reid/trainer_stage2.py:175-186")


class VLADR(LifelongMethod):
    """What both variants share: parts, domains, the old model (train_stage1.py, train_stage2.py).
    NotImplementedError for its losses and its fusion."""

    def __init__(self, recipe, data):
        super().__init__(recipe)
        self.size = (recipe.image_height, recipe.image_width)
        self.data = data
        self.position = 0
        self.image, self.text, self.tokenizer = load_clip(recipe.backbone, recipe.pretrained, self.size)
        width = self.image.joint_width
        self.region_attn = CrossAttention(
            queries=recipe.attributes_K,
            width=width,
            heads=recipe.decoder_heads,
            std=recipe.query_init_std,
        )
        self.region_proj = nn.Linear(width, width)
        # (C, tokens, width)
        self.words = GrowingTable((recipe.ctx_tokens, self.text.width), recipe.ctx_init_std)
        self.head = Head(self.image.width, 0, bias=True)  # no domain yet
        self.old = copy.deepcopy(self.student())  # in no group: it never gets a gradient

    def student(self):
        """What the fusion averages and the old model remembers."""
        return nn.ModuleList([self.image, self.region_attn, self.region_proj])

    def begin_domain(self, domain, number):
        """Room for the domain's identities; earlier ones keep their rows."""
        self.data = domain
        self.position = number
        self.words.grow(domain.classes, old="frozen")
        self.head.grow(domain.classes)

    def remember(self):
        """The old model is the one that stands when a domain's first stage begins."""
        self.old.load_state_dict(self.student().state_dict())

    def end_domain(self):
        raise NotImplementedError("VLADR's fusion comes with its chapter")

    def losses(self, batch):
        raise NotImplementedError("VLADR's losses come with its chapter")

    def features(self, batch, names):
        """f11, f12, fp of the tower, (B, D) each."""
        out = self.image(batch.images.flatten(0, 1))
        return dict(zip(("f11", "f12", "fp"), self.image.reid_features(out)))

    def retrieval_tasks(self):
        return {"image to image": Task("f12+fp", "f12+fp")}

    def test_view(self):
        return Augmentation("bicubic", IMAGENET_MEAN, IMAGENET_STD)

    def sampler(self, identities):
        shots = self.data.train
        batch = identities * 4  # four images each
        steps = max(len(shots) // batch, 1)  # an epoch looks at every image about once
        return CameraBatches(self.data.labels, shots.camids, identities, 4, steps)

    def schedule(self, span):
        r = self.recipe
        return warmup_milestones(
            span, r.warmup_steps, r.warmup_factor, (r.lr_milestone,), unit=r.lr_step_unit
        )

    def sentence_stage(self, name, weights):
        r = self.recipe
        return Stage(
            name=name,
            epochs=r.stage1_epochs,
            sampler=self.sampler(4),  # batch 16
            views=[],
            losses=self.losses,
            weights=weights,
            groups=[Group(members=[self.words], lr=r.stage1_lr, weight_decay=r.stage1_weight_decay)],
            schedule=self.schedule(r.stage1_span),
            cache={"image": Cached(self.losses, self.test_view())},
            start=self.remember,
        )

    def visual_stage(self, name, views, weights, **more):
        r = self.recipe
        decay = {"weight_decay": r.stage2_weight_decay, "bias_factor": r.bias_lr_factor}
        return Stage(
            name=name,
            epochs=r.stage2_epochs,
            sampler=self.sampler(16),  # batch 64
            views=views,
            losses=self.losses,
            weights=weights | self.since_the_second_domain({"domain alignment": r.dalign_weight}),
            groups=[
                Group(members=[self.image, self.head, self.region_proj], lr=r.stage2_lr, **decay),
                Group(members=[self.region_attn], lr=r.stage2_lr_region_attn),
            ],
            schedule=self.schedule(r.stage2_span),
            **more,
        )

    def since_the_second_domain(self, weights):
        """{term: weight} of terms that exist from the second domain on."""
        return weights if self.position > 1 else {}


class VLADRReleased(VLADR):
    """Sentences per identity on cached features; then two views, coarse and attribute alignment, relations
    kept."""

    def stages(self):
        words = self.sentence_stage("stage 1: prompt learning", {"image to text": 1.0, "text to image": 1.0})
        terms = ("identity", "triplet", "identity strong", "triplet strong", "coarse")
        weights = {**dict.fromkeys(terms, 1.0), "attribute alignment": self.recipe.malign_weight}
        cache = {"sentences": Cached(self.losses, None)}  # of the identities' words: no image is read
        visual = self.visual_stage("stage 2: attribute reinforcement", self.two_views(), weights, cache=cache)
        return [words, visual]

    def two_views(self):
        """Weak: two erasings; strong: a wider crop with reflected borders."""
        fill = {"area": (0.02, 0.4), "log_uniform": False, "tries": 100, "fill": IMAGENET_MEAN}
        erasings = (Erasing(0.5, **fill), Erasing(0.3, **fill))
        weak = Augmentation("bicubic", IMAGENET_MEAN, IMAGENET_STD, 0.5, 10, erasing=erasings)
        return [weak, Augmentation("bicubic", IMAGENET_MEAN, IMAGENET_STD, 0.5, 16, "reflect")]


class VLADRDescribed(VLADR):
    """Prompts that read the description; then attributes aligned with them and with the memory of earlier
    domains."""

    def stages(self):
        terms = ("global", "local", "orthogonality", "identity", "triplet")
        words = self.sentence_stage("stage 1: disentanglement", dict.fromkeys(terms, 1.0))
        weights = {"identity": 1.0, "triplet": 1.0, "attribute alignment": self.recipe.malign_weight}
        visual = self.visual_stage("stage 2: reinforcement", [self.test_view()], weights)
        return [words, visual]


PAPER = Paper(
    recipe=VLADRRecipe(),
    variants={"released": Variant(VLADRReleased), "described": Variant(VLADRDescribed)},
    complete=False,
)

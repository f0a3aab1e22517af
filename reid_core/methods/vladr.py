"""VLADR (CVPR 2026), as described and as released: what the contract of `base` must carry. Its chapter completes it."""

import copy
from dataclasses import dataclass

from torch import nn

from reid_core.augment import IMAGENET_MEAN, IMAGENET_STD, Augmentation, Erasing
from reid_core.draws import CameraBatches
from reid_core.layers import CrossAttention, Head
from reid_core.loading import load_clip
from reid_core.methods.base import Cached, Group, LifelongMethod, Stage, Task
from reid_core.prompts import GrowingTable
from reid_core.recipe import Recipe, assumed, released
from reid_core.schedules import warmup_milestones


@dataclass(frozen=True)
class VLADRRecipe(Recipe):
    backbone: str = released("ViT-B-16-quickgelu", "card 1", "backbone")
    pretrained: str = released("openai", "card 1", "weights")
    image_height: int = released(256, "card 1", "pixels")
    image_width: int = released(128, "card 1", "pixels")
    attributes_K: int = released(4, "card 1.3")
    decoder_heads: int = released(8, "card 1.3")
    query_init_std: float = released(0.02, "card 1.3")
    ctx_tokens: int = released(4, "card 1.4")
    ctx_init_std: float = released(0.02, "card 1.4")
    stage1_epochs: int = released(120, "card 3", "epochs")
    stage1_lr: float = released(3.5e-3, "card 3", "new lr")
    stage1_weight_decay: float = released(1e-4, "card 3")
    stage2_epochs: int = released(60, "card 3", "epochs")
    stage2_lr: float = released(5e-6, "card 3", "pretrained lr")
    stage2_weight_decay: float = released(1e-4, "card 3")
    stage2_lr_region_attn: float = released(5e-6, "card 3", "new lr")
    bias_lr_factor: float = released(2.0, "card 3: 1e-5 over 5e-6", row="stage2_lr_bias")
    warmup_steps: float = released(10, "card 3")
    warmup_factor: float = released(0.01, "card 3")
    lr_milestone: float = released(30, "card 3")
    lr_step_unit: str = assumed("step", "D1: per iteration, as released; 'epoch' as in its lineage")
    stage1_span: float = released(
        120 * 573, "card 3: iterations on Market-1501 at batch 16", row="stage1_epochs"
    )
    stage2_span: float = released(
        60 * 143, "card 3: iterations on Market-1501 at batch 64", row="stage2_epochs"
    )
    fusion_alpha_new: float = released(0.6, "card 2.7")
    malign_weight: float = released(1.0, "card 2.4")
    dalign_weight: float = released(1.0, "card 2.5")


class VLADR(LifelongMethod):
    """What both variants share: parts, domains, the old model."""

    def __init__(self, recipe, data):
        super().__init__(recipe)
        self.size, self.old = (recipe.image_height, recipe.image_width), None
        self.image, self.text, self.tokenizer = load_clip(recipe.backbone, recipe.pretrained, self.size)
        width = self.image.joint_width
        self.region_attn = CrossAttention(
            recipe.attributes_K, width, recipe.decoder_heads, recipe.query_init_std
        )
        self.region_proj = nn.Linear(width, width)
        self.words = GrowingTable((recipe.ctx_tokens, self.text.width), recipe.ctx_init_std)
        self.head = Head(self.image.width, 0, bias=True)
        self.begin_domain(data)

    def begin_domain(self, domain):
        """Remember the model as it stands, make room for the domain's identities."""
        self.data = domain
        if len(self.words.new):
            self.old = copy.deepcopy(nn.ModuleList([self.image, self.region_attn, self.region_proj]))
        self.words.grow(domain.classes, old="frozen")
        self.head = Head(self.image.width, len(self.words()), bias=True)

    def end_domain(self):
        raise NotImplementedError("VLADR's fusion comes with its chapter")

    def losses(self, batch):
        raise NotImplementedError("VLADR's losses come with its chapter")

    def retrieval_tasks(self):
        return {"image to image": Task(self.losses, self.losses)}

    def draws(self, identities):
        rows, batch = self.data.train, identities * 4
        return CameraBatches(self.data.labels, rows.camids, identities, 4, max(len(rows) // batch, 1))

    def schedule(self, span):
        r = self.recipe
        return warmup_milestones(
            span, r.warmup_steps, r.warmup_factor, (r.lr_milestone,), unit=r.lr_step_unit
        )

    def visual_groups(self):
        r = self.recipe
        decay = {"weight_decay": r.stage2_weight_decay, "bias_factor": r.bias_lr_factor}
        decoder = Group([self.region_attn], r.stage2_lr_region_attn)
        return [Group([self.image, self.head, self.region_proj], r.stage2_lr, **decay), decoder]

    def since_the_second_domain(self, **weights):
        return weights if self.old is not None else {}


class VLADRReleased(VLADR):
    """Sentences per identity on cached features; then two views, coarse and attribute alignment, relations kept."""

    def stages(self):
        r = self.recipe
        plain = Augmentation("bicubic", IMAGENET_MEAN, IMAGENET_STD)
        words = Stage("learn the sentences", r.stage1_epochs, self.draws(4), [], self.losses,
                      {"image to text": 1.0, "text to image": 1.0}, [Group([self.words], r.stage1_lr, r.stage1_weight_decay)],
                      self.schedule(r.stage1_span), cache={"image": Cached(self.losses, plain)})  # fmt: skip
        fill = {"area": (0.02, 0.4), "log_uniform": False, "tries": 100, "fill": IMAGENET_MEAN}
        weak = Augmentation(
            "bicubic",
            IMAGENET_MEAN,
            IMAGENET_STD,
            0.5,
            10,
            erasing=(Erasing(0.5, **fill), Erasing(0.3, **fill)),
        )
        strong = Augmentation("bicubic", IMAGENET_MEAN, IMAGENET_STD, 0.5, 16, "reflect")
        weights = {"identity": 1.0, "triplet": 1.0, "identity strong": 1.0, "triplet strong": 1.0, "coarse": 1.0,
                   "attribute alignment": r.malign_weight,
                   **self.since_the_second_domain(**{"domain alignment": r.dalign_weight})}  # fmt: skip
        see = Stage("reinforce the attributes", r.stage2_epochs, self.draws(16), [weak, strong], self.losses, weights,
                    self.visual_groups(), self.schedule(r.stage2_span),
                    cache={"sentences": Cached(self.losses, plain)})  # fmt: skip
        return [words, see]


class VLADRDescribed(VLADR):
    """Prompts that read the description; then attributes aligned with them and with the memory of earlier domains."""

    def stages(self):
        r = self.recipe
        plain = Augmentation("bicubic", IMAGENET_MEAN, IMAGENET_STD)
        terms = ("global", "local", "orthogonality", "identity", "triplet")
        words = Stage("disentangle", r.stage1_epochs, self.draws(4), [], self.losses, dict.fromkeys(terms, 1.0),
                      [Group([self.words], r.stage1_lr, r.stage1_weight_decay)], self.schedule(r.stage1_span),
                      cache={"image": Cached(self.losses, plain)})  # fmt: skip
        weights = {"identity": 1.0, "triplet": 1.0, "attribute alignment": r.malign_weight,
                   **self.since_the_second_domain(**{"domain alignment": r.dalign_weight})}  # fmt: skip
        see = Stage("reinforce", r.stage2_epochs, self.draws(16), [plain], self.losses, weights, self.visual_groups(),
                    self.schedule(r.stage2_span))  # fmt: skip
        return [words, see]

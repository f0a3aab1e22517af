"""PAD (CVPR 2026), as described and as released: what the contract of `base` must carry. Its chapter
completes it."""

import copy
from dataclasses import dataclass

from torch import nn

from reid_core.augment import HALF, Augmentation, Erasing
from reid_core.layers import Head
from reid_core.loading import load_clip
from reid_core.methods.base import Cached, LifelongMethod, Paper, Stage, Task, Variant, ema_
from reid_core.optim import Group
from reid_core.prompts import DeepPrompts, GrowingTable
from reid_core.recipe import Recipe, released, stated
from reid_core.samplers import IdentityBatches, Shuffle
from reid_core.schedules import warmup_cosine, warmup_milestones


@dataclass(frozen=True)
class PADRecipe(Recipe):
    """Settings of the first and of later domains where they differ (decision D18: by position). Places are
    files and lines of the official code, zu-zi/PAD."""

    backbone: str = stated("ViT-B-16-quickgelu", "Loss & Training", "backbone")
    pretrained: str = stated("openai", "pad/model.py, _load_clip", "weights")
    image_height: int = stated(256, "Loss & Training", "pixels")
    image_width: int = stated(128, "Loss & Training", "pixels")
    general_tokens_per_layer: int = stated(6, "Key Designs 3", "tokens")
    prompt_init_uniform: float = released(0.02, "pad/model.py, VAPromptPool._init")
    ta_tokens_per_class: int = released(4, "configs/pad.yml:63")
    ta_init_std: float = released(0.02, "pad/model.py, TAPromptLearner")
    unfrozen_blocks: int = released(4, "configs/pad.yml:77")
    stage1_epochs: tuple = released(
        (20, 12), "configs/pad.yml:106 and 38: first domain, later domains", by="position"
    )
    stage1_batch: int = released(64, "configs/pad.yml:34")
    stage1_warmup_epochs: float = released(3, "configs/pad.yml:40")
    stage1_warmup_init_lr: float = released(1e-5, "configs/pad.yml:41")
    stage1_min_lr: float = released(1e-6, "configs/pad.yml:42")
    stage2_epochs: tuple = released(
        (30, 25), "configs/pad.yml:107 and 48: first domain, later domains", by="position"
    )
    stage2_milestones: tuple = released(
        ((18, 26), (14, 22)), "configs/pad.yml:107 and 50: first domain, later domains", by="position"
    )
    stage2_warmup_epochs: float = released(10, "configs/pad.yml:52")
    stage2_warmup_factor: float = released(0.1, "configs/pad.yml:53")
    ids_per_batch: int = released(16, "configs/pad.yml:44 and 24: batch 64 in fours")
    images_per_id: int = released(4, "configs/pad.yml:24")
    lr_backbone: float = stated(5e-6, "Loss & Training", "pretrained lr")
    lr_head: float = released(5e-6, "configs/pad.yml:46", "new lr")
    lr_va_prompt: tuple = released(
        (2e-3, 5e-3),
        "configs/pad.yml:110 and 80: first domain, later domains; also the rate of stage 1",
        by="position",
    )
    weight_decay: float = released(1e-4, "configs/pad.yml:47")
    id_weight: float = released(0.25, "configs/pad.yml:8")
    triplet_weight: float = released(1.0, "configs/pad.yml:9")
    i2t_weight: float = released(1.0, "configs/pad.yml:10")
    lambda_text: float = stated(0.5, "Loss & Training")
    lambda_feat: float = stated(0.5, "Loss & Training")
    lambda_logit: float = stated(0.5, "Loss & Training")
    ema_alpha: float = stated(0.997, "Key Designs 4")


class PAD(LifelongMethod):
    """What both variants share: parts, domains, teacher (pad/model.py, pad/engine.py).
    NotImplementedError for its losses."""

    def __init__(self, recipe, data):
        super().__init__(recipe)
        self.size = (recipe.image_height, recipe.image_width)
        self.data = data
        self.position = 0
        self.image, self.text, self.tokenizer = load_clip(recipe.backbone, recipe.pretrained, self.size)
        depth = len(self.image.blocks)
        length = recipe.general_tokens_per_layer
        self.prompts = DeepPrompts(depth, length, self.image.width, recipe.prompt_init_uniform)
        # (C, tokens, width)
        self.words = GrowingTable((recipe.ta_tokens_per_class, self.text.width), recipe.ta_init_std)
        # no domain yet
        self.heads = nn.ModuleList(Head(width, 0, bias=True) for width in self.image.widths[1:])
        self.teacher = copy.deepcopy(self.image)  # in no group: it never gets a gradient

    def begin_domain(self, domain, number):
        """New heads and sentences for the domain's identities."""
        self.data = domain
        self.position = number
        self.heads = nn.ModuleList(Head(width, domain.classes, bias=True) for width in self.image.widths[1:])
        self.words.grow(domain.classes, old=self.old_words)

    def meet_teacher(self):
        """The teacher of a domain starts as the student stands when its first stage begins."""
        self.teacher.load_state_dict(self.image.state_dict())

    def follow_student(self, _):
        """After each step: teacher <- alpha teacher + (1 - alpha) student (Key Designs 4)."""
        ema_(self.teacher, self.image, self.recipe.ema_alpha)

    @property
    def settings(self):
        """The recipe at this position of the order: first domain or later ones (decision D18)."""
        return self.recipe.on(self.data.manifest.name, max(self.position, 1))

    def visual_groups(self):
        """First domain: everything visual; later: the last blocks, heads and prompts."""
        r = self.settings
        backbone = [self.image] if self.position <= 1 else list(self.image.blocks[-r.unfrozen_blocks :])
        return [
            Group(members=backbone, lr=r.lr_backbone, weight_decay=r.weight_decay),
            Group(members=[self.heads], lr=r.lr_head, weight_decay=r.weight_decay),
            Group(members=[self.prompts], lr=r.lr_va_prompt),
        ]

    def visual_stage(self, name, weights, groups, **more):
        r = self.settings
        return Stage(
            name=name,
            epochs=r.stage2_epochs,
            sampler=IdentityBatches(self.data.labels, r.ids_per_batch, r.images_per_id),
            views=[self.train_view()],
            losses=self.losses,
            weights=weights,
            groups=groups,
            schedule=warmup_milestones(
                r.stage2_epochs, r.stage2_warmup_epochs, r.stage2_warmup_factor, r.stage2_milestones
            ),
            after_step=self.follow_student,
            **more,
        )

    def train_view(self):
        erasing = Erasing(area=(0.02, 0.33), aspect=(0.3, 3.3))
        return Augmentation("bicubic", HALF, HALF, 0.5, 10, erasing=(erasing,))

    def test_view(self):
        return Augmentation("bicubic", HALF, HALF)

    def losses(self, batch):
        raise NotImplementedError("PAD's losses come with its chapter")

    def features(self, batch, names):
        """f11, f12, fp of the student, (B, D) each."""
        # hidden (B, T, D), tokens (B, T, D)
        out = self.image(batch.images.flatten(0, 1), prompter=self.prompts)
        return dict(zip(("f11", "f12", "fp"), self.image.reid_features(out)))

    def retrieval_tasks(self):
        return {"image to image": Task("f12+fp", "f12+fp")}

    def distillation(self, weights):
        """{term: weight} of terms that exist from the second domain on."""
        return weights if self.position > 1 else {}


class PADReleased(PAD):
    """Two stages per domain: sentences on cached features, then the visual branch."""

    old_words = "dropped"

    def stages(self):
        r = self.settings
        weights = {"identity": r.id_weight, "triplet": r.triplet_weight, "image to text": r.i2t_weight}
        kept = {"feature distillation": r.lambda_feat, "logit distillation": r.lambda_logit}
        weights |= self.distillation(kept)
        visual = self.visual_stage("stage 2: image encoder", weights, self.visual_groups())
        return [self.prompt_learning(), visual]

    def prompt_learning(self):
        r = self.settings
        weights = {"image to text": 1.0, "text to image": 1.0}
        weights |= self.distillation({"text distillation": r.lambda_text})
        return Stage(
            name="stage 1: prompt learning",
            epochs=r.stage1_epochs,
            sampler=Shuffle(range(len(self.data.train)), r.stage1_batch),
            views=[],
            losses=self.losses,
            weights=weights,
            groups=[Group(members=[self.words], lr=r.lr_va_prompt)],
            schedule=warmup_cosine(
                r.stage1_epochs,
                r.lr_va_prompt,
                r.stage1_min_lr,
                r.stage1_warmup_epochs,
                r.stage1_warmup_init_lr,
            ),
            cache={"image": Cached(self.losses, self.test_view())},
            start=self.meet_teacher,
        )


class PADDescribed(PAD):
    """One stage per domain; earlier sentences are kept and trained."""

    old_words = "trained"

    def stages(self):
        r = self.settings
        weights = {"image to text": 1.0, "text to image": 1.0, "identity": 1.0, "triplet": 1.0}
        kept = {
            "text distillation": r.lambda_text,
            "feature distillation": r.lambda_feat,
            "logit distillation": r.lambda_logit,
        }
        weights |= self.distillation(kept)
        groups = [*self.visual_groups(), Group(members=[self.words], lr=r.lr_va_prompt)]
        return [self.visual_stage("domain training", weights, groups, start=self.meet_teacher)]


PAPER = Paper(
    recipe=PADRecipe(),
    variants={"released": Variant(PADReleased), "described": Variant(PADDescribed)},
    complete=False,
)

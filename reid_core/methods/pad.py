"""PAD (CVPR 2026), as described and as released: what the contract of `base` must carry. Its chapter completes it."""

import copy
from dataclasses import dataclass

from torch import nn

from reid_core.augment import HALF, Augmentation, Erasing
from reid_core.draws import IdentityBatches, Shuffle
from reid_core.layers import Head
from reid_core.loading import load_clip
from reid_core.methods.base import Cached, Group, LifelongMethod, Stage, Task, ema_
from reid_core.prompts import DeepPrompts, GrowingTable
from reid_core.recipe import Recipe, released, stated
from reid_core.schedules import warmup_cosine, warmup_milestones


@dataclass(frozen=True)
class PADRecipe(Recipe):
    """Settings of the first and of later domains where they differ (card D18: by position)."""

    backbone: str = stated("ViT-B-16-quickgelu", "Loss & Training", "backbone")
    pretrained: str = stated("openai", "card 2.1", "weights")
    image_height: int = stated(256, "Loss & Training", "pixels")
    image_width: int = stated(128, "Loss & Training", "pixels")
    general_tokens_per_layer: int = stated(6, "Key Designs 3", "tokens")
    prompt_init_uniform: float = released(0.02, "card 2.2")
    ta_tokens_per_class: int = released(4, "card 2.4")
    ta_init_std: float = released(0.02, "card 2.4")
    unfrozen_blocks: int = released(4, "card 3")
    stage1_epochs: tuple = released((20, 12), "card 5: first domain, later domains")
    stage1_batch: int = released(64, "card 5")
    stage1_warmup_epochs: float = released(3, "card 5")
    stage1_warmup_init_lr: float = released(1e-5, "card 5")
    stage1_min_lr: float = released(1e-6, "card 5")
    stage2_epochs: tuple = released((30, 25), "card 5: first domain, later domains")
    stage2_milestones: tuple = released(((18, 26), (14, 22)), "card 5: first domain, later domains")
    stage2_warmup_epochs: float = released(10, "card 5")
    stage2_warmup_factor: float = released(0.1, "card 5")
    ids_per_batch: int = released(16, "card 5: batch 64 in fours")
    images_per_id: int = released(4, "card 5")
    lr_backbone: float = stated(5e-6, "Loss & Training", "pretrained lr")
    lr_head: float = released(5e-6, "card 5", "new lr")
    lr_va_prompt: tuple = released(
        (2e-3, 5e-3), "card 5: first domain, later domains; also the rate of stage 1"
    )
    weight_decay: float = released(1e-4, "card 5")
    id_weight: float = released(0.25, "card 4.2")
    triplet_weight: float = released(1.0, "card 4.2")
    i2t_weight: float = released(1.0, "card 4.2")
    lambda_text: float = stated(0.5, "Loss & Training")
    lambda_feat: float = stated(0.5, "Loss & Training")
    lambda_logit: float = stated(0.5, "Loss & Training")
    ema_alpha: float = stated(0.997, "Key Designs 4")


class PAD(LifelongMethod):
    """What both variants share: parts, domains, teacher."""

    def __init__(self, recipe, data):
        super().__init__(recipe)
        self.size, self.seen = (recipe.image_height, recipe.image_width), 0
        self.image, self.text, self.tokenizer = load_clip(recipe.backbone, recipe.pretrained, self.size)
        length = (
            len(self.image.blocks),
            recipe.general_tokens_per_layer,
            self.image.width,
            recipe.prompt_init_uniform,
        )
        self.prompts = DeepPrompts(*length)
        self.words = GrowingTable((recipe.ta_tokens_per_class, self.text.width), recipe.ta_init_std)
        self.teacher = copy.deepcopy(self.image)
        self.begin_domain(data)

    def begin_domain(self, domain):
        """New heads and sentences for the domain's identities; the teacher starts as the student stands."""
        self.data, self.seen = domain, self.seen + 1
        self.heads = nn.ModuleList(Head(width, domain.classes, bias=True) for width in self.image.widths[1:])
        self.words.grow(domain.classes, old=self.old_words)
        self.teacher = copy.deepcopy(self.image)

    def end_domain(self):
        """Nothing: the student is what is kept and tested."""

    def after_step(self, carry):
        ema_(self.teacher, self.image, self.recipe.ema_alpha)

    def pick(self, pair):
        """A setting of the first domain or of the later ones."""
        return pair[0] if self.seen == 1 else pair[1]

    def visual_groups(self):
        """First domain: everything visual; later: the last blocks, heads and prompts."""
        r = self.recipe
        backbone = [self.image] if self.seen == 1 else list(self.image.blocks[-r.unfrozen_blocks :])
        return [
            Group(backbone, r.lr_backbone, r.weight_decay),
            Group([self.heads], r.lr_head, r.weight_decay),
            Group([self.prompts], self.pick(r.lr_va_prompt)),
        ]

    def draws(self):
        return IdentityBatches(self.data.labels, self.recipe.ids_per_batch, self.recipe.images_per_id)

    def view(self):
        return Augmentation(
            "bicubic", HALF, HALF, 0.5, 10, erasing=(Erasing(area=(0.02, 0.33), aspect=(0.3, 3.3)),)
        )

    def visual_schedule(self):
        r, epochs = self.recipe, self.pick(self.recipe.stage2_epochs)
        return warmup_milestones(
            epochs, r.stage2_warmup_epochs, r.stage2_warmup_factor, self.pick(r.stage2_milestones)
        )

    def losses(self, batch):
        raise NotImplementedError("PAD's losses come with its chapter")

    def retrieval_tasks(self):
        return {"image to image": Task(self.losses, self.losses)}

    def distillation(self, **weights):
        """Terms that exist from the second domain on."""
        return weights if self.seen > 1 else {}


class PADReleased(PAD):
    """Two stages per domain: sentences on cached features, then the visual branch."""

    old_words = "dropped"

    def stages(self):
        r = self.recipe
        rate, epochs = self.pick(r.lr_va_prompt), self.pick(r.stage1_epochs)
        curve = warmup_cosine(epochs, rate, r.stage1_min_lr, r.stage1_warmup_epochs, r.stage1_warmup_init_lr)
        weights = {
            "image to text": 1.0,
            "text to image": 1.0,
            **self.distillation(**{"text distillation": r.lambda_text}),
        }
        sentences = Stage("learn the sentences", epochs, Shuffle(range(len(self.data.train)), r.stage1_batch), [],
                          self.losses, weights, [Group([self.words], rate)], curve,
                          cache={"image": Cached(self.losses, Augmentation())})  # fmt: skip
        weights = {"identity": r.id_weight, "triplet": r.triplet_weight, "image to text": r.i2t_weight}
        weights |= self.distillation(
            **{"feature distillation": r.lambda_feat, "logit distillation": r.lambda_logit}
        )
        see = Stage("learn to see", self.pick(r.stage2_epochs), self.draws(), [self.view()], self.losses, weights,
                    self.visual_groups(), self.visual_schedule())  # fmt: skip
        return [sentences, see]


class PADDescribed(PAD):
    """One stage per domain; earlier sentences are kept and trained."""

    old_words = "trained"

    def stages(self):
        r = self.recipe
        weights = {"image to text": 1.0, "text to image": 1.0, "identity": 1.0, "triplet": 1.0}
        weights |= self.distillation(**{"text distillation": r.lambda_text, "feature distillation": r.lambda_feat,
                                        "logit distillation": r.lambda_logit})  # fmt: skip
        groups = [*self.visual_groups(), Group([self.words], self.pick(r.lr_va_prompt))]
        return [Stage("learn the domain", self.pick(r.stage2_epochs), self.draws(), [self.view()], self.losses, weights,
                      groups, self.visual_schedule())]  # fmt: skip

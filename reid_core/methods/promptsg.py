"""PromptSG (Yang et al., CVPR 2024): what the contract of `base` must carry for it. Its chapter completes it."""

from dataclasses import dataclass

from reid_core.augment import HALF, Augmentation, Erasing
from reid_core.clip import load_clip
from reid_core.draws import IdentityBatches
from reid_core.layers import Head, Inversion
from reid_core.methods.base import Group, Method, Stage, Task
from reid_core.recipe import Recipe, assumed, stated
from reid_core.schedules import warmup_milestones


@dataclass(frozen=True)
class PromptSGRecipe(Recipe):
    backbone: str = stated("ViT-B-16-quickgelu", "Sec. 5.1", "backbone", "visual_backbones")
    pretrained: str = stated("openai", "Sec. 5.1", "weights")
    image_height: int = stated(256, "Sec. 5.1", "pixels")
    image_width: int = stated(128, "Sec. 5.1", "pixels")
    ids_per_batch: int = stated(16, "Sec. 5.1")
    images_per_id: int = stated(4, "Sec. 5.1")
    epochs: int = stated(60, "Sec. 5.1", "epochs")
    span: int = stated(60, "Sec. 5.1; the epochs that the schedule is written in", row="epochs")
    lr_visual_encoder: float = stated(5e-6, "Sec. 5.1", "pretrained lr")
    lr_random_init_modules: float = stated(5e-5, "Sec. 5.1", "new lr")
    lambda_supcon: float = stated(0.5, "Sec. 5.1; Eq. 10")
    lr_decay_factor: float = stated(0.1, "Sec. 5.1")
    lr_milestones: tuple = assumed((20, 40), "D18: every 20 epochs of 60")
    inversion_hidden_dim: int = stated(512, "Sec. 5.1")
    weight_decay: float = assumed(1e-4, "D17: as CLIP-ReID stage 2")
    bias_lr_factor: float = assumed(2.0, "D17")
    warmup_epochs: float = assumed(10, "D17")
    warmup_factor: float = assumed(0.1, "D17")
    random_erasing_p: float = assumed(0.5, "D17")
    pad: int = assumed(10, "D17", "pixels")
    norm_mean: tuple = assumed(HALF, "D17")
    norm_std: tuple = assumed(HALF, "D17")


class PromptSG(Method):
    """One stage: L = L_ID + L_triplet + lambda L_SupCon (Eq. 10)."""

    def __init__(self, recipe, data):
        super().__init__(recipe)
        self.size, self.data = (recipe.image_height, recipe.image_width), data
        self.image, self.text, self.tokenizer = load_clip(recipe.backbone, recipe.pretrained, self.size)
        width = self.image.joint_width
        self.inversion = Inversion(width, recipe.inversion_hidden_dim, self.text.width)
        self.head = Head(width, data.classes)

    def stages(self):
        r = self.recipe
        decay = {"weight_decay": r.weight_decay, "bias_factor": r.bias_lr_factor}
        new = Group([self.inversion, self.head], r.lr_random_init_modules, **decay)
        return [
            Stage(
                "learn end to end",
                r.epochs,
                IdentityBatches(self.data.labels, r.ids_per_batch, r.images_per_id),
                [
                    Augmentation(
                        "bicubic", r.norm_mean, r.norm_std, 0.5, r.pad, erasing=(Erasing(r.random_erasing_p),)
                    )
                ],
                self.losses,
                {"identity": 1.0, "triplet": 1.0, "contrast": r.lambda_supcon},
                [Group([self.image], r.lr_visual_encoder, **decay), new],
                warmup_milestones(
                    r.span, r.warmup_epochs, r.warmup_factor, r.lr_milestones, r.lr_decay_factor
                ),
            )
        ]

    def losses(self, batch):
        raise NotImplementedError("PromptSG's losses come with its chapter")

    def retrieval_tasks(self):
        return {"image to image": Task(self.losses, self.losses, "market")}

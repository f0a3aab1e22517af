"""DMPT (WACV 2025): what the contract of `base` must carry for it. Its chapter completes it."""

from dataclasses import dataclass

from torch import nn

from reid_core.augment import HALF, Augmentation, Erasing
from reid_core.draws import IdentityBatches
from reid_core.layers import Head
from reid_core.loading import load_clip
from reid_core.methods.base import Group, Method, Stage, Task
from reid_core.prompts import DeepPrompts
from reid_core.recipe import Recipe, assumed, stated
from reid_core.schedules import warmup_cosine


@dataclass(frozen=True)
class DMPTRecipe(Recipe):
    backbone: str = stated("ViT-B-16-quickgelu", "Sec. 4.2", "backbone", "backbones")
    pretrained: str = assumed("openai", "D3", "weights", "clip_weights")
    image_height: int = stated(256, "Sec. 4.2", "pixels")
    image_width: int = stated(128, "Sec. 4.2", "pixels")
    semantic_prompt_tokens_S: int = stated(32, "Sec. 4.2", "tokens")
    prompt_init_uniform: float = assumed(0.0625, "D11")
    epochs: int = assumed(60, "D19d", "epochs", "epochs_rgbnt201")
    span: int = assumed(60, "D19d; the epochs that the schedule is written in", row="epochs_rgbnt201")
    ids_per_batch: int = assumed(16, "D19e", row="batch_size")
    images_per_id: int = assumed(4, "D19e", row="batch_size")
    lr_peak: float = assumed(1e-3, "D19a", "new lr")
    warmup_epochs: float = assumed(10, "D19b")
    warmup_factor: float = assumed(0.01, "D19b")
    lr_min_factor: float = assumed(0.001, "D19c")
    weight_decay: float = stated(1e-4, "Sec. 4.2")
    loss_weights: tuple = stated((1.0, 1.0, 1.0, 1.0), "Eq. 17")
    augmentation_sync: str = assumed("none", "D20: independent for each spectrum")
    norm_mean_std: tuple = assumed((HALF, HALF), "D21")


class DMPT(Method):
    """Three spectra through one frozen tower; prompts, projections and the interaction learn. One stage."""

    def __init__(self, recipe, data):
        super().__init__(recipe)
        self.size, self.data = (recipe.image_height, recipe.image_width), data
        self.image, self.text, self.tokenizer = load_clip(recipe.backbone, recipe.pretrained, self.size)
        spectra, length = data.train.paths.shape[1], recipe.semantic_prompt_tokens_S
        prompts = (len(self.image.blocks), length, self.image.width, recipe.prompt_init_uniform)
        self.prompts = nn.ModuleList(DeepPrompts(*prompts) for _ in range(spectra))
        self.head = Head(spectra * self.image.width, data.classes)

    def stages(self):
        r = self.recipe
        low, start = r.lr_peak * r.lr_min_factor, r.lr_peak * r.warmup_factor
        view = Augmentation(
            "bicubic", *r.norm_mean_std, 0.5, 10, erasing=(Erasing(),), shared=r.augmentation_sync
        )
        return [
            Stage(
                "tune the prompts",
                r.epochs,
                IdentityBatches(self.data.labels, r.ids_per_batch, r.images_per_id),
                [view],
                self.losses,
                dict(zip(("identity", "triplet", "centre", "contrast"), r.loss_weights)),
                [Group([self.prompts, self.head], r.lr_peak, r.weight_decay)],
                warmup_cosine(r.span, r.lr_peak, low, r.warmup_epochs, start),
            )
        ]

    def losses(self, batch):
        raise NotImplementedError("DMPT's losses come with its chapter")

    def retrieval_tasks(self):
        return {"image to image": Task(self.losses, self.losses)}

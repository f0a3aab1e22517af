"""DMPT (WACV 2025): what the contract of `base` must carry for it. Its chapter completes it."""

from dataclasses import dataclass

import torch
from torch import nn

from reid_core.augment import HALF, Augmentation, Erasing
from reid_core.layers import Head
from reid_core.loading import load_clip
from reid_core.methods.base import Method, Paper, Stage, Task, Variant
from reid_core.optim import Group
from reid_core.prompts import DeepPrompts
from reid_core.recipe import Recipe, assumed, stated
from reid_core.samplers import IdentityBatches
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
    """Three spectra through one frozen tower; prompts, projections and the interaction learn. One stage
    (Sec. 3 and 4.2). NotImplementedError for its losses."""

    multispectral = True

    def __init__(self, recipe, data):
        super().__init__(recipe)
        self.size = (recipe.image_height, recipe.image_width)
        self.data = data
        self.image, self.text, self.tokenizer = load_clip(recipe.backbone, recipe.pretrained, self.size)
        spectra = data.train.paths.shape[1]  # M
        length = recipe.semantic_prompt_tokens_S
        prompts = (len(self.image.blocks), length, self.image.width, recipe.prompt_init_uniform)
        self.prompts = nn.ModuleList(DeepPrompts(*prompts) for _ in range(spectra))
        self.head = Head(spectra * self.image.width, data.classes)  # on the class tokens side by side

    def stages(self):
        r = self.recipe
        low = r.lr_peak * r.lr_min_factor
        start = r.lr_peak * r.warmup_factor
        view = Augmentation(
            "bicubic", *r.norm_mean_std, 0.5, 10, erasing=(Erasing(),), shared=r.augmentation_sync
        )
        tuning = Stage(
            name="prompt tuning",
            epochs=r.epochs,
            sampler=IdentityBatches(self.data.labels, r.ids_per_batch, r.images_per_id),
            views=[view],
            losses=self.losses,
            weights=dict(zip(("identity", "triplet", "centre", "contrast"), r.loss_weights)),
            groups=[Group(members=[self.prompts, self.head], lr=r.lr_peak, weight_decay=r.weight_decay)],
            schedule=warmup_cosine(r.span, r.lr_peak, low, r.warmup_epochs, start),
        )
        return [tuning]

    def losses(self, batch):
        raise NotImplementedError("DMPT's losses come with its chapter")

    def features(self, batch, names):
        """ "f" (B, M D), the class tokens of all spectra side by side; those of an absent spectrum are
        zero."""
        found = [self.spectrum(batch, m) for m in range(batch.images.shape[1])]  # M times (B, D)
        return {"f": torch.cat(found, 1)}

    def spectrum(self, batch, m):
        """The class token (B, D) of one spectrum under its own prompts."""
        tokens = self.image(batch.images[:, m], prompter=self.prompts[m]).tokens[:, 0]  # (B, D)
        return tokens.masked_fill(~batch.present[:, m : m + 1], 0.0)

    def test_view(self):
        return Augmentation("bicubic", *self.recipe.norm_mean_std)

    def retrieval_tasks(self):
        return {"image to image": Task("f", "f")}


PAPER = Paper(recipe=DMPTRecipe(), variants={"dmpt": Variant(DMPT)}, complete=False)

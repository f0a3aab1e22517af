"""CLIP-ReID (Li et al., AAAI 2023) and the baseline that all five papers build on: CLIP's image tower
fine-tuned with identity and triplet losses.

Card decisions: the card of CLIP-ReID has none of its own; every value below was read in the official code.
"""

from dataclasses import dataclass

import torch

from reid_core.augment import HALF, IMAGENET_MEAN, IMAGENET_STD
from reid_core.loading import TEXT_TOWERS
from reid_core.losses import bank_classification, supervised_contrastive
from reid_core.methods.base import Cached, Losses, Paper, Stage, Variant, chance_of
from reid_core.methods.baseline import Baseline, VisualPath
from reid_core.optim import Group
from reid_core.prompts import GrowingTable, PromptTemplate
from reid_core.recipe import Recipe, assumed, one_of, released, values_of
from reid_core.samplers import Shuffle
from reid_core.schedules import warmup_cosine


@dataclass(frozen=True)
class ClipReidRecipe(Recipe):
    """Sections are those of the card on PromptSG and CLIP-ReID, which name the file of the official code."""

    backbone: str = released("ViT-B-16-quickgelu", "card 1.2", "backbone")
    pretrained: str = released("openai", "card 1.2", "weights")
    text_tower: str = released("pretrained", 'card 1.5; a control row takes "random"')
    sentences_moved: int = assumed(
        0, "a control row: prompts of identities so many places on, shuffled identity prompts"
    )
    image_height: int = released(256, "card 1.1", "pixels")
    image_width: int = released(128, "card 1.1", "pixels")
    stride: int = released(16, "card 1.2; overlapping patches: 12")
    sie: float = released(0.0, "card 1.2; off unless a row turns it on")
    sie_init_std: float = released(0.02, "card 1.2")
    flip_p: float = released(0.5, "card 1.1")
    pad: int = released(10, "card 1.1", "pixels")
    norm_mean: tuple = released(HALF, "card 1.1", row="norm_mean_vit")
    norm_std: tuple = released(HALF, "card 1.1", row="norm_std_vit")
    train_interpolation: str = released("bicubic", "card 1.1")
    test_interpolation: str = released("bilinear", "card 1.1")
    random_erasing_p: float = released(0.5, "card 1.1")
    random_erasing_area_min: float = released(0.02, "card 1.1")
    random_erasing_area_max: float = released(1 / 3, "card 1.1")
    random_erasing_aspect: tuple = released((0.3, 1 / 0.3), "card 1.1")
    classifier_init_std: float = released(0.001, "card 1.4")
    n_ctx_learnable: int = released(4, "card 1.5")
    ctx_init_std: float = released(0.02, "card 1.5")
    prompt_template: str = released("A photo of a {identity} person.", "card 1.5")
    temperature: float = released(1.0, "card 1.6; on raw dot products")
    stage1_epochs: int = released(120, "card 1.7", "epochs", "stage1_epochs_person_vit")
    stage1_batch: int = released(64, "card 1.7")
    stage1_lr: float = released(3.5e-4, "card 1.7", "new lr")
    stage1_weight_decay: float = released(1e-4, "card 1.7")
    stage1_warmup_epochs: float = released(5, "card 1.7")
    stage1_warmup_init_lr: float = released(1e-5, "card 1.7", "as stage1_lr")
    stage1_min_lr: float = released(1e-6, "card 1.7", "as stage1_lr")
    stage2_epochs: int = released(60, "card 1.8", "epochs", "stage2_epochs_vit")
    stage2_ids_per_batch: int = released(16, "card 1.8")
    stage2_images_per_id: int = released(4, "card 1.8")
    stage2_lr: float = released(5e-6, "card 1.8", "pretrained lr", "stage2_lr_vit")
    stage2_head_lr: float = released(5e-6, "card 1.8; one rate for all", "new lr", "stage2_lr_vit")
    stage2_bias_lr_factor: float = released(2.0, "card 1.8")
    stage2_weight_decay: float = released(1e-4, "card 1.8", row="stage2_weight_decay_vit")
    stage2_warmup_epochs: float = released(10, "card 1.8")
    stage2_warmup_factor: float = released(0.1, "card 1.8", row="stage2_warmup_factor_vit")
    stage2_milestones: tuple = released((30, 50), "card 1.8", row="stage2_milestones_vit")
    stage2_lr_decay_factor: float = released(0.1, "card 1.8")
    stage1_span: int = released(
        120, "card 1.7; the epochs that the schedule is written in", row="stage1_epochs_person_vit"
    )
    stage2_span: int = released(
        60, "card 1.8; the epochs that the schedule is written in", row="stage2_epochs_vit"
    )
    id_weight: float = released(0.25, "card 1.6", row="id_weight_vit")
    id_weight_baseline: float = released(1.0, "card 1.6")
    triplet_weight: float = released(1.0, "card 1.6")
    i2t_weight: float = released(1.0, "card 1.6")
    triplet_margin: float = released(0.3, "card 1.6")
    label_smoothing: float = released(0.1, "card 1.6")
    seed: int = released(1234, "card 1.8; any number: runs name theirs")


RN50 = {  # what changes with the other backbone
    "backbone": released("RN50-quickgelu", "card 1.3"),
    "norm_mean": released(IMAGENET_MEAN, "card 1.1", row="norm_mean_rn50"),
    "norm_std": released(IMAGENET_STD, "card 1.1", row="norm_std_rn50"),
    "id_weight": released(1.0, "card 1.6", row="id_weight_rn50"),
    "stage1_epochs": released(60, "card 1.7", row="stage1_epochs_person_rn50"),
    "stage1_span": released(60, "card 1.7", row="stage1_epochs_person_rn50"),
    "stage2_epochs": released(120, "card 1.8", row="stage2_epochs_rn50"),
    "stage2_span": released(120, "card 1.8", row="stage2_epochs_rn50"),
    "stage2_lr": released(3.5e-4, "card 1.8", row="stage2_lr_rn50"),
    "stage2_head_lr": released(3.5e-4, "card 1.8", row="stage2_lr_rn50"),
    "stage2_weight_decay": released(5e-4, "card 1.8", row="stage2_weight_decay_rn50"),
    "stage2_warmup_factor": released(0.01, "card 1.8", row="stage2_warmup_factor_rn50"),
    "stage2_milestones": released((40, 70), "card 1.8", row="stage2_milestones_rn50"),
}
VERI = {  # what changes for vehicles
    "image_width": released(256, "card 1.1", row="image_size_vehicle"),
    "prompt_template": released("A photo of a {identity} vehicle.", "card 1.5"),
    "stage1_epochs": released(60, "card 1.7", row="stage1_epochs_veri"),
    "stage1_span": released(60, "card 1.7", row="stage1_epochs_veri"),
}
VEHICLEID = {  # and for the largest set of them
    **VERI,
    "stage1_epochs": released(60, "card 1.7", row="stage1_epochs_vehicleid"),
    "stage1_span": released(60, "card 1.7", row="stage1_epochs_vehicleid"),
    "stage1_batch": released(256, "card 1.7", row="stage1_batch_vehicleid"),
    "stage2_lr": released(5e-5, "card 1.8", row="stage2_lr_vit_vehicleid"),
    "stage2_head_lr": released(5e-5, "card 1.8", row="stage2_lr_vit_vehicleid"),
}
RN50_VEHICLEID = {
    **RN50,
    **VERI,
    "stage1_batch": released(256, "card 1.7", row="stage1_batch_vehicleid"),
}
PLAIN = {
    "label_smoothing": released(
        0.0, "card 1.6: off for the baseline and for RN50 on VehicleID", row="label_smoothing_vehicleid"
    )
}
OVERLAP = {"stride": released(12, "card 1.2", row="stride_olp")}
SIDE = {"sie": released(1.0, "card 1.2: the recipe with side information", row="sie_coefficient_recipe")}
SIDE_DEFAULT = {"sie": released(3.0, "card 1.2: the configuration's default", row="sie_coefficient_default")}
SETTINGS = {
    "RN50": RN50,
    "VeRi-776": VERI,
    "VehicleID": VEHICLEID,
    "VehicleID, baseline": {**VEHICLEID, **PLAIN},
    "VeRi-776, RN50": {**RN50, **VERI},
    "VehicleID, RN50": {**RN50_VEHICLEID, **PLAIN},
    "overlapping patches": OVERLAP,
    "SIE": SIDE,
    "SIE, coefficient 3": SIDE_DEFAULT,
    "SIE and overlapping patches": {**SIDE, **OVERLAP},
}


class ClipReID(VisualPath):
    """Stage 1 learns a sentence per identity with both towers frozen; stage 2 teaches the image tower with
    them (Li et al. 2023; card 1.5-1.8). ValueError for another `text_tower`."""

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        self.text = one_of(TEXT_TOWERS, recipe.text_tower, "text_tower")(self.text, recipe.backbone)
        with chance_of("words"):
            # (C, n_ctx, width)
            self.words = GrowingTable((recipe.n_ctx_learnable, self.text.width), recipe.ctx_init_std)
            self.words.grow(data.classes, old="dropped")
        self.template = PromptTemplate(recipe.prompt_template, self.text, self.tokenizer)
        # (C, E)
        self.register_buffer("bank", torch.zeros(data.classes, self.text.joint_width), persistent=False)

    def stages(self):
        r = self.recipe
        weights = {"identity": r.id_weight, "triplet": r.triplet_weight, "image to text": r.i2t_weight}
        visual = self.visual_stage("stage 2: image encoder", self.image_losses, weights, self.fill_bank)
        return [self.prompt_learning(), visual]

    def prompt_learning(self):
        r = self.recipe
        return Stage(
            name="stage 1: prompt learning",
            epochs=r.stage1_epochs,
            sampler=Shuffle(range(len(self.data.train)), r.stage1_batch),
            views=[],  # its steps read the cache
            losses=self.sentence_losses,
            weights={"image to text": 1.0, "text to image": 1.0},
            groups=[Group(members=[self.words], lr=r.stage1_lr, weight_decay=r.stage1_weight_decay)],
            schedule=warmup_cosine(
                r.stage1_span, r.stage1_lr, r.stage1_min_lr, r.stage1_warmup_epochs, r.stage1_warmup_init_lr
            ),
            cache={"image": Cached(self.joint_feature, self.test_view())},
            stream="learn the sentences",  # its draws are named as when the first runs were measured
        )

    def joint_feature(self, batch):
        """fp (B, E) without the camera embedding: what stage 1 caches."""
        return self.image.joint_cls(self.image(batch.images.flatten(0, 1)))

    def sentences(self, labels):
        """Sentence features (B, E) of identities (B,)."""
        words = self.words(labels)  # (B, n_ctx, width of a word)
        return self.text.joint_end(self.text(*self.template(identity=words)))

    def sentence_losses(self, batch):
        """Stage 1: L_i2t + L_t2i, supervised by identity, on raw dot products."""
        image = batch.cached["image"]  # (B, E)
        text = self.sentences(batch.labels)  # (B, E)
        contrast = (batch.labels, batch.labels, self.recipe.temperature, False)  # False: no cosine
        return Losses(
            {
                "image to text": supervised_contrastive(image, text, *contrast),
                "text to image": supervised_contrastive(text, image, *contrast),
            }
        )

    @torch.no_grad()
    def fill_bank(self):
        """The sentence features (C, E) of all identities, cached: tower and words are frozen in stage 2."""
        labels = torch.arange(len(self.bank), device=self.bank.device)  # (C,)
        # (C, E)
        cached = torch.cat([self.sentences(some) for some in labels.split(self.recipe.stage1_batch)])
        # the control: everybody gets another's sentence
        self.bank = cached.roll(self.recipe.sentences_moved, 0)

    def image_losses(self, batch):
        """Stage 2: L_ID, L_tri, and L_i2tce against the sentences of all identities."""
        features = self.encode(batch)  # f11, f12, fp
        against_all = bank_classification(
            features[2],  # fp (B, E)
            self.bank,
            batch.labels,
            1 / self.recipe.temperature,
            False,
            self.recipe.label_smoothing,
        )
        return Losses({**self.visual_losses(features, batch.labels), "image to text": against_all})


RECIPE = ClipReidRecipe()
ROWS = {  # what CLIP-ReID itself takes apart; its tables could not be read, so the labels are ours
    "no stage 1": {"stage1_epochs": 0},
    "1 token": {"n_ctx_learnable": 1},
    "4 tokens": {},
    "8 tokens": {"n_ctx_learnable": 8},
    "no image-to-text loss": {"i2t_weight": 0.0},
    "zero-shot": {"stage1_epochs": 0, "stage2_epochs": 0},
}
CONTROLS = {  # what remains of a gain when the language is taken away
    "control: random text tower": {"text_tower": "random"},
    "control: another's sentence": {"sentences_moved": 1},
}
SHORTER = {"half the epochs": {"stage1_epochs": 60, "stage2_epochs": 30}}
ABLATIONS = {
    "full": {},
    **ROWS,
    **CONTROLS,
    **SHORTER,
    **{row: values_of(changes) for row, changes in SETTINGS.items()},
}
WITHOUT_LANGUAGE = ("full", "zero-shot", *SHORTER, *SETTINGS)  # the rows that a baseline has, too
ClipReidRecipe.for_data = {"veri776": values_of(VERI), "vehicleid": values_of(VEHICLEID)}
PAPER = Paper(
    recipe=RECIPE,
    variants={"baseline": Variant(Baseline, rows=WITHOUT_LANGUAGE), "clip_reid": Variant(ClipReID)},
    rows=ABLATIONS,
)

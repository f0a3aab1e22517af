"""CLIP-ReID (Li et al., AAAI 2023) and the baseline that all five papers build on: CLIP's image tower
fine-tuned with identity and triplet losses.

Every value below was read in the official code, but for that of the control rows.
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

VIT = "configs/person/vit_clipreid.yml"
RN = "configs/person/cnn_clipreid.yml"
MODEL = "model/make_model_clipreid.py"
LOADER = "datasets/make_dataloader_clipreid.py"
ERASING = "timm/data/random_erasing.py"


@dataclass(frozen=True)
class ClipReidRecipe(Recipe):
    """Places are files and lines of the official code, Syliz517/CLIP-ReID at commit eb1898b."""

    backbone: str = released("ViT-B-16-quickgelu", f"{VIT}:6; QuickGELU, model/clip/model.py", "backbone")
    pretrained: str = released("openai", f"{MODEL}:175", "weights")
    text_tower: str = released("pretrained", f"{MODEL}:105; a control row takes 'random'")
    sentences_moved: int = assumed(
        0, "a control row: prompts of identities so many places on, shuffled identity prompts"
    )
    image_height: int = released(256, f"{VIT}:15", "pixels")
    image_width: int = released(128, f"{VIT}:15", "pixels")
    stride: int = released(16, f"{VIT}:7; overlapping patches: 12")
    sie: float = released(0.0, "config/defaults.py:62; off unless a row turns it on")
    sie_init_std: float = released(0.02, f"{MODEL}:96")
    flip_p: float = released(0.5, f"{VIT}:17")
    pad: int = released(10, f"{VIT}:19", "pixels")
    norm_mean: tuple = released(HALF, f"{VIT}:20", row="norm_mean_vit")
    norm_std: tuple = released(HALF, f"{VIT}:21", row="norm_std_vit")
    train_interpolation: str = released("bicubic", f"{LOADER}:44")
    test_interpolation: str = released("bilinear", f"{LOADER}:55; the default of torchvision 0.9")
    random_erasing_p: float = released(0.5, f"{VIT}:18")
    random_erasing_area_min: float = released(0.02, f"{LOADER}:50; the default of {ERASING}")
    random_erasing_area_max: float = released(1 / 3, f"{LOADER}:50; the default of {ERASING}")
    random_erasing_aspect: tuple = released((0.3, 1 / 0.3), f"{LOADER}:50; the default of {ERASING}")
    classifier_init_std: float = released(0.001, f"{MODEL}:26")
    n_ctx_learnable: int = released(4, f"{MODEL}:209")
    ctx_init_std: float = released(0.02, f"{MODEL}:211")
    prompt_template: str = released("A photo of a {identity} person.", f"{MODEL}:197")
    temperature: float = released(1.0, "loss/supcontrast.py:14; on raw dot products")
    stage1_epochs: int = released(120, f"{VIT}:38", "epochs", "stage1_epochs_person_vit")
    stage1_batch: int = released(64, f"{VIT}:30")
    stage1_lr: float = released(3.5e-4, f"{VIT}:32", "new lr")
    stage1_weight_decay: float = released(1e-4, f"{VIT}:36")
    stage1_warmup_epochs: float = released(5, f"{VIT}:41")
    stage1_warmup_init_lr: float = released(1e-5, f"{VIT}:33", "as stage1_lr")
    stage1_min_lr: float = released(1e-6, f"{VIT}:34", "as stage1_lr")
    stage2_epochs: int = released(60, f"{VIT}:53", "epochs", "stage2_epochs_vit")
    stage2_ids_per_batch: int = released(16, f"{VIT}:25 and 44: 64 images in fours")
    stage2_images_per_id: int = released(4, f"{VIT}:25")
    stage2_lr: float = released(5e-6, f"{VIT}:46", "pretrained lr", "stage2_lr_vit")
    stage2_head_lr: float = released(5e-6, f"{VIT}:46 and 52: one rate for all", "new lr", "stage2_lr_vit")
    stage2_bias_lr_factor: float = released(2.0, f"{VIT}:57")
    stage2_weight_decay: float = released(1e-4, f"{VIT}:50", row="stage2_weight_decay_vit")
    stage2_warmup_epochs: float = released(10, f"{VIT}:48")
    stage2_warmup_factor: float = released(0.1, f"{VIT}:49", row="stage2_warmup_factor_vit")
    stage2_milestones: tuple = released((30, 50), f"{VIT}:59", row="stage2_milestones_vit")
    stage2_lr_decay_factor: float = released(0.1, f"{VIT}:60")
    stage1_span: int = released(
        120, f"{VIT}:38; the epochs that the schedule is written in", row="stage1_epochs_person_vit"
    )
    stage2_span: int = released(
        60, f"{VIT}:53; the epochs that the schedule is written in", row="stage2_epochs_vit"
    )
    id_weight: float = released(0.25, f"{VIT}:8", row="id_weight_vit")
    id_weight_baseline: float = released(1.0, "configs/person/vit_base.yml:8")
    triplet_weight: float = released(1.0, f"{VIT}:9")
    i2t_weight: float = released(1.0, f"{VIT}:10")
    triplet_margin: float = released(0.3, "config/defaults.py:109")
    label_smoothing: float = released(0.1, "loss/softmax_loss.py:17")
    seed: int = released(1234, "config/defaults.py:108; any number: runs name theirs")


@dataclass(frozen=True)
class LifelongRecipe(ClipReidRecipe):
    """CLIP-ReID's, a second view as in VLADR's code, and the size of a memory of images."""

    strong_view: bool = assumed(False, "VLADR D10: rows have both views, as VLADR has")
    strong_reflect_padding: int = assumed(16, "as VLADR's", "pixels")
    strong_randaugment_n: int = assumed(2, "as VLADR's")
    strong_randaugment_m: int = assumed(10, "as VLADR's")
    strong_cutout: int = assumed(64, "as VLADR's", "pixels")
    replay_images: int = assumed(500, "exemplar replay: images of earlier domains in all")


RN50 = {  # what changes with the other backbone
    "backbone": released("RN50-quickgelu", f"{RN}:6"),
    "norm_mean": released(IMAGENET_MEAN, f"{RN}:17", row="norm_mean_rn50"),
    "norm_std": released(IMAGENET_STD, f"{RN}:18", row="norm_std_rn50"),
    "id_weight": released(1.0, f"{RN}:7", row="id_weight_rn50"),
    "stage1_epochs": released(60, f"{RN}:35", row="stage1_epochs_person_rn50"),
    "stage1_span": released(60, f"{RN}:35", row="stage1_epochs_person_rn50"),
    "stage2_epochs": released(120, f"{RN}:50", row="stage2_epochs_rn50"),
    "stage2_span": released(120, f"{RN}:50", row="stage2_epochs_rn50"),
    "stage2_lr": released(3.5e-4, f"{RN}:43", row="stage2_lr_rn50"),
    "stage2_head_lr": released(3.5e-4, f"{RN}:43 and 49", row="stage2_lr_rn50"),
    "stage2_weight_decay": released(5e-4, f"{RN}:47", row="stage2_weight_decay_rn50"),
    "stage2_warmup_factor": released(0.01, f"{RN}:46", row="stage2_warmup_factor_rn50"),
    "stage2_milestones": released((40, 70), f"{RN}:56", row="stage2_milestones_rn50"),
}
VERI = {  # what changes for vehicles
    "image_width": released(256, "configs/veri/vit_prom.yml:16", row="image_size_vehicle"),
    "prompt_template": released("A photo of a {identity} vehicle.", f"{MODEL}:195"),
    "stage1_epochs": released(60, "configs/veri/vit_prom.yml:39", row="stage1_epochs_veri"),
    "stage1_span": released(60, "configs/veri/vit_prom.yml:39", row="stage1_epochs_veri"),
}
VEHICLEID = {  # and for the largest set of them
    **VERI,
    "stage1_epochs": released(60, "configs/VehicleID/vit_clipreid.yml:36", row="stage1_epochs_vehicleid"),
    "stage1_span": released(60, "configs/VehicleID/vit_clipreid.yml:36", row="stage1_epochs_vehicleid"),
    "stage1_batch": released(256, "configs/VehicleID/vit_clipreid.yml:28", row="stage1_batch_vehicleid"),
    "stage2_lr": released(5e-5, "configs/VehicleID/vit_clipreid.yml:44", row="stage2_lr_vit_vehicleid"),
    "stage2_head_lr": released(5e-5, "configs/VehicleID/vit_clipreid.yml:44", row="stage2_lr_vit_vehicleid"),
}
RN50_VEHICLEID = {
    **RN50,
    **VERI,
    "stage1_batch": released(256, "configs/VehicleID/cnn_clipreid.yml:26", row="stage1_batch_vehicleid"),
}
PLAIN = {
    "label_smoothing": released(
        0.0, "configs/VehicleID/vit_base.yml:4 and cnn_clipreid.yml:4", row="label_smoothing_vehicleid"
    )
}
OVERLAP = {"stride": released(12, "README, the command with MODEL.STRIDE_SIZE", row="stride_olp")}
SIDE = {"sie": released(1.0, "README, the command with MODEL.SIE_COE", row="sie_coefficient_recipe")}
SIDE_DEFAULT = {
    "sie": released(3.0, "config/defaults.py:61, the configuration's default", row="sie_coefficient_default")
}
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
    them (Li et al. 2023; train_clipreid.py:72-100). ValueError for another `text_tower`."""

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
        return self.image.joint_cls(self.image(batch.images.flatten(0, 1), read=1))

    def sentences(self, labels):
        """Sentence features (B, E) of identities (B,)."""
        words = self.words(labels)  # (B, n_ctx, width of a word)
        return self.text.feature(*self.template(identity=words))

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
        # the control: shuffled identity prompts
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

"""Short published training runs, replayed: our towers, losses, optimisers and loop on the published
batches."""

import torch
from golden import close, in_proportion
from golden_towers import GivenTowers, camera_embedding, image_tower, template_in, text_tower, weights

from reid_core.data import Batch
from reid_core.methods.base import StageLoss, freeze_all_but, total
from reid_core.methods.clip_reid import RECIPE
from reid_core.optim import make_optimisers
from reid_core.train import Trainer

LOSSES, PARAMETERS, FEATURE = 5e-5, 1e-4, 1e-3
OF_THE_ENTRIES = 0.999


class Replay:
    """A stage on given batches, one list per epoch, with the loop's own steps: `terms` per step, `rates` per
    epoch."""

    def __init__(self, method, stage, epochs, folder):
        trainer, loss = Trainer(method, None, folder, precision="fp32", fine=False), StageLoss(method, stage)
        freeze_all_but(method, stage.groups)
        optimisers = make_optimisers(method, stage.groups)
        self.stage, self.terms, self.rates = stage, [], []
        for number, batches in enumerate(epochs):
            for step, batch in enumerate(batches):
                trainer.set_rates(stage, optimisers, number, step, len(batches))
                terms = trainer.step(stage, loss, batch, optimisers)
                self.terms.append({name: term.item() for name, term in terms.items()})
            self.rates.append([group["lr"] for optimiser in optimisers for group in optimiser.param_groups])

    def losses(self):
        return [total(terms, self.stage.weights) for terms in self.terms]


def same_losses(name, found, wanted, tolerance=LOSSES):
    in_proportion(name, found, wanted, tolerance)


def same_parameters(name, found, wanted):
    """Nearly all entries. The key third of the attention's bias has no gradient but rounding noise, which
    Adam turns into steps: it is left out."""
    differences = []
    for key, value in wanted.items():
        one, two = found[key].detach().double(), value.double()
        if key.endswith("attn.in_proj_bias"):
            one, two = (torch.cat([part for k, part in enumerate(x.chunk(3)) if k != 1]) for x in (one, two))
        differences.append((one - two).abs().flatten())
    close(torch.cat(differences).quantile(OF_THE_ENTRIES), 0.0, PARAMETERS, name)


def learner(file, recipe):
    text, words = text_tower(file, file["in/heads"]), file.tensor("in/initial_cls_ctx")
    method = GivenTowers(recipe, file["in/label"], len(words), text=text, words=words)
    method.template = template_in(file, text, words.shape[1])
    return method


def epochs_of(file, variant=""):
    """The published permutations, cut into batches; the last of an epoch is short."""
    pids, image = file.tensor("in/label"), file.tensor("in/cached_image_features")
    for order in file.tensor(f"in/{variant}permutation_per_epoch").long():
        rows = order.split(file["in/batch_size"].item())
        yield [
            Batch(index=some, labels=pids[some], cameras=None, cached={"image": image[some]}) for some in rows
        ]


def looker(file, kind=GivenTowers, **settings):
    """A method with the file's tower, heads and bank."""
    camera = None
    if "w/cv_embed" in file:
        camera = camera_embedding(file.tensor("w/cv_embed"), file.number("in/sie_coe"))
    size, classes = file["in/pixels"].shape[3:], len(file["w/classifier.weight"])
    tower = image_tower(weights(file, "w/visual."), size, file["in/heads"], camera=camera)
    method = kind(RECIPE.but(stage2_ids_per_batch=1, **settings), file["in/label"][0], classes, tower)
    method.bank = file.tensor("in/text_bank")
    return method


def batches_of(method, file):
    cameras = file.tensor("in/camera") if "in/camera" in file else [None] * len(file["in/label"])
    given = zip(file.tensor("in/pixels"), file.tensor("in/label"), cameras)
    return [method.batch(*one) for one in given]

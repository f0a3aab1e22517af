"""Where the losses of a method pull what they train together: one tower that serves several tasks goes where
the sum of their gradients points, which the longest decides.

U terms of a stage's loss, B batches
"""

import copy
import itertools

import numpy as np
import torch

from reid_core.analysis import sentences
from reid_core.data import Loader
from reid_core.methods.base import freeze_all_but

BATCHES = 3


def visualise(method):
    """What `visuals.Visuals` keeps of a method that answers sentences and images; {} of others."""
    if sentences.tasks_of(method) is None:
        return {}
    terms, products = pulls(method)
    return {"pull_terms": np.array(terms), "pulls": products.astype(np.float32)}


def pulls(method, batches=BATCHES):
    """(names of the terms of a method's last stage that weigh something, (B, U, U) scalar products of
    the gradients of the weighted terms on the image tower), for the first batches of that stage. The method
    stays as it is."""
    method = copy.deepcopy(method, {id(method.data): method.data})  # running statistics move, data do not
    stage = method.stages()[-1]
    freeze_all_but(method, stage.groups)
    with torch.no_grad():
        stage.prepare()
    loader = Loader.of_stage(method.data, method.size, stage, device=next(method.parameters()).device)
    tower = [p for p in method.image.parameters() if p.requires_grad]
    weights = {name: weight for name, weight in stage.weights.items() if weight}
    products = []
    for batch in itertools.islice(loader.batches(0, loader.plan(0)), batches):
        terms = stage.losses(batch).terms
        products.append(gram([weight * terms[name] for name, weight in weights.items()], tower))
    return list(weights), np.stack(products)


def gram(terms, parameters):
    """(U, U) scalar products of the gradients of terms on all parameters; zeros of a term that reads none.
    Added up one parameter at a time: a tower's gradients in double precision side by side fill memories."""
    more = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    found = [torch.autograd.grad(term, parameters, **more) for term in terms]
    total = 0
    for some in zip(*found):  # of one parameter, by every term
        there = torch.stack([one.flatten() for one in some]).double()  # (U, P)
        total = total + there @ there.T
    return total.cpu().numpy()

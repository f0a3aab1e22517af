"""What each loss of a joint training wants of the shared tower: gradients, and the table of them."""

import re

import numpy as np
import pytest
import torch
from test_hpl import built, step
from test_kept_visuals import noise

from reid_core.analysis import pulls
from reid_core.data import load_data
from reid_core.methods import hpl
from reid_core.methods.base import total
from reid_core.report import pulls as report
from reid_core.report import tables

TERMS = (*hpl.BASE, "identity prompts")


@pytest.fixture(scope="module")
def joint():
    return load_data("world_text@8+world_msmt@8", "smoke")


@pytest.fixture(scope="module")
def measured(joint):
    method = built(joint).eval()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    terms, products = pulls.pulls(method, batches=1)
    return method, before, terms, products


def test_the_products_add_up_to_the_gradient_of_the_training(measured, joint):
    _, _, terms, products = measured
    method = built(joint)
    stage, batch = step(method, joint, 1)
    assert terms == list(stage.weights), "all weigh something"
    total(stage.losses(batch).terms, stage.weights).backward()
    whole = sum(p.grad.double().square().sum() for p in method.image.parameters() if p.grad is not None)
    assert products.shape == (1, len(terms), len(terms))
    assert products.sum() == pytest.approx(float(whole), rel=1e-4)


def test_looking_at_gradients_changes_nothing_of_a_method(measured):
    method, before, *_ = measured
    assert not method.training
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())


def test_a_loss_that_weighs_nothing_is_left_out(joint):
    terms, products = pulls.pulls(built(joint, **hpl.NO_PROMPTS).eval(), batches=1)
    assert terms == list(hpl.BASE)
    assert np.all(np.diagonal(products[0]) > 0)


def of(lengths):
    """Visuals with orthogonal gradients of such lengths."""
    products = np.diag(np.square(lengths, dtype=np.float64))[None]
    return noise()._replace(pull_terms=np.array(TERMS), pulls=products.astype(np.float32))


def test_the_table_adds_the_losses_of_each_kind_of_query():
    told = report.table({"HPL": of([6, 8, 3, 4, 1]), "joint": tables.NOT_RUN}).data
    assert ": HPL 2.0" in told, "10 against 5"
    lines = [re.sub(r"<[^>]*>", " ", row).split() for row in told.partition("<tbody>")[2].split("<tr>")[1:]]
    assert ["both", "for", "sentences", "10.0"] in lines and ["both", "for", "images", "5.0"] in lines
    assert ["cosine", "between", "the", "two", "0.00"] in lines
    assert ["identity", "prompts", "1.0"] in lines


def test_the_cosine_of_two_kinds_of_query_is_that_of_the_sums_of_their_gradients():
    gradients = np.random.default_rng(0).standard_normal((len(TERMS), 7))
    made = noise()._replace(pull_terms=np.array(TERMS), pulls=(gradients @ gradients.T)[None])
    one, other = gradients[:2].sum(0), gradients[2:4].sum(0)
    expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert report.Pulls(made).cosine(hpl.BASE[:2], hpl.BASE[2:]) == pytest.approx(expected)


def test_visuals_of_earlier_versions_have_a_placeholder_in_place_of_the_table():
    assert tables.NOT_RUN in report.table({"HPL": noise(), "joint": tables.STALE}).data

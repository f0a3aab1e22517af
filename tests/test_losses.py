"""Losses against sums written out, and their edges. Published values are in fidelity."""

from math import exp, log

import pytest
import torch
import torch.nn.functional as F

from reid_core import losses

G = torch.Generator().manual_seed(0)
V, T = torch.randn(6, 5, generator=G), torch.randn(6, 5, generator=G)
Y = torch.tensor([0, 0, 1, 2, 2, 2])


def cosine(a, b):
    return F.cosine_similarity(a, b, dim=0).item()


def test_supervised_contrastive_matches_the_sum_written_out():
    loss = 0.0
    for n in range(6):
        positives = [p for p in range(6) if Y[p] == Y[n]]
        everything = sum(exp(cosine(V[n], T[i]) / 0.5) for i in range(6))
        loss -= sum(log(exp(cosine(V[n], T[p]) / 0.5) / everything) for p in positives) / len(positives)
    assert losses.supervised_contrastive(V, T, Y, Y, 0.5).item() == pytest.approx(loss / 6, rel=1e-5)


def test_a_row_without_a_positive_counts_as_zero():
    ids = torch.tensor([9, 0])
    alone = losses.supervised_contrastive(V[:2], T, ids, Y)
    one = losses.supervised_contrastive(V[1:2], T, ids[1:], Y)
    assert alone.item() == pytest.approx(one.item() / 2)


def test_triplet_matches_the_sum_written_out_for_unequal_identities():
    loss = 0.0
    for i in range(6):
        distances = [(V[i] - V[j]).norm().item() for j in range(6)]
        near = max(d for j, d in enumerate(distances) if Y[j] == Y[i])
        far = min(d for j, d in enumerate(distances) if Y[j] != Y[i])
        loss += max(0.0, near - far + 0.3)
    assert losses.batch_hard_triplet(V, Y, 0.3).item() == pytest.approx(loss / 6, rel=1e-4)


def test_losses_under_autocast_are_those_without(monkeypatch):
    plain = losses.batch_hard_triplet(V * 20, Y), losses.supervised_contrastive(V, T, Y, Y, 0.07)
    with torch.autocast("cpu", torch.bfloat16):
        cast = losses.batch_hard_triplet(V * 20, Y), losses.supervised_contrastive(V, T, Y, Y, 0.07)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast))


def test_perfect_alignment_of_k_images_bottoms_out_at_log_k():
    ids = torch.arange(4).repeat_interleave(4)
    anchors = torch.eye(4)[ids]
    assert losses.supervised_contrastive(anchors, anchors, ids, ids, 0.01).item() == pytest.approx(
        log(4), abs=1e-5
    )


def test_pair_contrast_in_both_directions_is_clips_loss():
    logits = 10 * F.normalize(V, dim=1) @ F.normalize(T, dim=1).T
    wanted = (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6))) / 2
    assert ((losses.pair_contrast(V, T, 10) + losses.pair_contrast(T, V, 10)) / 2).item() == pytest.approx(
        wanted.item()
    )


def test_one_centre_for_everybody_is_far_from_everybody_else_only():
    same = torch.ones(4, 3)
    assert losses.centre_l1(same, torch.tensor([0, 0, 1, 1])).item() == 0
    assert losses.centre_l1(V, torch.arange(6)).item() == 0
    assert losses.centre_l1(V, torch.zeros(6, dtype=torch.long)).item() > 0


def test_distillation_is_zero_between_equals_and_teaches_only_the_student():
    student, teacher = V.clone().requires_grad_(), V.clone().requires_grad_()
    loss = losses.logit_distillation(student, teacher, 4.0) + losses.feature_distillation(
        [student], [teacher]
    )
    assert loss.item() == pytest.approx(0, abs=1e-6)
    (
        losses.logit_distillation(student, teacher + T, 4.0)
        + losses.feature_distillation([student], [teacher + 1])
    ).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_relations_that_did_not_move_have_no_divergence():
    attributes = torch.randn(5, 4, 8, generator=G)
    assert losses.relation_divergence(attributes, attributes.clone()).item() == pytest.approx(0, abs=1e-6)
    assert losses.relation_divergence(attributes, attributes.roll(1, 0), 0.1).item() > 0.01


def test_orthogonality_is_zero_for_a_basis_and_one_for_copies():
    assert losses.orthogonality(torch.eye(4).expand(3, 4, 4)).item() == pytest.approx(0)
    assert losses.orthogonality(torch.ones(3, 4, 4)).item() == pytest.approx(1)


def test_modality_contrast_is_the_log_of_their_number_when_sentences_are_alike():
    assert losses.modality_contrast(torch.randn(7, 3, 5), torch.ones(3, 5), 0.5).item() == pytest.approx(
        3 * log(3), rel=1e-5
    )


def test_prototypes_pull_the_mean_of_a_batch_and_not_its_members():
    centre = torch.randn(4, 8, generator=G)
    around = centre + torch.tensor([[1.0], [-1.0]]).unsqueeze(2) * torch.randn(1, 4, 8, generator=G)
    assert losses.prototype_distance(around, centre).item() == pytest.approx(0, abs=1e-6)

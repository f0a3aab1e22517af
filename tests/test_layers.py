"""The shared parts."""

import torch
from torch import nn

from reid_core.layers import CrossAttention, Head, Inversion, Neck
from reid_core.precision import in_float32


def test_a_function_in_float32_ignores_autocast():
    @in_float32
    def product(a, b):
        return a @ b

    a = torch.randn(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert product(a, a).dtype == torch.float32 and torch.equal(product(a, a), product(a, a.clone()))
        assert (a @ a).dtype == torch.bfloat16
        assert product(a.bfloat16(), a).dtype == torch.float32
    assert product(a.double(), a.double()).dtype == torch.float64


def test_the_bias_of_a_neck_is_fixed_unless_it_is_freed():
    assert Neck(4).fixed == ("bias",) and Neck(4, bias=True).fixed == ()


def test_a_head_is_a_neck_and_a_classifier_without_bias():
    head = Head(6, 3)
    x = torch.randn(10, 6)
    wanted = (
        nn.functional.batch_norm(x, None, None, head.neck.weight, head.neck.bias, True)
        @ head.classifier.weight.T
    )
    assert torch.allclose(head(x), wanted, atol=1e-6) and head.classifier.bias is None


def test_cross_attention_remembers_its_maps_only_when_asked():
    decoder = CrossAttention(queries=4, width=16, heads=2)
    tokens = torch.randn(3, 7, 16)
    assert decoder(tokens).shape == (3, 4, 16) and decoder.maps is None
    decoder.remember = True
    decoder(tokens)
    assert decoder.maps.shape == (3, 2, 4, 7) and torch.allclose(decoder.maps.sum(-1), torch.ones(3, 2, 4))


def test_pseudo_words_come_out_with_unit_variance():
    words = Inversion(width=8, hidden=16, words=12, count=2)(torch.randn(50, 8))
    assert words.shape == (50, 2, 12)
    assert torch.allclose(words.std(0, correction=0), torch.ones(2, 12), atol=0.05)

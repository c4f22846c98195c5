"""One vector per text: which states count, which do not."""

import pytest
import torch

from cardioembed_lib import pooling

HIDDEN = torch.tensor(  # (B=2, T=4, D=2)
    [
        [[1.0, 10.0], [3.0, 20.0], [5.0, 60.0], [99.0, 99.0]],
        [[99.0, 99.0], [99.0, 99.0], [2.0, 4.0], [6.0, 8.0]],
    ]
)
MASK = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1]])  # the first text is padded right, the second left
BY_HAND = {"mean": [[3.0, 30.0], [4.0, 6.0]], "cls": [[1.0, 10.0], [2.0, 4.0]], "last": [[5.0, 60.0], [6.0, 8.0]]}
EACH = pytest.mark.parametrize("how", BY_HAND)


@EACH
def test_numbers_by_hand_for_both_padding_sides(how):
    assert pooling.pool(HIDDEN, MASK, how).tolist() == BY_HAND[how]


@EACH
@pytest.mark.parametrize("kind", [torch.bool, torch.int32, torch.int64, torch.float32])
def test_mask_may_be_of_any_kind(how, kind):
    assert pooling.pool(HIDDEN, MASK.to(kind), how).tolist() == BY_HAND[how]


@EACH
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), -1e30])
def test_what_stands_in_the_padding_does_not_matter(how, rubbish):
    hidden = HIDDEN.masked_fill(MASK.unsqueeze(-1) == 0, rubbish)
    assert pooling.pool(hidden, MASK, how).tolist() == BY_HAND[how]


@EACH
def test_padding_side_and_width_do_not_matter(how):
    text = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    vectors = []
    for before, after in [(0, 0), (4, 0), (0, 4), (2, 3)]:
        hidden = torch.cat([torch.full((before, 3), 7.0), text, torch.full((after, 3), -7.0)])
        mask = torch.tensor([[0] * before + [1] * 5 + [0] * after])
        vectors.append(pooling.pool(hidden.unsqueeze(0), mask, how))
    for other in vectors[1:]:
        torch.testing.assert_close(other, vectors[0], rtol=0, atol=1e-6)


@EACH
def test_a_text_of_one_token_is_that_token(how):
    hidden, mask = torch.randn(1, 3, 4), torch.tensor([[0, 1, 0]])
    assert torch.equal(pooling.pool(hidden, mask, how), hidden[:, 1])


@EACH
def test_type_stays_and_gradients_reach_real_tokens_only(how):
    assert pooling.pool(HIDDEN.bfloat16(), MASK, how).dtype == torch.bfloat16
    hidden = HIDDEN.clone().requires_grad_()
    pooling.pool(hidden, MASK, how).sum().backward()
    assert hidden.grad[MASK == 0].abs().sum() == 0
    assert hidden.grad[MASK == 1].abs().sum() > 0


@EACH
def test_a_row_without_a_real_token_is_named(how):
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"rows \[1\] have no real token \(mask is all zero\)"):
        pooling.pool(HIDDEN, mask, how)


def test_unknown_pooling_is_refused_with_the_known_ones():
    with pytest.raises(KeyError, match="no pooling 'max'; known: mean, cls, last"):
        pooling.pool(HIDDEN, MASK, "max")


def test_width_cuts_before_the_length_becomes_one():
    vectors = torch.tensor([[3.0, 4.0, 12.0]])
    torch.testing.assert_close(pooling.normalise(vectors), vectors / 13)
    torch.testing.assert_close(pooling.normalise(vectors, width=2), torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(pooling.normalise(vectors, width=3), pooling.normalise(vectors))


def test_unit_vectors_are_float32_whatever_came_in():
    out = pooling.normalise(torch.randn(4, 16, generator=torch.Generator().manual_seed(0)).bfloat16())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("width", [0, -1, 4])
def test_impossible_width_is_refused(width):
    with pytest.raises(ValueError, match=rf"width {width} is outside 1\.\.3, the model's width"):
        pooling.normalise(torch.ones(1, 3), width)

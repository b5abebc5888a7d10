"""Live bytes are those that can be counted by hand, with values and without."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reelign.training.memory import META, LiveMemory, ShapeMemory, as_on_a_device

KIB = 1024


def floats(kib: int, *, device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.ones(kib * KIB // 4, device=device)


@pytest.mark.parametrize(("kind", "device"), [(LiveMemory, "cpu"), (ShapeMemory, "meta")])
def test_a_sum_of_products_holds_its_terms_until_nothing_does(kind: type[LiveMemory], device: str) -> None:
    held = floats(4, device=device)
    memory = kind([held]) if kind is ShapeMemory else kind([held], device=device)
    assert memory.now == 4 * KIB
    with memory:
        doubled = held * 2
        total = doubled + held
        del doubled
        view = total[:10]
    assert (memory.now, memory.peak) == (8 * KIB, 12 * KIB)
    del total
    assert memory.now == 8 * KIB
    del view
    assert memory.now == 4 * KIB


@pytest.mark.parametrize(("kind", "device"), [(LiveMemory, "cpu"), (ShapeMemory, "meta")])
def test_a_backward_pass_holds_what_was_saved_for_it(kind: type[LiveMemory], device: str) -> None:
    """Of exp(x).sum(): x, exp(x), its gradient and x's own, the last two in one moment."""
    x = floats(4, device=device).requires_grad_()
    memory = kind([x]) if kind is ShapeMemory else kind([x], device=device)
    with memory:
        x.exp().sum().backward()
    # The sum is 4 bytes and its gradient too; expanded, it takes no more.
    assert memory.peak == 12 * KIB + 8
    assert memory.now == 8 * KIB


def test_a_peak_is_told_apart_by_what_made_it() -> None:
    there = floats(1, device=META)
    memory = ShapeMemory([there])
    with memory:
        memory.label = "first"
        kept = floats(8, device=META)
        memory.label = "second"
        both = [floats(2, device=META), floats(2, device=META)]
        del both
        floats(3, device=META)
    assert memory.at_peak == {"": KIB, "first": 8 * KIB, "second": 4 * KIB}
    assert memory.live == {"": KIB, "first": 8 * KIB, "second": 0}
    del kept


def test_a_copy_to_the_host_is_the_hosts_and_takes_nothing() -> None:
    memory = ShapeMemory()
    with memory:
        large = torch.empty(64, 1 << 20, device=META)
        away = large.to("cpu")
        assert (memory.host, memory.now) == (256 * KIB * KIB, 256 * KIB * KIB)
        back = away.to(META)
        assert memory.now == 512 * KIB * KIB
        assert back.shape == large.shape
    assert away.untyped_storage().nbytes() == 4
    del away
    assert memory.host == 0


def test_values_that_are_not_there_read_as_nothing_and_masks_let_all_through() -> None:
    with ShapeMemory():
        rows = torch.empty(6, 3, device=META)
        assert float(rows.sum()) == 0
        assert not bool((rows > 0).any())
        assert rows[rows[:, 0] > 0].shape == (6, 3)
        assert (rows > 0).nonzero().shape == (18, 2)
        assert (rows + torch.ones(3)).is_meta
        assert rows.sum(dim=0).cpu().tolist() == [0, 0, 0]


def test_attention_without_values_makes_no_matrix_of_all_tokens() -> None:
    tokens = 4096
    query = torch.empty(1, 2, tokens, 8, device=META, requires_grad=True)
    memory = ShapeMemory([query])
    with as_on_a_device(), memory:
        nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
    assert memory.peak < tokens * tokens
    assert query.grad is not None
    assert query.grad.shape == query.shape


def test_what_is_remembered_of_an_operation_is_what_it_makes() -> None:
    x = torch.empty(2, 3, 8, 5, device=META)
    for _ in range(2):
        memory = ShapeMemory([x])
        with memory:
            turned = x.transpose(1, 3)
            whole, half = turned * 1, turned.bfloat16() * 1.0
        assert whole.stride() == turned.stride() != torch.empty(2, 5, 8, 3).stride()
        assert (whole.dtype, half.dtype) == (torch.float32, torch.bfloat16)
        assert whole.untyped_storage()._cdata != x.untyped_storage()._cdata
        assert memory.now == 4 * x.numel() + 4 * x.numel() + 2 * x.numel()
    ints = torch.empty(4, dtype=torch.long, device=META)
    with ShapeMemory():
        assert [(ints * 2).dtype, (ints * 2.0).dtype, (ints * 2).dtype] == [torch.long, torch.float32, torch.long]


def test_a_mask_lets_everything_through_and_its_complement_nothing() -> None:
    x, mask = torch.empty(2, 6, 3, device=META), torch.empty(2, 6, device=META, dtype=torch.long)
    with ShapeMemory():
        for row, kept in zip(x, mask.bool(), strict=True):
            assert row[kept].shape == (6, 3)
            assert row[~kept].shape == (0, 3)
            assert row[~~kept].shape == (6, 3)
            # A family that puts a text's own tokens before the padding has as many as before.
            assert torch.cat([row[kept], row[~kept]]).shape == row.shape

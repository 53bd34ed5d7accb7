"""The collective operations where training runs in one process; test_data_parallel.py has two."""

from __future__ import annotations

import torch

from raysvq.model.collective import mean_over_ranks, sum_over_ranks, take_from_first, world_size


def test_one_process_is_its_own_sum() -> None:
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    assert world_size() == 1
    for combined in (sum_over_ranks(value), mean_over_ranks(value)):
        assert torch.equal(combined, value)
        assert not combined.requires_grad
    copy = sum_over_ranks(value)
    copy.zero_()
    assert value.tolist() == [1, 2]
    assert take_from_first(value) is value

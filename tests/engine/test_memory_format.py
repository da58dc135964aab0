import copy

import pytest
import torch
from torch import nn

from ibkd_mm.engine.memory_format import match_state_to_weights, to_memory_format


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.arange(75.0).view(1, 3, 5, 5) / 75).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(("before", "after"), [(None, "channels_last"), ("channels_last", None)])
def test_what_an_optimizer_kept_goes_on_with_weights_that_lie_otherwise(
    before: str | None, after: str | None
) -> None:
    torch.manual_seed(0)
    straight = nn.Conv2d(3, 4, 3)
    to_memory_format(straight, before)
    first = torch.optim.AdamW(straight.parameters(), lr=0.1, fused=True)
    stepped(straight, first)
    resumed = copy.deepcopy(straight)
    to_memory_format(resumed, after)
    second = torch.optim.AdamW(resumed.parameters(), lr=0.1, fused=True)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    match_state_to_weights(second)
    for model, optimizer in ((straight, first), (resumed, second)):
        stepped(model, optimizer)
    assert second.state[resumed.weight]["exp_avg"].stride() == resumed.weight.stride()
    torch.testing.assert_close(resumed.weight, straight.weight, rtol=1e-5, atol=1e-6)

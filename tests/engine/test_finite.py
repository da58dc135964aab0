import pytest
import torch
from torch import nn

from ibkd_mm.engine.finite import all_finite, join_first, loss_terms, non_finite_modules, non_finite_terms

NAN, INF = float("nan"), float("inf")


def test_terms_are_summed_as_the_training_sums_them() -> None:
    losses = {
        "loss_cls": torch.tensor([1.0, 3.0]),
        "loss_mask": [torch.tensor(1.0), torch.tensor([[2.0, 4.0]])],
        "accuracy": torch.tensor(NAN),
        "loss_none": [],
    }
    assert {name: float(value) for name, value in loss_terms(losses).items()} == {
        "loss_cls": 2,
        "loss_mask": 4,
    }


def test_terms_keep_their_gradients() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    loss_terms({"loss": [weight * 2, weight.expand(4)]})["loss"].backward()
    assert weight.grad == 3  # 2 of the one, 1 of the mean of the other


@pytest.mark.parametrize("wrong", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_number_among_many_tensors_is_found(wrong: float, dtype: torch.dtype) -> None:
    tensors = [torch.ones(3, 2), torch.zeros(()), torch.empty(0), torch.ones(5, dtype=dtype)]
    assert all_finite(tensors)
    tensors[3][4] = wrong
    assert not all_finite(tensors)
    assert not all_finite(tensors[::-1])


def test_large_numbers_are_finite_though_their_squares_are_not() -> None:
    assert all_finite([torch.full((4,), 3e38)])
    assert all_finite([])


def test_terms_are_named_with_their_values() -> None:
    terms = {"loss_a": torch.tensor(NAN), "loss_b": torch.tensor(1.0), "loss_c": torch.tensor(-INF)}
    assert non_finite_terms(terms) == ["loss_a is nan", "loss_c is -inf"]


def test_modules_are_named_in_order_and_the_rest_counted() -> None:
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(6)))
    for index in (5, 0, 1, 4):
        model[index].weight.grad, model[index].bias.grad = torch.full((1, 1), NAN), torch.full((1,), NAN)
    model[2].weight.grad = torch.ones(1, 1)
    statistics = {"neck.bn.running_var": torch.tensor(INF), "neck.bn.running_mean": torch.tensor(0.0)}
    assert non_finite_modules(model, statistics) == [
        "the gradient of 0, 1, 4 and 1 more is not finite",
        "the statistics of neck.bn is not finite",
    ]
    assert non_finite_modules(nn.Linear(1, 1), {}) == [
        "a gradient is not finite, of a parameter that is not the model's"
    ]


def test_few_names_are_all_shown() -> None:
    assert join_first(["a", "b", "c"]) == "a, b, c"

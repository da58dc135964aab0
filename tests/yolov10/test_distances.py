import pytest
import torch
from torch.nn import functional as F

from ibkd_mm.yolov10.anchors import make_anchors
from ibkd_mm.yolov10.distances import DistanceDecoder, encode_distances


def test_anchors_are_the_centres_of_the_cells_level_by_level() -> None:
    anchors = make_anchors([torch.empty(1, 1, 2, 3), torch.empty(1, 1, 1, 2)], (8, 16))
    assert anchors.tolist() == [
        *([4, 4, 8], [12, 4, 8], [20, 4, 8], [4, 12, 8], [12, 12, 8], [20, 12, 8]),
        *([8, 8, 16], [24, 8, 16]),
    ]


def test_a_box_by_hand() -> None:
    """Bins 1 and 3 alike to the left: distance 2; certain elsewhere. All in strides of 8."""
    logits = torch.full((1, 4, 16), -1e4)
    logits[0, 0, [1, 3]] = 0.0
    for side, distance in ((1, 0), (2, 15), (3, 4)):
        logits[0, side, distance] = 0.0
    boxes = DistanceDecoder(bins=16)(logits.reshape(1, 64, 1), torch.tensor([[20.0, 12.0, 8.0]]))
    assert boxes.tolist() == [[[20 - 16, 12 - 0, 20 + 120, 12 + 32]]]


def test_equal_probabilities_are_half_the_maximum_distance() -> None:
    boxes = DistanceDecoder(bins=16)(torch.ones(2, 64, 3), torch.tensor([[100.0, 100.0, 8.0]]).repeat(3, 1))
    assert torch.allclose(boxes, torch.tensor([40.0, 40.0, 160.0, 160.0]).expand(2, 3, 4))


def test_decoding_what_was_encoded_gives_the_box_back() -> None:
    anchors = torch.tensor([[20.0, 12.0, 8.0], [8.0, 8.0, 16.0]])
    boxes = torch.tensor([[3.0, 1.5, 60.0, 40.0], [2.0, 0.0, 70.0, 9.0]])
    distances = encode_distances(boxes, anchors, 16)
    assert distances[0].tolist() == [17 / 8, 10.5 / 8, 5.0, 3.5]
    below = distances.long()
    share = (distances - below).unsqueeze(-1)
    shares = F.one_hot(below, 16) * (1 - share) + F.one_hot(below + 1, 16) * share
    logits = shares.clamp(min=1e-30).log().reshape(2, 64).T.unsqueeze(0)
    assert torch.allclose(DistanceDecoder(bins=16)(logits, anchors)[0], boxes, atol=1e-4)


def test_targets_out_of_range_are_clamped() -> None:
    distances = encode_distances(
        torch.tensor([[-500.0, 30.0, 400.0, 20.0]]), torch.tensor([[20.0, 12.0, 8.0]]), 16
    )
    assert distances[0].tolist() == pytest.approx([14.99, 0.0, 14.99, 1.0])


def test_half_precision_is_decoded_in_float32() -> None:
    logits = torch.randn(1, 64, 5)
    anchors = torch.rand(5, 3) * 100
    decoder = DistanceDecoder(bins=16)
    assert decoder(logits.half(), anchors).dtype == torch.float32
    assert torch.allclose(decoder(logits.half(), anchors), decoder(logits.half().float(), anchors))


def test_the_values_are_fixed() -> None:
    decoder = DistanceDecoder(bins=4)
    assert decoder.values.tolist() == [0, 1, 2, 3]
    assert not decoder.values.requires_grad

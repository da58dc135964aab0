import torch

from ibkd_mm.yolov10 import HeadOutputs
from ibkd_mm.yolov10.detections import detect, select_best
from ibkd_mm.yolov10.distances import DistanceDecoder


def test_the_best_pairs_among_the_best_anchors() -> None:
    # classes x anchors; by their best class the anchors rank 2, 0, 1, 3
    logits = torch.tensor([[[3.0, 0.0, 4.0, -9.0], [2.0, 2.5, 3.5, -9.0]]])
    scores, labels, anchors = select_best(logits, 2)
    # anchors 2 and 0 are in; their four pairs are 4, 3.5, 3, 2
    assert scores[0].tolist() == torch.tensor([4.0, 3.5]).sigmoid().tolist()
    assert (labels.tolist(), anchors.tolist()) == ([[0, 1]], [[2, 2]])
    scores, labels, anchors = select_best(logits, 3)
    assert (labels.tolist(), anchors.tolist()) == ([[0, 1, 0]], [[2, 2, 0]])


def test_equals_a_sort_of_all_pairs_of_the_anchors_kept() -> None:
    torch.manual_seed(1)
    logits = torch.randn(3, 7, 50)
    scores, labels, anchors = select_best(logits, 20)
    for image in range(3):
        kept = logits[image].amax(0).argsort(descending=True)[:20].tolist()
        pairs = sorted(((logits[image, c, a].item(), c, a) for a in kept for c in range(7)), reverse=True)[
            :20
        ]
        assert labels[image].tolist() == [c for _, c, _ in pairs]
        assert anchors[image].tolist() == [a for _, _, a in pairs]
        assert torch.allclose(scores[image], torch.tensor([z for z, _, _ in pairs]).sigmoid())


def test_one_class_gives_each_anchor_once_and_few_anchors_give_few() -> None:
    _, labels, anchors = select_best(torch.randn(2, 1, 12), 300)
    assert labels.shape == (2, 12)
    assert not labels.any()
    assert anchors.sort().values.tolist() == [list(range(12))] * 2


def test_boxes_and_coefficients_are_those_of_the_anchors() -> None:
    torch.manual_seed(0)
    outputs = HeadOutputs(torch.randn(2, 3, 9), torch.randn(2, 64, 9), torch.randn(2, 5, 9))
    anchors, decoder = torch.rand(9, 3) * 50, DistanceDecoder(bins=16)
    found = detect(outputs, anchors, decoder, 4)
    everywhere = decoder(outputs.distance_logits, anchors)
    _, _, best = select_best(outputs.class_logits, 4)
    for image in range(2):
        assert torch.allclose(found.boxes[image], everywhere[image, best[image]], atol=1e-3)
        assert torch.equal(found.coefficients[image], outputs.coefficients[image, :, best[image]].T)
    assert detect(outputs._replace(coefficients=None), anchors, decoder, 4).coefficients is None

"""What a batch holds, in a few lines: its numbers, its instances, and what is odd about them."""

from typing import Any

from torch import Tensor


def describe_batch(batch: Any) -> list[str]:
    """Describe pictures and instances of a batch as a loader gives it."""
    if not isinstance(batch, dict):
        return []
    samples = [one for one in batch.get("data_samples") or [] if hasattr(one, "gt_instances")]
    return _pictures(batch.get("inputs")) + (_instances(samples) if samples else [])


def _pictures(inputs: Any) -> list[str]:
    pictures = [
        one for one in (inputs if inputs is not None else []) if isinstance(one, Tensor) and one.numel()
    ]
    if not pictures:
        return ["batch: no pictures"]
    shapes = ", ".join(dict.fromkeys("x".join(map(str, one.shape)) for one in pictures))
    spoilt = sum(int((~one.isfinite()).sum()) for one in pictures)
    finite = [kept for kept in (one[one.isfinite()] for one in pictures) if kept.numel()]
    values = "no finite value"
    if finite:
        low, high = min(float(one.min()) for one in finite), max(float(one.max()) for one in finite)
        values = f"values {low:.6g} to {high:.6g}"
    return [f"batch: {len(pictures)} pictures of {shapes}; {values}; {spoilt} not finite"]


def _instances(samples: list[Any]) -> list[str]:
    counts = [len(sample.gt_instances) for sample in samples]
    boxes = [_boxes(sample.gt_instances) for sample in samples]
    sizes = [one[:, 2:] - one[:, :2] for one in boxes]
    flat = sum(int((one <= 0).any(dim=1).sum()) for one in sizes)
    spoilt = sum(int((~one.isfinite()).any(dim=1).sum()) for one in sizes)
    return [
        f"instances per picture: {', '.join(map(str, counts))}; pictures without: {counts.count(0)}",
        f"boxes without area: {flat}; boxes not finite: {spoilt}",
    ]


def _boxes(instances: Any) -> Tensor:
    boxes = instances.get("bboxes")
    boxes = getattr(boxes, "tensor", boxes)
    return boxes if isinstance(boxes, Tensor) else Tensor(0, 4)

"""Describe a batch in a few lines: the range of its values, its instances, and what is unusual in them."""

from typing import Any

from torch import Tensor


def describe_batch(batch: Any) -> list[str]:
    """Describe images and instances of a batch from a data loader."""
    if not isinstance(batch, dict):
        return []
    samples = [sample for sample in batch.get("data_samples") or [] if hasattr(sample, "gt_instances")]
    return _describe_images(batch.get("inputs")) + (_describe_instances(samples) if samples else [])


def _describe_images(inputs: Any) -> list[str]:
    items = inputs if inputs is not None else []
    images = [image for image in items if isinstance(image, Tensor) and image.numel()]
    if not images:
        return ["batch: no images"]
    shapes = ", ".join(dict.fromkeys("x".join(map(str, image.shape)) for image in images))
    non_finite = sum(int((~image.isfinite()).sum()) for image in images)
    finite = [values for values in (image[image.isfinite()] for image in images) if values.numel()]
    description = "no finite value"
    if finite:
        low, high = min(float(values.min()) for values in finite), max(float(v.max()) for v in finite)
        description = f"values {low:.6g} to {high:.6g}"
    return [f"batch: {len(images)} images of {shapes}; {description}; {non_finite} not finite"]


def _describe_instances(samples: list[Any]) -> list[str]:
    counts = [len(sample.gt_instances) for sample in samples]
    boxes = [_boxes(sample.gt_instances) for sample in samples]
    sizes = [box[:, 2:] - box[:, :2] for box in boxes]
    empty = sum(int((size <= 0).any(dim=1).sum()) for size in sizes)
    non_finite = sum(int((~size.isfinite()).any(dim=1).sum()) for size in sizes)
    return [
        f"instances per image: {', '.join(map(str, counts))}; images without: {counts.count(0)}",
        f"boxes without area: {empty}; boxes not finite: {non_finite}",
    ]


def _boxes(instances: Any) -> Tensor:
    boxes = instances.get("bboxes")
    boxes = getattr(boxes, "tensor", boxes)
    return boxes if isinstance(boxes, Tensor) else Tensor(0, 4)

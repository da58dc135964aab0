"""Kinds of findings with their severities, a single finding, and the report on a dataset."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")

Fault = tuple[str, str]
"""Kind and detail of a finding, without its place."""

_EXAMPLES = 3


class Kind(NamedTuple):
    """Errors stop a training or teach it something wrong; warnings cost data; notes are for information."""

    severity: str
    meaning: str


KINDS = {
    "dataset-unreadable": Kind(ERROR, "the annotation file or the dataset cannot be read"),
    "dataset-unknown": Kind(WARNING, "this check does not know the format of the samples"),
    "entry-malformed": Kind(ERROR, "a key is missing or invalid in an entry of the annotation file"),
    "split-empty": Kind(ERROR, "no image is left to train or test on"),
    "image-missing": Kind(ERROR, "the image file does not exist"),
    "image-undecodable": Kind(ERROR, "the image file cannot be read or decoded"),
    "image-truncated": Kind(ERROR, "the image file is truncated"),
    "image-size": Kind(ERROR, "the image size differs from the size in the annotation file"),
    "image-turned": Kind(ERROR, "the loader rotates the image (EXIF), but the annotated size is not rotated"),
    "image-id-duplicate": Kind(ERROR, "several images have the same id"),
    "image-file-duplicate": Kind(WARNING, "several image entries have the same file name"),
    "image-content-duplicate": Kind(NOTE, "several files of the split are identical"),
    "image-orientation": Kind(
        NOTE, "the loader rotates or flips the image (EXIF); do its annotations match?"
    ),
    "image-unlabelled": Kind(NOTE, "the image has no annotation"),
    "annotation-id-duplicate": Kind(ERROR, "several annotations have the same id"),
    "annotation-image-unknown": Kind(ERROR, "the annotation refers to an image that is not in the file"),
    "annotation-category-unknown": Kind(ERROR, "the annotation refers to a category that is not in the file"),
    "box-nonfinite": Kind(ERROR, "the box contains NaN or infinity"),
    "box-empty": Kind(WARNING, "the box has no width or no height; training drops the annotation"),
    "box-tiny": Kind(NOTE, "the box is less than one pixel wide or high; training drops the annotation"),
    "box-outside": Kind(WARNING, "the box extends beyond the image (is it x1, y1, x2, y2, not x, y, w, h?)"),
    "area-not-positive": Kind(WARNING, "the area is not positive; training drops the annotation"),
    "mask-missing": Kind(ERROR, "the annotation has no mask, but the pipeline loads masks"),
    "mask-malformed": Kind(ERROR, "the segmentation is neither a list of polygons nor an RLE"),
    "mask-empty": Kind(WARNING, "the RLE contains no pixel of the instance"),
    "polygon-nonfinite": Kind(ERROR, "the polygon contains NaN or infinity"),
    "polygon-odd": Kind(WARNING, "the polygon has an odd number of coordinates; training drops it"),
    "polygon-short": Kind(WARNING, "the polygon has fewer than three points; training drops it"),
    "polygon-flat": Kind(WARNING, "the polygon has no area"),
    "polygon-outside": Kind(WARNING, "the polygon extends beyond the image"),
    "rle-size": Kind(ERROR, "the size of the RLE differs from the size of the image"),
    "rle-counts": Kind(ERROR, "the runs of the RLE do not add up to the size of the image"),
    "rle-undecodable": Kind(ERROR, "the counts of the RLE cannot be decoded"),
    "class-setting": Kind(ERROR, "metainfo.classes is a string instead of a list of names"),
    "class-none": Kind(ERROR, "the file has none of the config's classes"),
    "class-shifted": Kind(
        ERROR, "annotations get a wrong class: labels follow the category order of the file"
    ),
    "class-unknown": Kind(
        WARNING, "a class of the file is missing from the config; its annotations are dropped"
    ),
    "class-absent": Kind(WARNING, "a class of the config is missing from the file"),
    "category-duplicate": Kind(ERROR, "several categories have the same id or name"),
    "segmap-missing": Kind(ERROR, "the segmentation map does not exist"),
    "segmap-undecodable": Kind(ERROR, "the segmentation map cannot be read or decoded"),
    "segmap-truncated": Kind(ERROR, "the segmentation map is truncated"),
    "segmap-size": Kind(ERROR, "the size of the segmentation map differs from the size of its image"),
    "segmap-label": Kind(ERROR, "the segmentation map contains a label that is not a class"),
    "overlap-file": Kind(WARNING, "the image is also in the training set"),
    "overlap-content": Kind(WARNING, "the training set contains an identical image"),
    "overlap-name": Kind(NOTE, "the training set has another image with this name: fine for numbers"),
}


@dataclass(frozen=True)
class Finding:
    """A fault and its place."""

    kind: str
    detail: str = ""
    file: str | None = None
    image: int | str | None = None
    annotation: int | str | None = None

    @property
    def severity(self) -> str:
        """Return 'error', 'warning' or 'note'."""
        return KINDS[self.kind].severity

    def __str__(self) -> str:
        parts = [
            "" if self.annotation is None else f"annotation {self.annotation}",
            "" if self.image is None else f"image {self.image}",
            self.file or "",
        ]
        where = ", ".join(filter(None, parts))
        text = ": ".join(filter(None, [where, self.detail]))
        return text.encode("utf-8", "backslashreplace").decode()  # file names may be invalid text

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are set, for JSON."""
        fields = {
            "file": self.file,
            "image_id": self.image,
            "annotation_id": self.annotation,
            "detail": self.detail or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass
class Report:
    """Findings in one dataset."""

    name: str
    dataset: str
    source: str
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, faults: Iterable[Fault], **where: Any) -> None:
        """Add faults that were all found in one place."""
        self.findings.extend(Finding(kind, detail, **where) for kind, detail in faults)

    def count(self, severity: str) -> int:
        """Count the findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def by_kind(self) -> dict[str, list[Finding]]:
        """Group the findings, most severe first."""
        groups: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
        for finding in self.findings:
            groups[finding.kind].append(finding)
        order = sorted(KINDS, key=lambda kind: SEVERITIES.index(KINDS[kind].severity))
        return {kind: groups[kind] for kind in order if groups[kind]}

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        findings = [
            {
                "kind": kind,
                **KINDS[kind]._asdict(),
                "count": len(found),
                "items": [finding.as_dict() for finding in found],
            }
            for kind, found in self.by_kind().items()
        ]
        head = {"name": self.name, "dataset": self.dataset, "source": self.source, "counts": self.counts}
        return {**head, "findings": findings}

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        lines = [f"{self.name}: {self.dataset} of {self.source}{': ' if counts else ''}{counts}"]
        for kind, found in self.by_kind().items():
            severity, meaning = KINDS[kind]
            lines.append(f"  {severity:<7}  {kind:<27}  {len(found):>6}  {meaning}")
            lines += [f"{'':<47}{finding}" for finding in found[:_EXAMPLES]]
            if len(found) > _EXAMPLES:
                lines.append(f"{'':<47}and {len(found) - _EXAMPLES} more")
        return "\n".join(lines if self.findings else [*lines, "  nothing found"])

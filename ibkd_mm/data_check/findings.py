"""Kinds of findings with their severities, a single finding, and the report on a dataset."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")

Fault = tuple[str, str]  # kind and detail of a finding, without its place
_EXAMPLES = 3

# severity and meaning; errors stop a training or teach it something wrong, warnings cost data
KINDS = {
    "dataset-unreadable": (ERROR, "the annotation file or the dataset cannot be read"),
    "dataset-unknown": (WARNING, "this check does not know the format of the samples"),
    "entry-malformed": (ERROR, "a key is missing or invalid in an entry of the annotation file"),
    "split-empty": (ERROR, "no image is left to train or test on"),
    "image-missing": (ERROR, "the image file does not exist"),
    "image-undecodable": (ERROR, "the image file cannot be read or decoded"),
    "image-truncated": (ERROR, "the image file is truncated"),
    "image-size": (ERROR, "the image size differs from the size in the annotation file"),
    "image-turned": (ERROR, "the loader rotates the image (EXIF), but the annotated size is not rotated"),
    "image-id-duplicate": (ERROR, "several images have the same id"),
    "image-file-duplicate": (WARNING, "several image entries have the same file name"),
    "image-content-duplicate": (NOTE, "several files of the split are identical"),
    "image-orientation": (NOTE, "the loader rotates or flips the image (EXIF); do its annotations match?"),
    "image-unlabelled": (NOTE, "the image has no annotation"),
    "annotation-id-duplicate": (ERROR, "several annotations have the same id"),
    "annotation-image-unknown": (ERROR, "the annotation refers to an image that is not in the file"),
    "annotation-category-unknown": (ERROR, "the annotation refers to a category that is not in the file"),
    "box-nonfinite": (ERROR, "the box contains NaN or infinity"),
    "box-empty": (WARNING, "the box has no width or no height; training drops the annotation"),
    "box-tiny": (NOTE, "the box is less than one pixel wide or high; training drops the annotation"),
    "box-outside": (WARNING, "the box extends beyond the image (is it x1, y1, x2, y2, not x, y, w, h?)"),
    "area-not-positive": (WARNING, "the area is not positive; training drops the annotation"),
    "mask-missing": (ERROR, "the annotation has no mask, but the pipeline loads masks"),
    "mask-malformed": (ERROR, "the segmentation is neither a list of polygons nor an RLE"),
    "mask-empty": (WARNING, "the RLE contains no pixel of the instance"),
    "polygon-nonfinite": (ERROR, "the polygon contains NaN or infinity"),
    "polygon-odd": (WARNING, "the polygon has an odd number of coordinates; training drops it"),
    "polygon-short": (WARNING, "the polygon has fewer than three points; training drops it"),
    "polygon-flat": (WARNING, "the polygon has no area"),
    "polygon-outside": (WARNING, "the polygon extends beyond the image"),
    "rle-size": (ERROR, "the size of the RLE differs from the size of the image"),
    "rle-counts": (ERROR, "the runs of the RLE do not add up to the size of the image"),
    "rle-undecodable": (ERROR, "the counts of the RLE cannot be decoded"),
    "class-setting": (ERROR, "metainfo.classes is a string instead of a list of names"),
    "class-none": (ERROR, "the file has none of the config's classes"),
    "class-shifted": (ERROR, "annotations get a wrong class: labels follow the category order of the file"),
    "class-unknown": (WARNING, "a class of the file is missing from the config; its annotations are dropped"),
    "class-absent": (WARNING, "a class of the config is missing from the file"),
    "category-duplicate": (ERROR, "several categories have the same id or name"),
    "segmap-missing": (ERROR, "the segmentation map does not exist"),
    "segmap-undecodable": (ERROR, "the segmentation map cannot be read or decoded"),
    "segmap-truncated": (ERROR, "the segmentation map is truncated"),
    "segmap-size": (ERROR, "the size of the segmentation map differs from the size of its image"),
    "segmap-label": (ERROR, "the segmentation map contains a label that is not a class"),
    "overlap-file": (WARNING, "the image is also in the training set"),
    "overlap-content": (WARNING, "the training set contains an identical image"),
    "overlap-name": (NOTE, "the training set has another image with this name: fine for numbers"),
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
        return KINDS[self.kind][0]

    def __str__(self) -> str:
        ids = (("annotation", self.annotation), ("image", self.image))
        parts = [*(f"{name} {value}" for name, value in ids if value is not None), self.file]
        text = ": ".join(filter(None, [", ".join(filter(None, parts)), self.detail]))
        return text.encode("utf-8", "backslashreplace").decode()  # file names may be invalid text

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are set, for JSON."""
        names = ("file", "image_id", "annotation_id", "detail")
        values = (self.file, self.image, self.annotation, self.detail or None)
        return {name: value for name, value in zip(names, values, strict=True) if value is not None}


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
        order = sorted(KINDS, key=lambda kind: SEVERITIES.index(KINDS[kind][0]))
        groups: dict[str, list[Finding]] = {kind: [] for kind in order}
        for finding in self.findings:
            groups[finding.kind].append(finding)
        return {kind: found for kind, found in groups.items() if found}

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        findings = []
        for kind, found in self.by_kind().items():
            head = {"kind": kind, "severity": KINDS[kind][0], "meaning": KINDS[kind][1], "count": len(found)}
            findings.append({**head, "items": [finding.as_dict() for finding in found]})
        return {**vars(self), "findings": findings}

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

"""What a check can find: the kinds with their severities, the single finding, and the report on a split."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")

Fault = tuple[str, str]
"""A kind, and what exactly was found; not yet where."""

_EXAMPLES = 3


class Kind(NamedTuple):
    """Errors stop a training or let it learn something wrong; warnings cost data; notes are to be known."""

    severity: str
    meaning: str


KINDS = {
    "dataset-unreadable": Kind(ERROR, "the annotation file or the data set cannot be read"),
    "dataset-unknown": Kind(WARNING, "a data set of a kind that this check cannot look into"),
    "entry-malformed": Kind(ERROR, "an entry of the annotation file lacks a key or has a wrong value"),
    "split-empty": Kind(ERROR, "no image is left to train or test on"),
    "image-missing": Kind(ERROR, "the image file does not exist"),
    "image-undecodable": Kind(ERROR, "the image file cannot be read or decoded"),
    "image-truncated": Kind(ERROR, "the image file is cut short"),
    "image-size": Kind(ERROR, "the image has another size than its entry says"),
    "image-turned": Kind(
        ERROR, "the loader turns the image, as its EXIF says; its entry has the size before that"
    ),
    "image-id-duplicate": Kind(ERROR, "several images have the same id"),
    "image-file-duplicate": Kind(WARNING, "several image entries name the same file"),
    "image-content-duplicate": Kind(NOTE, "several files of the split are equal byte for byte"),
    "image-orientation": Kind(
        NOTE, "the loader turns or mirrors the image, as its EXIF says; were the annotations drawn on that?"
    ),
    "image-unlabelled": Kind(NOTE, "the image has no annotation"),
    "annotation-id-duplicate": Kind(ERROR, "several annotations have the same id"),
    "annotation-image-unknown": Kind(ERROR, "the annotation is of an image that is not in the file"),
    "annotation-category-unknown": Kind(ERROR, "the annotation is of a category that is not in the file"),
    "box-nonfinite": Kind(ERROR, "the box has a number that is not finite"),
    "box-empty": Kind(WARNING, "the box has no width or no height; training leaves the annotation out"),
    "box-tiny": Kind(NOTE, "the box is less than a pixel wide or high; training leaves the annotation out"),
    "box-outside": Kind(
        WARNING, "the box reaches out of the image (is it x1, y1, x2, y2 in place of x, y, width, height?)"
    ),
    "area-not-positive": Kind(WARNING, "the area is not positive; training leaves the annotation out"),
    "mask-missing": Kind(ERROR, "the annotation has no mask, and the pipeline loads masks"),
    "mask-malformed": Kind(ERROR, "the segmentation is neither a list of polygons nor an RLE"),
    "mask-empty": Kind(WARNING, "the RLE covers no pixel"),
    "polygon-nonfinite": Kind(ERROR, "the polygon has a number that is not finite"),
    "polygon-odd": Kind(WARNING, "the polygon has an odd number of coordinates; training leaves it out"),
    "polygon-short": Kind(WARNING, "the polygon has less than three points; training leaves it out"),
    "polygon-flat": Kind(WARNING, "the points of the polygon enclose no area"),
    "polygon-outside": Kind(WARNING, "the polygon reaches out of the image"),
    "rle-size": Kind(ERROR, "the RLE has another size than the image"),
    "rle-counts": Kind(ERROR, "the runs of the RLE do not add up to the image"),
    "rle-undecodable": Kind(ERROR, "the counts of the RLE cannot be decoded"),
    "class-setting": Kind(ERROR, "metainfo.classes is a single text and not a list of names"),
    "class-none": Kind(ERROR, "the file has none of the config's classes"),
    "class-shifted": Kind(
        ERROR, "annotations get the label of another class: labels follow the order of the file's categories"
    ),
    "class-unknown": Kind(WARNING, "a class of the file that the config does not know is left out"),
    "class-absent": Kind(WARNING, "a class of the config that the file lacks"),
    "category-duplicate": Kind(ERROR, "several categories have the same id or name"),
    "segmap-missing": Kind(ERROR, "the segmentation map does not exist"),
    "segmap-undecodable": Kind(ERROR, "the segmentation map cannot be read or decoded"),
    "segmap-truncated": Kind(ERROR, "the segmentation map is cut short"),
    "segmap-size": Kind(ERROR, "the segmentation map has another size than its image"),
    "segmap-label": Kind(ERROR, "the segmentation map has a label that is no class"),
    "overlap-file": Kind(WARNING, "the image is also trained on"),
    "overlap-content": Kind(WARNING, "an image that is trained on is equal to this one byte for byte"),
    "overlap-name": Kind(
        NOTE,
        "an image that is trained on has the same name and other bytes: fine where names are numbers",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found, and where."""

    kind: str
    detail: str = ""
    file: str | None = None
    image: int | str | None = None
    annotation: int | str | None = None

    @property
    def severity(self) -> str:
        """How bad it is."""
        return KINDS[self.kind].severity

    def __str__(self) -> str:
        parts = [
            "" if self.annotation is None else f"annotation {self.annotation}",
            "" if self.image is None else f"image {self.image}",
            self.file or "",
        ]
        where = ", ".join(filter(None, parts))
        text = ": ".join(filter(None, [where, self.detail]))
        return text.encode("utf-8", "backslashreplace").decode()  # file names need not be valid text

    def as_dict(self) -> dict[str, Any]:
        """Return what is known, for JSON."""
        named = {
            "file": self.file,
            "image_id": self.image,
            "annotation_id": self.annotation,
            "detail": self.detail or None,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass
class Report:
    """What was found in one data set of a split."""

    name: str
    dataset: str
    source: str
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, faults: Iterable[Fault], **where: Any) -> None:
        """Enter faults that were all found in one place."""
        self.findings.extend(Finding(kind, detail, **where) for kind, detail in faults)

    def count(self, severity: str) -> int:
        """Count the findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def by_kind(self) -> dict[str, list[Finding]]:
        """Group the findings, the worst first."""
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
                "severity": KINDS[kind].severity,
                "meaning": KINDS[kind].meaning,
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

"""What docs/security.md promises, a test guards."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) >= 10
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_every_promise_names_a_test():
    promised = TEXT.partition("## What is promised")[2].partition("## What is not")[0]
    promises = [part for part in promised.split("\n\n") if part.strip()]
    assert len(promises) >= 6
    for promise in promises:
        assert promise.startswith("**")
        assert "::test_" in promise, promise.splitlines()[0]

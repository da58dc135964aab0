import pytest
from mmengine.config import Config
from yapf.yapflib import yapf_api


def test_a_text_is_formatted_once_and_follows_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    formatted: list[str] = []
    real = yapf_api.FormatCode

    def noted(text: str, **settings: object) -> object:
        formatted.append(text)
        return real(text, **settings)

    monkeypatch.setattr(yapf_api, "FormatCode", noted)
    config = Config({"model": {"type": "Net", "depth": 18}})
    first = config.pretty_text
    assert "depth=18" in first
    assert config.pretty_text == first
    assert len(formatted) == 1
    config.model.depth = 50
    assert "depth=50" in config.pretty_text
    assert len(formatted) == 2
    assert Config({"model": {"type": "Net", "depth": 50}}).pretty_text == config.pretty_text
    assert len(formatted) == 2

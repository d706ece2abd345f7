"""Saved and loaded with another attention: what works, and what loads the original without it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gspn2bench.nn import GSPN1Attention, load_replaced, replace_attention, save_replaced
from gspn2bench.nn.models import describe_replaced, replace_as

from ...helpers import model_families as tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def half(channels: int) -> int:
    return channels // 2


@pytest.mark.parametrize("name", ["transformers ViT", "diffusers UNet", "timm ViT"])
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    """Also part of the attentions, with widths by a function; and saved again after loading."""
    family = tiny.FAMILIES[name]
    torch.manual_seed(0)
    model, x = family.build(), torch.randn(family.shape)
    first = next(swap.name for swap in replace_attention(model).swapped)
    model = family.build()
    replace_attention(model, proxy=half, only=first)
    replace_attention(model, proxy=3)
    with torch.no_grad():
        expected = family.call(model, x)
    save_replaced(model, tmp_path / "a")
    build: Any = family.build if name.startswith("timm") else type(model)
    for before, after in (("a", "b"), ("b", "c")):
        loaded = load_replaced(build, tmp_path / before).eval()
        assert model.state_dict().keys() == loaded.state_dict().keys()
        for key, value in loaded.state_dict().items():
            assert torch.equal(value, model.state_dict()[key]), key
        with torch.no_grad():
            torch.testing.assert_close(family.call(loaded, x), expected)
        save_replaced(loaded, tmp_path / after)
    files = sorted(file.name for file in (tmp_path / "b").iterdir())
    assert files == sorted(file.name for file in (tmp_path / "a").iterdir())


def test_options_of_from_pretrained(tmp_path: Path) -> None:
    model: Any = tiny.hf_vit()
    replace_attention(model)
    save_replaced(model, tmp_path)
    loaded, info = load_replaced(
        type(model), tmp_path, output_loading_info=True, dtype=torch.bfloat16
    )  # type: ignore[misc]
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}


def test_from_pretrained_of_the_original_class_loads_something_else(tmp_path: Path) -> None:
    """The reason for load_replaced."""
    model: Any = tiny.hf_vit()
    replace_attention(model)
    save_replaced(model, tmp_path)
    loaded, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded.vit.layers[0].attention).__name__ == "ViTAttention"
    assert any("q_proj" in key for key in info["missing_keys"])
    assert any("mixer.scan" in key for key in info["unexpected_keys"])


def test_a_description_is_json(tmp_path: Path) -> None:
    model = tiny.timm_vit()
    replace_attention(model, proxy=half, chunk=2)
    description = json.loads(json.dumps(describe_replaced(model)))
    assert description == {
        "format": 1,
        "sites": {
            f"blocks.{block}.attn": {
                "proxy": 8,
                "chunk": 2,
                "rung": "auto",
                "prefix": 3,
                "grid": [4, 6],
            }
            for block in (0, 1)
        },
    }
    other = tiny.timm_vit()
    replacement = replace_as(other, description)
    other.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 32, 48)
    assert torch.equal(other(x), model(x))
    replacement.revert()


def test_what_cannot_be_saved_or_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no attention of VisionTransformer was replaced"):
        save_replaced(tiny.timm_vit(), tmp_path)
    model = tiny.timm_vit()
    replace_attention(model, mixer=GSPN1Attention)
    with pytest.raises(ValueError, match=r"blocks.0.attn: built by `mixer`, which cannot be saved"):
        save_replaced(model, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match=r"gspn2\.json"):
        load_replaced(tiny.timm_vit, tmp_path)
    model = tiny.timm_vit()
    replace_attention(model)
    save_replaced(model, tmp_path)
    with pytest.raises(ValueError, match=r"VisionTransformer has no attention blocks\.1\.attn"):
        load_replaced(tiny.timm_vit, tmp_path, depth=1)
    with pytest.raises(ValueError, match="format: 2, expected 1"):
        replace_as(tiny.timm_vit(), {"format": 2})

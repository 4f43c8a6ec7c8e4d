"""Agreement of picture and text, by a tiny CLIP with random weights that is made here."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from dataengine.cli import main
from dataengine.errors import ModelError
from dataengine.ratings import table
from trainer.agreement import load

if TYPE_CHECKING:
    from tests.conftest import Tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of two layers that reads single letters."""
    out = tmp_path_factory.mktemp("clip")
    letters = [chr(number) for number in range(97, 123)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (out / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (out / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(out / "vocab.json"), str(out / "merges.txt"), model_max_length=16)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": len(words), "max_position_embeddings": 16,
                     "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(out)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(out)
    return out


def _picture(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind)
    return sink.getvalue()


def test_a_score_is_the_cosine_and_does_not_depend_on_its_neighbours(folder: Path) -> None:
    pairs = [
        (_picture(0), "a cat"),
        (_picture(1, "PNG"), "a dog " * 40),
        (b"none", "gone"),
        (_picture(2), "x"),
    ]
    model = load(folder)

    together = model.score(pairs)
    alone = [model.score([pair])[0] for pair in pairs]

    assert together[2] is None
    assert alone[2] is None
    for one, other in zip(together, alone, strict=True):
        assert one is None or (other is not None and -1 <= one <= 1 and one == pytest.approx(other, abs=1e-5))
    assert len({round(one, 6) for one in together if one is not None}) == 3
    inputs = model.processor(
        text=["a cat"], images=[Image.open(io.BytesIO(pairs[0][0]))], return_tensors="pt"
    )
    with torch.inference_mode():
        found = model.model(**inputs)
    expected = (found.image_embeds @ found.text_embeds.T).item()
    assert together[0] == pytest.approx(expected, abs=2e-3)  # another JPEG decoder


def test_curate_rates_by_a_local_model_and_leaves_out_what_does_not_agree(
    folder: Path, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, _ = tiny.convert()
    (tiny.root / "images/001.jpg").unlink()

    with pytest.raises(SystemExit) as ended:
        main(
            ["curate", str(made), "--rate", "--agreement", str(folder), "--where", "agreement <= 1", "--json"]
        )

    values = table.load(made).column("agreement").to_pylist()
    assert ended.value.code == 0
    assert [value is None for value in values] == [True, *[False] * 5]
    assert all(-1 <= value <= 1 for value in values[1:])
    assert json.loads(capsys.readouterr().out)["distinct"] == 5
    assert table.rate([made], scorer=load(folder))[0].kept


def test_a_folder_that_holds_no_clip_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json in it, expected the folder of a CLIP model"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(tmp_path)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dataengine.catalog import Catalog
from dataengine.images import decode
from dataengine.manifest import read_samples
from dataengine.preview import preview
from dataengine.spec import Resolved

if TYPE_CHECKING:
    from tests.conftest import Tiny


def _spec(tiny: Tiny) -> Resolved:
    (found,) = Catalog().find(str(tiny.spec))
    return found


def test_a_preview_shows_what_a_conversion_makes_and_writes_nothing(tiny: Tiny) -> None:
    before = sorted(tiny.root.rglob("*"))

    found = preview(_spec(tiny), "train", tiny.root, 4)

    directory, _ = tiny.convert()
    assert [sample for sample, _ in found.samples] == list(read_samples(directory, 0, 4))
    assert found.looked_at.ledger.samples == 4
    assert sorted(tiny.root.rglob("*")) == before


def test_a_preview_shows_the_decoded_pictures(tiny: Tiny) -> None:
    ((sample, (pixels,)),) = preview(_spec(tiny), "val", tiny.root, 1).samples

    assert np.array_equal(pixels, decode((tiny.root / sample.images[0].path).read_bytes()))


def test_a_preview_passes_over_bad_records_and_counts_them(tiny: Tiny) -> None:
    (tiny.root / "images/001.jpg").unlink()

    found = preview(_spec(tiny), "train", tiny.root, 2)

    assert [sample.id for sample, _ in found.samples] == ["tiny/train/2#detection", "tiny/train/3#detection"]
    assert found.looked_at.ledger.quarantined == {"image.missing": 1}


def test_a_preview_passes_over_a_picture_whose_pixels_end_early(tiny: Tiny) -> None:
    path = tiny.root / "images/002.png"
    path.write_bytes(path.read_bytes()[:-40])

    found = preview(_spec(tiny), "train", tiny.root, 2)

    assert [sample.id for sample, _ in found.samples] == ["tiny/train/1#detection", "tiny/train/3#detection"]
    assert len(found.undrawn) == 1
    assert found.undrawn[0].startswith("tiny/train/2#detection: image.corrupt: pixels cannot be decoded")


def test_more_samples_than_there_are_give_all(tiny: Tiny) -> None:
    assert len(preview(_spec(tiny), "train", tiny.root, 99).samples) == 6

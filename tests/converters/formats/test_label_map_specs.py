"""Every shipped spec of label maps, on a miniature of its layout: one map with all its numbers, in every split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from converters import path_patterns
from converters.formats.label_maps import Source, labels, read
from dataengine.annotation import Annotation
from dataengine.catalog import Catalog
from dataengine.files import Root

# Blocks that JPEG keeps apart.
SIDE = 16
SPECS = {spec.dataset.id: spec for spec in Catalog() if spec.dataset.source.format == "label_maps"}


def _color(text: str) -> tuple[int, int, int]:
    return (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))


def _picture(source: Source) -> Pillow.Image:
    """Return a map with a block of each number that the spec names."""
    keys = list(source.classes) if isinstance(source.classes, dict) else list(range(len(source.classes)))
    found = [str(key) for key in (*keys, *source.ignore)]
    if source.encoding == "color":
        row = np.array([[_color(key) for key in found]], np.uint8)
    elif source.encoding == "binary":
        row = np.array([[255 * int(key) for key in found]], np.uint8)
    elif source.objects is not None:
        # The first object of each class.
        row = np.array([[int(key) * source.objects + 1 for key in found]], np.uint16)
    else:
        row = np.array([[int(key) for key in found]], np.uint8)
    return Pillow.fromarray(row.repeat(SIDE, axis=0).repeat(SIDE, axis=1))


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_miniature_of_the_layout_is_read_whole(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    for split in spec.dataset.source.splits:
        source = spec.source(split)
        pattern = getattr(source, source.each) if source.image_set is None else source.line
        parts = {word: f"{word}7" for word in path_patterns.fields(pattern)}
        parts |= {word: f"{word}/7.png" for word in ("image", "map") if word in parts}
        root = tmp_path / split
        image, file = path_patterns.fill(source.images, parts), path_patterns.fill(source.maps, parts)
        for path in (root / image, root / file):
            path.parent.mkdir(parents=True, exist_ok=True)
        (root / image).touch()
        _picture(source).save(root / file)
        if source.image_set is not None:
            (root / source.image_set).parent.mkdir(parents=True, exist_ok=True)
            (root / source.image_set).write_text(path_patterns.fill(source.line, parts) + "\n")

        (found,) = read(source, Root(root))

        assert isinstance(found, Annotation), found
        earlier = [path_patterns.fill(one, parts) for one in source.before]
        assert [item.path for item in found.images] == [*earlier, image]
        assert {item.image for item in found.instances} == {len(earlier)}
        named = [item.category for item in found.instances if not item.ignore]
        assert named == list(labels(source, Root(root)).names)
        assert any(item.ignore for item in found.instances) == bool(source.ignore)

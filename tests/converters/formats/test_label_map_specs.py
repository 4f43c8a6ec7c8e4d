"""Every shipped spec of label maps, on its miniature: classes come in their order, and what is left open is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.formats.label_maps import labels, read
from dataengine.annotation import Annotation
from dataengine.catalog import Catalog
from dataengine.files import Root
from tests.conformance.miniatures.label_maps import make

SPECS = {spec.dataset.id: spec for spec in Catalog() if spec.dataset.source.format == "label_maps"}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_classes_keep_their_order_and_open_numbers_are_ignored(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    for split in spec.dataset.source.splits:
        source, folder = spec.source(split), tmp_path / split
        make(spec, source, folder)
        root = Root(folder)

        for found in read(source, root):
            assert isinstance(found, Annotation), found
            named = [item.category for item in found.instances if not item.ignore]
            assert named == list(labels(source, root).names)
            assert any(item.ignore for item in found.instances) == bool(source.ignore)
            assert {item.image for item in found.instances} == {len(source.before)}

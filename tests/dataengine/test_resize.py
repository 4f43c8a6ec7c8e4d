from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dataengine import layout, resize
from dataengine import sample as samples
from dataengine.annotation import Box, Measure, Rle
from dataengine.audit.run import audit
from dataengine.catalog import Catalog
from dataengine.errors import SpecError
from dataengine.geometry import mask_from_rle, rle_area, rle_from_mask, rle_of_box
from dataengine.images import Pixels, decode, numbers, probe
from dataengine.index import Index
from dataengine.manifest import read_samples
from dataengine.resize import Pictures, packed, picked, scaled, scaled_mask, shrunk
from dataengine.sample import (
    ImageTargets,
    InstanceTargets,
    KeypointTargets,
    Mark,
    Region,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
)
from dataengine.shard import append, shard
from dataengine.stream import Stream, recipe
from dataengine.verify import rebuild, verify

if TYPE_CHECKING:
    from tests.conftest import Tiny

SIDES = st.integers(1, 400)


def _limited(tiny: Tiny, text: str) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace("status:", f"pictures: {text}\nstatus:"))


def _grow(tiny: Tiny, factor: int) -> None:
    """Make every second picture of the training split larger, and its objects with it."""
    document = tiny.document()
    for image in document["images"][::2]:
        path = tiny.root / "images" / image["file_name"]
        picture = Image.open(path).resize((32 * factor, 24 * factor), Image.Resampling.NEAREST)
        picture.save(path, quality=95)
        image["width"], image["height"] = picture.size
        for one in document["annotations"]:
            if one["image_id"] == image["id"]:
                one["bbox"] = [value * factor for value in one["bbox"]]
    tiny.write(document)


def _middle(pixels: Pixels, box: Box) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the median colour inside a box."""
    x0, y0, x1, y1 = (round(value) for value in box)
    return np.asarray(np.median(pixels[y0:y1, x0:x1].reshape(-1, 3), axis=0), np.float64)


@settings(deadline=None)
@given(SIDES, SIDES, st.none() | st.integers(16, 300), st.none() | st.integers(16, 300))
def test_no_side_is_longer_than_declared_and_nothing_grows(
    width: int, height: int, longest: int | None, shortest: int | None
) -> None:
    if longest is None and shortest is None:
        return
    made = Pictures(longest=longest, shortest=shortest).size_for(width, height)

    assert max(made) <= (longest or 400)
    assert min(made) <= (shortest or 400)
    assert made[0] <= width
    assert made[1] <= height
    if max(width, height) <= (longest or 400) and min(width, height) <= (shortest or 400):
        assert made == (width, height)
    share = min(1, (longest or 400) / max(width, height), (shortest or 400) / min(width, height))
    assert all(abs(new - max(old * share, 1)) <= 0.5 for new, old in zip(made, (width, height), strict=True))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "expected longest or shortest, of at least 16 pixels"),
        ("{longest: 8}", "expected longest or shortest, of at least 16 pixels"),
        ("{longest: 640, quality: 101}", "quality 101, expected 1 to 100"),
        ("{longst: 640}", "unknown key 'longst'; did you mean 'longest'?"),
        ("{longest: 640, format: jpg}", "format"),
    ],
)
def test_a_wrong_limit_is_named(tiny: Tiny, text: str, says: str) -> None:
    _limited(tiny, text)

    with pytest.raises(SpecError, match="pictures") as error:
        Catalog().find(str(tiny.spec))
    assert says in str(error.value)


def test_large_pictures_are_made_smaller_and_others_keep_their_bytes(tiny: Tiny, tmp_path: Path) -> None:
    _grow(tiny, 4)
    _limited(tiny, "{longest: 64, quality: 95}")
    directory, _ = tiny.convert()

    shard([tiny.out], tmp_path / "s", samples_per_shard=2)

    stream, index = Stream(tmp_path / "s", recipe(seed=0, global_batch=1)), Index(tmp_path / "s")
    for number, before in enumerate(read_samples(directory)):
        sample, (data,) = stream.read_row(number)
        (old,), (image,) = before.images, sample.images
        header, row = probe(data), index.row(number)
        assert (header.width, header.height, header.format) == (image.width, image.height, image.format)
        assert (row["widths"], row["heights"]) == ([image.width], [image.height])
        if number % 2:
            assert data == (tiny.root / old.path).read_bytes()
            assert sample.targets == before.targets
            continue
        assert (old.width, image.width, image.height) == (128, 64, 48)
        assert isinstance(sample.targets, InstanceTargets)
        assert isinstance(before.targets, InstanceTargets)
        for one, was in zip(sample.targets.instances, before.targets.instances, strict=True):
            assert one.box == tuple(value / 2 for value in was.box)
            assert one.area == was.area / 4
            # The box holds what it held: the object's colour, which differs from that around it.
            held, whole = _middle(decode(data), one.box), decode((tiny.root / old.path).read_bytes())
            assert np.abs(held - _middle(whole, was.box)).max() < 15
            assert np.abs(held - decode(data)[0, 0]).max() > 30
    assert verify(tmp_path / "s") == []


def test_a_task_has_a_limit_of_its_own(tiny: Tiny) -> None:
    _limited(tiny, "{longest: 64}")
    tiny.spec.write_text(
        tiny.spec.read_text().replace("detection: {}", "detection: {pictures: {shortest: 20}}\n  caption: {}")
    )

    limits = {spec.task.id: spec.pictures for spec in Catalog().find(str(tiny.spec))}

    assert limits == {"detection": Pictures(shortest=20), "caption": Pictures(longest=64)}


def test_a_limit_is_another_conversion_and_none_is_the_one_of_before(tiny: Tiny) -> None:
    (plain,) = Catalog().find(str(tiny.spec))
    _limited(tiny, "{longest: 64}")
    (limited,) = Catalog().find(str(tiny.spec))

    assert plain.hash() != limited.hash()
    assert "pictures" not in msgspec.to_builtins(plain.task)


def test_the_picture_is_turned_as_its_exif_says(tiny: Tiny, tmp_path: Path) -> None:
    picture = Image.new("RGB", (120, 200), (0, 0, 255))
    ImageDraw.Draw(picture).rectangle([0, 0, 119, 40], fill=(255, 0, 0))  # above, once it is turned
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = picture.transpose(Image.Transpose.ROTATE_90)  # turned back by the reader
    stored.save(tiny.root / "images/001.jpg", exif=exif, quality=95, subsampling=0)
    document = tiny.document()
    document["images"][0] |= {"width": 120, "height": 200}
    document["annotations"][0]["bbox"] = [0, 0, 120, 40]
    tiny.write(document)
    _limited(tiny, "{longest: 100}")
    tiny.convert()

    shard([tiny.out], tmp_path / "s")

    sample, (data,) = Stream(tmp_path / "s", recipe(seed=0, global_batch=1)).read_row(0)
    header = probe(data)
    assert (header.width, header.height, header.orientation) == (60, 100, 1)
    pixels = decode(data).astype(int)
    assert pixels[5, 30, 0] > 200 > 60 > pixels[5, 30, 2]
    assert pixels[90, 30, 2] > 200 > 60 > pixels[90, 30, 0]
    assert isinstance(sample.targets, InstanceTargets)
    assert (0.0, 0.0, 60.0, 20.0) in [one.box for one in sample.targets.instances]


def _sample(**fields: Any) -> Sample:
    image = SampleImage(path="a.png", width=200, height=100, format="png")
    return Sample(
        id="d/s/1#t", task="t", dataset="d", split="s", images=(image, msgspec.structs.replace(image, path="b.png")),
        conversation=(), origin=SampleOrigin(dataset="d", file="f", record="r", spec="s", spec_hash="h", reader="r"),
        license=SampleLicense(annotations="CC0-1.0", images="CC0-1.0"), **fields,
    )  # fmt: skip


def test_all_facts_on_the_picture_are_scaled_and_those_on_others_are_not() -> None:
    mask = rle_of_box((20, 40, 60, 80), 200, 100)
    small = rle_of_box((5, 20, 15, 40), 50, 50)
    box, half = (20.0, 40.0, 60.0, 80.0), (5.0, 20.0, 15.0, 40.0)
    region = Region(kind="mask", box=box, mask=mask, image=1)
    mark = Mark(kind="arrow", color="red", solid=True, box=box, points=((20.0, 40.0), (60.0, 80.0)), image=1)
    instance = TargetInstance(
        label="x", box=box, area=1600.0, mask=mask, keypoints=((20.0, 40.0, 2), (0.0, 0.0, 0))
    )
    keypoints = KeypointTargets(names=("a", "b"), instances=(instance,))
    sample = _sample(
        targets=keypoints,
        regions=(region, msgspec.structs.replace(region, image=0)),
        marks=(mark, msgspec.structs.replace(mark, image=0)),
    )

    made = scaled(sample, 1, (50, 50), "jpeg")

    assert [(i.width, i.height, i.format) for i in made.images] == [(200, 100, "png"), (50, 50, "jpeg")]
    assert made.targets == KeypointTargets(
        names=("a", "b"),
        instances=(
            TargetInstance(
                label="x", box=half, area=200.0, mask=small, keypoints=((5.0, 20.0, 2), (0.0, 0.0, 0))
            ),
        ),
    )
    assert made.regions == (msgspec.structs.replace(region, box=half, mask=small), sample.regions[1])
    assert isinstance(made.marks, tuple)
    assert isinstance(sample.marks, tuple)
    assert made.marks[0] == msgspec.structs.replace(mark, box=half, points=((5.0, 20.0), (15.0, 40.0)))
    assert made.marks[1] == sample.marks[1]
    samples.decode(samples.encode(made))


def test_void_and_the_first_picture_of_two_are_scaled_apart() -> None:
    void = rle_of_box((0, 0, 200, 50), 200, 100)
    sample = _sample(targets=InstanceTargets(instances=(), void=void))

    first, last = (scaled(sample, number, (100, 50), "png").targets for number in (0, 1))

    assert first == sample.targets  # objects lie on the last picture
    assert isinstance(last, InstanceTargets)
    assert last.void == rle_of_box((0, 0, 100, 25), 100, 50)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40), st.data())
def test_a_mask_keeps_its_share_and_never_vanishes(
    width: int, height: int, new_width: int, new_height: int, data: st.DataObject
) -> None:
    size = (min(new_width, width), min(new_height, height))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    pixels = np.zeros((height, width), np.uint8)
    pixels[y0:y1, x0:x1] = 1

    made = scaled_mask(rle_from_mask(pixels), size)

    assert made.size == (size[1], size[0])
    assert rle_area(made) >= 1
    rows, columns = np.nonzero(mask_from_rle(made))
    assert x0 * size[0] / width - 1 <= columns.min() <= columns.max() + 1 <= x1 * size[0] / width + 1
    assert y0 * size[1] / height - 1 <= rows.min() <= rows.max() + 1 <= y1 * size[1] / height + 1


def test_an_empty_mask_stays_empty() -> None:
    assert (
        rle_area(scaled_mask(Rle((100, 200), rle_from_mask(np.zeros((100, 200), np.uint8)).counts), (50, 25)))
        == 0
    )


@pytest.mark.parametrize("kind", ["uint8", "uint16", "rgb", "float32", "int32"])
def test_measured_pictures_keep_numbers_of_their_own(kind: str) -> None:
    rng = np.random.default_rng(0)
    shape = (60, 90, 3) if kind == "rgb" else (60, 90)
    stored = rng.integers(0, 200, shape).astype("uint8" if kind == "rgb" else kind) * (
        1 if kind in ("uint8", "rgb") else 150
    )
    sink = io.BytesIO()
    Image.fromarray(stored.astype("uint8" if kind == "rgb" else kind)).save(
        sink, "TIFF" if kind in ("float32", "int32") else "PNG"
    )

    data, made = picked(sink.getvalue(), (30, 20))

    assert made == ("tiff" if kind in ("float32", "int32") else "png")
    assert probe(data).format == made
    # A third of the pixels: those in the middle of each three by three.
    assert np.array_equal(numbers(data), numbers(sink.getvalue())[1::3, 1::3])


def test_a_depth_map_and_its_picture_stay_of_one_size(tmp_path: Path, tiny: Tiny) -> None:
    image = SampleImage(path="a.png", width=90, height=60, format="png")
    depth = SampleImage(path="d.png", width=90, height=60, format="png", role="target")
    measure = Measure(quantity="depth", unit="m", scale=256.0)
    sample = msgspec.structs.replace(
        _sample(targets=ImageTargets(image=1, caption="", measure=measure)), images=(image, depth)
    )
    Image.fromarray(np.full((60, 90, 3), 9, np.uint8)).save(tmp_path / "a.png")
    values = (np.arange(60 * 90).reshape(60, 90) * 7).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "d.png")
    from dataengine.files import Root
    from dataengine.write import _Source, _with_pictures

    made, (first, second) = _with_pictures(
        sample, _Source(Root(tmp_path)), Pictures(longest=30, format="jpeg")
    )

    assert [(one.width, one.height, one.format) for one in made.images] == [(30, 20, "jpeg"), (30, 20, "png")]
    assert decode(first).shape == (20, 30, 3)
    assert np.array_equal(numbers(second), values[1::3, 1::3])
    assert all(one.digest for one in made.images)


def test_the_same_picture_gives_the_same_bytes_and_settings_are_pinned() -> None:
    sink = io.BytesIO()
    Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 50).convert("RGB").save(sink, "PNG")
    pixels = shrunk(sink.getvalue(), (150, 100))

    jpeg, png = packed(pixels, "jpeg", 90), packed(pixels, "png", 90)

    assert jpeg == packed(shrunk(sink.getvalue(), (150, 100)), "jpeg", 90)
    assert len(packed(pixels, "jpeg", 50)) < len(jpeg)
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert picture.layer[0][1:3] == (2, 2)  # type: ignore[attr-defined]
        assert "progressive" not in picture.info
    assert np.array_equal(decode(png), pixels)


def test_marks_are_drawn_on_the_small_picture(tiny: Tiny, tmp_path: Path) -> None:
    _grow(tiny, 8)
    tiny.spec.write_text(tiny.spec.read_text().replace("detection: {}", "mark_recognition: {}"))
    _limited(tiny, "{longest: 128, format: png}")
    tiny.convert(task="mark_recognition")

    shard([tiny.out], tmp_path / "s")

    from dataengine.marks import COLORS

    sample, (data,) = Stream(tmp_path / "s", recipe(seed=0, global_batch=1)).read_row(0)
    assert (sample.images[0].width, sample.images[0].format) == (128, "png")
    assert sample.marks_on(0)
    pixels = decode(data)
    for mark in sample.marks_on(0):
        # Lines are drawn after the picture was made smaller: their colour is pure.
        assert (pixels == np.array(COLORS[mark.color], np.uint8)).all(axis=2).any()


def test_workers_rebuilding_and_appending_give_the_same_bytes(tiny: Tiny, tmp_path: Path) -> None:
    _grow(tiny, 4)
    _limited(tiny, "{shortest: 30}")
    train, val = tiny.convert("train")[0], tiny.convert("val")[0]
    shard([train, val], tmp_path / "a", samples_per_shard=2)
    shard([train, val], tmp_path / "b", samples_per_shard=2, workers=2)
    shard([val], tmp_path / "c", samples_per_shard=2)
    append([train], tmp_path / "c")
    tars = {path.name: path.read_bytes() for path in (tmp_path / "a").glob("*.tar")}
    for other in ("b", "c"):
        assert {path.name: path.read_bytes() for path in (tmp_path / other).glob("*.tar")} == tars
    (tmp_path / "a/tiny-detection-train-000000.tar").unlink()

    assert rebuild(tmp_path / "a") == []

    assert {path.name: path.read_bytes() for path in (tmp_path / "a").glob("*.tar")} == tars
    assert verify(tmp_path / "a") == []


def test_a_damaged_small_picture_is_named(tiny: Tiny, tmp_path: Path) -> None:
    _grow(tiny, 4)
    _limited(tiny, "{longest: 64}")
    tiny.convert()
    shard([tiny.out], tmp_path / "s")
    row = Index(tmp_path / "s").row(0)
    path = tmp_path / "s/tiny-detection-train-000000.tar"
    data = bytearray(path.read_bytes())
    data[row["image_offsets"][0] + 99] ^= 4
    path.write_bytes(data)

    assert verify(tmp_path / "s")[1:] == [
        f"{path}: offset {row['image_offsets'][0]}: picture images/001.jpg of {row['id']} is damaged"
    ]


def test_another_build_of_the_encoder_is_another_plan_and_is_named(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _grow(tiny, 4)
    _limited(tiny, "{longest: 64}")
    tiny.convert()
    made = shard([tiny.out], tmp_path / "s")
    assert made.shards[0].encoder == resize.encoder()
    monkeypatch.setattr(layout, "encoder", lambda: "Pillow 99")
    monkeypatch.setattr(
        "dataengine.write.packed", lambda pixels, made, quality: packed(pixels, made, quality - 9)
    )

    findings = rebuild(tmp_path / "s")

    path = tmp_path / "s/tiny-detection-train-000000.tar"
    assert findings == [
        f"{path}: rebuilt bytes differ from shards.json; its pictures were made by {resize.encoder()}, and by"
        " Pillow 99 now, which may give other bytes; rebuild it with the older libraries, or run 'dataengine shard'"
        " to write it anew"
    ]
    again = shard([tiny.out], tmp_path / "s")
    assert (again.shards[0].encoder, again.shards[0].plan != made.shards[0].plan) == ("Pillow 99", True)


def test_a_picture_that_cannot_be_decoded_costs_its_sample(tiny: Tiny, tmp_path: Path) -> None:
    _grow(tiny, 4)
    path = tiny.root / "images/001.jpg"
    path.write_bytes(path.read_bytes()[:900])
    _limited(tiny, "{longest: 64}")
    tiny.convert()

    made = shard([tiny.out], tmp_path / "s")

    assert [(one.id, one.reason) for one in made.dropped] == [("tiny/train/1#detection", "image.corrupt")]


def test_an_audit_takes_no_picture_made_anew_for_a_wrong_name(tiny: Tiny, tmp_path: Path) -> None:
    _limited(tiny, "{longest: 16, format: png}")
    shard([tiny.convert()[0]], tmp_path / "shards")

    report = audit([tmp_path / "shards"])

    assert {finding.rule for finding in report.findings} == {"image.tiny"}  # which they are

"""Pictures to generate: JSON Lines (or a JSON list) of a picture's name and the prompt that made it or describes it.

Source: JourneyDB ({img_path, prompt}), LAION and Midjourney collections ({image, caption}, {image, text}). Prompts of
Midjourney end in flags (`--ar 16:9 --v 5`), which speak to that program and not of the picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from converters.json_files import decode, records, unique
from dataengine.annotation import Annotation, Caption, Image, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.spill import Counts

VERSION = "2"

T = TypeVar("T")
IMAGE_FIELDS = ("img_path", "image")
PROMPT_FIELDS = ("prompt", "caption", "text")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the file, `images` the folder of the pictures.

    `image_field` and `prompt_field` name the keys; without them the first known one counts. `key_field` names the key
    that a record goes by; without it the picture's name is taken. `strip_flags` cuts Midjourney's flags off.
    """

    annotations: str
    images: str = ""
    image_field: str | None = None
    prompt_field: str | None = None
    key_field: str | None = None
    strip_flags: bool = False


_row = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_key = msgspec.json.Decoder(int | str)
# Word processors turn the two hyphens into a dash.
_FLAGS = re.compile(r"(?:^|\s)(?:--|[—–])[A-Za-z].*$", re.DOTALL)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a record, in file order. Raises SourceError for a file that is cut off."""
    seen = Counts()
    images = (source.image_field,) if source.image_field else IMAGE_FIELDS
    prompts = (source.prompt_field,) if source.prompt_field else PROMPT_FIELDS
    for place, data in records(source.annotations, root, "annotations"):
        origin = Origin(file=source.annotations, record=place)
        key = place
        try:
            row = decode(data, _row)
            name = _field(row, images, _text)
            stated = _field(row, (source.key_field,), _key) if source.key_field else name.removeprefix("./")
            key = unique(str(stated) or place, seen)
            prompt = _field(row, prompts, _text)
            yield _annotate(source, key, name, prompt, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _field(row: dict[str, msgspec.Raw], names: tuple[str, ...], decoder: msgspec.json.Decoder[T]) -> T:
    for name in names:
        if name in row:
            return decode(row[name], decoder)
    raise Quarantine("schema", f"no key {' or '.join(map(repr, names))}")


def _annotate(source: Source, key: str, name: str, prompt: str, origin: Origin) -> Annotation:
    if not name.strip():
        raise Quarantine("image.missing", "the name of the picture is empty")
    text = " ".join(without_flags(prompt).split() if source.strip_flags else prompt.split())
    if not text:
        raise Quarantine("text.empty", "the prompt is empty")
    return Annotation(
        key=key,
        images=(Image(path=f"{source.images}/{name}" if source.images else name, role="target"),),
        captions=(Caption(id="", text=text),),
        exhaustive=False,
        origin=origin,
    )


def without_flags(prompt: str) -> str:
    """Return a Midjourney prompt without its flags, which stand at the end, from the first `--word` on."""
    return _FLAGS.sub("", prompt).rstrip()

"""InstructPix2Pix: a folder a prompt, with `<seed>_0.jpg` (before), `<seed>_1.jpg` (after) and `prompt.json`.

Source: the InstructPix2Pix dataset. `prompt.json` holds `edit`, and mostly the captions before (`input`, or `caption`)
and after (`output`). `seeds.json` lists the pairs that are meant to be used: [["0000132", ["127380018", …]], …];
some of the folders that it names are missing in copies of the dataset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import escape
from pathlib import PurePosixPath

import msgspec

from converters.json_files import decode, load
from dataengine.annotation import Annotation, Caption, Edit, Image, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.listing import Fit, Listing, several

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`folder` holds the prompts' folders, at any depth; `seeds` is the list of pairs, by folder.

    Without `seeds` every `<seed>_0` or `<seed>_1` with the `extension` is taken, and a folder with a prompt alone is
    rejected.
    """

    folder: str = ""
    seeds: str | None = None
    extension: str = "jpg"


class RawPrompt(msgspec.Struct):
    edit: str
    output: str | None = None


_prompt = msgspec.json.Decoder(RawPrompt)
_entry = msgspec.json.Decoder(tuple[str, list[int | str]])


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds InstructPix2Pix's folders: `prompt.json` with an edit, `<seed>_0`, `<seed>_1`."""
    prompts = [file for file in listing.files if PurePosixPath(file).name == "prompt.json"]
    if not prompts:
        return "no prompt.json"
    beside = [
        file for file in listing.pictures if PurePosixPath(file).parent == PurePosixPath(prompts[0]).parent
    ]
    befores = [file for file in beside if PurePosixPath(file).stem.endswith("_0")]
    if not befores:
        return f"{prompts[0]}: no picture <seed>_0 beside it"
    keys = {"extension": PurePosixPath(befores[0]).suffix.removeprefix(".")}
    seeds = [file for file in listing.files if PurePosixPath(file).name == "seeds.json"]
    if seeds:
        folder = str(PurePosixPath(seeds[0]).parent)
        keys |= {"seeds": seeds[0], **({} if folder == "." else {"folder": folder})}
    why = f"{several(prompts)}: beside pictures before and after"
    return Fit(splits={"train": keys}, tasks=("image_edit",), why=why, certainty=3)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a pair of pictures, by folder and seed. Raises SourceError."""
    seen = set[str]()
    for folder, seeds, origin in _folders(source, root):
        if isinstance(seeds, Rejected):
            yield seeds
            continue
        file = _join(source.folder, folder, "prompt.json")
        try:
            prompt: RawPrompt | Quarantine = _read_prompt(root, file)
        except Quarantine as error:
            prompt = error
        if not seeds:
            yield _reject(folder, Quarantine("id.orphan", "a prompt without pictures"), origin)
        for seed in seeds:
            key = f"{folder}/{seed}" if folder else seed
            try:
                if key in seen:
                    raise Quarantine("id.duplicate", f"{key!r} came before")
                seen.add(key)
                if isinstance(prompt, Quarantine):
                    raise Quarantine(prompt.reason, prompt.detail)
                yield _annotate(source, folder, seed, prompt, Origin(file=file, record=f"seed {seed}"))
            except Quarantine as error:
                yield _reject(key, error, origin)


def _folders(source: Source, root: Root) -> Iterator[tuple[str, list[str] | Rejected, Origin]]:
    """Yield each folder with its seeds, and where it is listed."""
    if source.seeds is None:
        yield from _listed(source, root)
        return
    rows = load(source.seeds, root, "seeds", list[msgspec.Raw], "a list of [folder, [seeds]]")
    for number, row in enumerate(rows):
        origin = Origin(file=source.seeds, record=f"[{number}]")
        try:
            folder, seeds = decode(row, _entry)
        except Quarantine as error:
            yield "", _reject(origin.record, error, origin), origin
        else:
            if seeds:
                yield folder, [str(seed) for seed in seeds], origin
            else:
                empty = Quarantine("id.orphan", f"{folder!r} has no seed")
                yield folder, _reject(folder, empty, origin), origin


def _listed(source: Source, root: Root) -> Iterator[tuple[str, list[str] | Rejected, Origin]]:
    root.annotation(source.folder or ".", "folder")
    pattern = re.compile(rf"(?P<seed>.+)_[01]\.{re.escape(source.extension)}")
    seeds: dict[str, set[str]] = {}
    for file in root.glob(_join(source.folder, "**", "prompt.json")):
        seeds[_relative(file, source.folder)] = set()
    for file in root.glob(_join(source.folder, "**", f"*_[01].{source.extension}")):
        if match := pattern.fullmatch(PurePosixPath(file).name):
            seeds.setdefault(_relative(file, source.folder), set()).add(match["seed"])
    if not seeds:
        raise SourceError(
            f"{root.directory / source.folder}: no folder with a prompt.json; the spec needs it as source.folder"
        )
    for folder in sorted(seeds):
        origin = Origin(file=_join(source.folder, folder, "prompt.json"), record="edit")
        yield folder, sorted(seeds[folder]), origin


def _relative(file: str, folder: str) -> str:
    found = str(PurePosixPath(file).parent.relative_to(PurePosixPath(folder)))
    return "" if found == "." else found


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _read_prompt(root: Root, file: str) -> RawPrompt:
    if not root.inside(file).is_file():
        root.glob(escape(file))  # remembers that it was not there: a file that comes later is a change
        raise Quarantine("id.orphan", f"no such file: {file}")
    prompt = decode(root.read(file, "folder"), _prompt)
    if not prompt.edit.strip():
        raise Quarantine("text.empty", "the edit is empty")
    return prompt


def _annotate(source: Source, folder: str, seed: str, prompt: RawPrompt, origin: Origin) -> Annotation:
    before, after = (_join(source.folder, folder, f"{seed}_{side}.{source.extension}") for side in (0, 1))
    caption = " ".join((prompt.output or "").split())
    return Annotation(
        key=f"{folder}/{seed}" if folder else seed,
        images=(Image(path=before), Image(path=after, role="target")),
        captions=(Caption(id="output", text=caption),) if caption else (),
        edits=(Edit(id="", instruction=" ".join(prompt.edit.split()), before=0, after=1),),
        exhaustive=False,
        origin=origin,
    )


def _reject(key: str, error: Quarantine, origin: Origin) -> Rejected:
    return Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)

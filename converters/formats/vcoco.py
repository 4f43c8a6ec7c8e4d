"""V-COCO: who does what with what, as parallel arrays an action, about objects of COCO 2014.

Conventions (s-gupta/v-coco, README): the file is a list of 26 actions; `ann_id` is a person, `label` says whether the
person does it, and `role_object_id` holds the objects of each role, all persons of the first role (the agent) before
those of the second; 0 is no object. Ids are those of COCO 2014's instances, train and val, whose objects become this
annotation's. Where an action has an object and an instrument, the instrument's relation is `<action> with`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from converters.formats import coco_instances as coco
from converters.json_files import UNREADABLE, load
from dataengine.annotation import Annotation, Image, Instance, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the V-COCO file, `instances` are COCO 2014's files, `images` the folder above the pictures.

    `folders`: pictures lie in `train2014` and `val2014`, as their names say, instead of all in one folder.
    """

    annotations: str
    instances: tuple[str, ...]
    images: str = ""
    folders: bool = True


class RawAction(msgspec.Struct):
    action_name: str
    role_name: list[str]
    image_id: list[int]
    ann_id: list[int]
    role_object_id: list[int]
    label: list[int]


_action = msgspec.json.Decoder(RawAction)
_annotation = msgspec.json.Decoder(coco.RawAnnotation)
Triple = tuple[int, str, int]


class Facts(msgspec.Struct):
    """What is said of one picture: relations by annotation ids, and the actions of each person."""

    triples: list[Triple]
    actions: dict[int, list[str]]


def labels(source: Source, root: Root) -> LabelSpace:
    """Return COCO's categories in the order of their ids."""
    return (
        coco.labels(coco.Source(annotations=source.instances[0]), root)
        if source.instances
        else LabelSpace(id="source", labels=())
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a picture that V-COCO speaks of, in COCO's order, and rejections for what fits nowhere."""
    rows = load(source.annotations, root, "annotations", list[msgspec.Raw], "a list of actions")
    facts: dict[str, Facts] = {}
    for number, data in enumerate(rows):
        place = f"[{number}]"
        try:
            _add(_action.decode(data), facts)
        except UNREADABLE as error:
            yield coco.reject(source.annotations, place, "schema", str(error))
        except Quarantine as error:
            yield coco.reject(source.annotations, place, error.reason, error.detail)
    for file in source.instances:
        raw = coco.load(file, root)
        names = coco.category_names(raw)
        for item in coco.join(raw, file, coco.Naming(), _annotation):
            if isinstance(item, Rejected):
                yield msgspec.structs.replace(item, key=f"{file} {item.key}")
            elif item.key in facts:
                yield from _annotate(source, item, file, names, facts.pop(item.key))
    for picture in facts:
        yield coco.reject(
            source.annotations, f"picture {picture}", "id.orphan", "no instances file has this picture"
        )


def _add(action: RawAction, facts: dict[str, Facts]) -> None:
    """Add an action's arrays to the pictures. Raises Quarantine where their lengths contradict each other."""
    rows = len(action.image_id)
    roles = len(action.role_name)
    if not (rows == len(action.ann_id) == len(action.label)) or len(action.role_object_id) != rows * roles:
        raise Quarantine(
            "schema",
            f"{action.action_name!r}: {rows} pictures, {len(action.ann_id)} persons, {len(action.label)} labels and"
            f" {len(action.role_object_id)} objects for {roles} roles",
        )
    words = action.action_name.replace("_", " ").strip()
    both = {"obj", "instr"} <= set(action.role_name)
    for row, (picture, person) in enumerate(zip(action.image_id, action.ann_id, strict=True)):
        known = facts.setdefault(str(picture), Facts([], {}))
        if not action.label[row]:
            continue
        known.actions.setdefault(person, []).append(words)
        for role in range(1, roles):
            target = action.role_object_id[role * rows + row]
            predicate = f"{words} with" if both and action.role_name[role] == "instr" else words
            if target:
                known.triples.append((person, predicate, target))


def _annotate(
    source: Source, item: coco.Joined[coco.RawAnnotation], file: str, names: dict[int, str], facts: Facts
) -> Iterator[Annotation | Rejected]:
    def make(record: coco.RawAnnotation, place: str, image: Image) -> Instance:
        made = coco.instance(record, place, names, image.width, image.height)
        does = facts.actions.get(record.id, []) if isinstance(record.id, int) else []
        return msgspec.structs.replace(made, attributes={"actions": ", ".join(does)}) if does else made

    for made in coco.annotate(item, file, names, True, make):
        if isinstance(made, Rejected):
            yield made
            continue
        places = {one.id: index for index, one in enumerate(made.instances)}
        found, lost = [], []
        for person, predicate, target in facts.triples:
            ends = (places.get(str(person)), places.get(str(target)))
            if ends[0] is None or ends[1] is None:
                lost.append(f"{person} {predicate} {target}")
            else:
                found.append((ends[0], predicate, ends[1]))
        image = made.images[0]
        folder = image.path.split("_")[1] if source.folders and image.path.count("_") > 1 else ""
        path = "/".join(part for part in (source.images, folder, image.path) if part)
        yield msgspec.structs.replace(
            made, images=(msgspec.structs.replace(image, path=path),), relations=tuple(dict.fromkeys(found))
        )
        for text in dict.fromkeys(lost):
            detail = f"{text}: not among the objects of picture {made.key}"
            yield coco.reject(source.annotations, f"picture {made.key}: {text}", "id.orphan", detail)

"""InstructPix2Pix: a folder an edit with its two pictures and `prompt.json`, and `seeds.json`, as the reader states it.

The pictures stand beside the prompt as `0_0.jpg` and `0_1.jpg`: the tools ask for these names. They are the same files
as under `images/` (hard links where the file system allows it), so one that is no JPEG keeps its bytes, and readers
that go by the content take it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from converters.export_tables import LeftOut
from dataengine.annotation import Annotation, LabelSpace
from dataengine.files import link, write_atomic
from dataengine.modules import Written

FOLDER, SEEDS, SEED = "edits", "seeds.json", "0"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `edits/*/` and `edits/seeds.json`.

    One caption beside one edit is that of the picture after it. Others are left out, as are pictures without an edit.
    """
    left_out = LeftOut()
    seeds: list[tuple[str, list[str]]] = []
    for item in annotations:
        left_out.unplaced(item, captions=True, edits=True)
        edits = [edit for edit in item.edits if edit.instruction.strip()]
        left_out.add("edit without instruction", len(item.edits) - len(edits))
        used = {place for edit in edits for place in (edit.before, edit.after)}
        left_out.add("picture without edit", len(item.images) - len(used))
        captions = item.captions[:1] if len(edits) == 1 else ()
        left_out.add("caption", len(item.captions) - len(captions))
        for edit in edits:
            name = f"{len(seeds):07d}"
            seeds.append((name, [SEED]))
            for side, place in enumerate((edit.before, edit.after)):
                link(folder / item.images[place].path, folder / FOLDER / name / f"{SEED}_{side}.jpg")
            prompt = {"edit": edit.instruction, "input": "", "output": captions[0].text if captions else ""}
            write_atomic(folder / FOLDER / name / "prompt.json", msgspec.json.encode(prompt))
    write_atomic(folder / FOLDER / SEEDS, msgspec.json.encode(seeds))
    return Written({"folder": FOLDER, "seeds": f"{FOLDER}/{SEEDS}"}, left_out.counts)

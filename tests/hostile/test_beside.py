"""Something bad costs no other record, whatever the reader: the good ones beside it are read, and the bad one is told.

A file that all records need may cost all of them, but then it is refused with one line that names it. Which files
these are is said here for each format; that a file of many records is such a one goes without saying.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

from dataengine.annotation import Annotation, Rejected
from dataengine.errors import DataEngineError
from dataengine.modules import FORMATS_PACKAGE, names
from tests.hostile.beside import Base, Case, base_of, spoilt

FORMATS = names(FORMATS_PACKAGE)
# What all records need that stand in another file.
NEEDED_BY_ALL: dict[str, tuple[str, ...]] = {
    "awa_pose": ("Annotations/class_names.txt",),
    "celeba_txt": ("list_attr_celeba.txt", "list_eval_partition.txt"),
    "class_list": ("LOC_synset_mapping.txt",),
    "cub": ("CUB_200_2011/*",),
    "flickr30k_entities": ("UNRELATED_CAPTIONS", "train.txt"),
    "im2latex": ("formulas.lst",),
    "interhand": ("x_camera.json", "x_joint_3d.json"),
    "ip2p_folders": ("random-sample-dataset/seeds.json",),
    "kitti": ("ImageSets/train.txt",),
    "mapillary": ("config_v1.2.json",),
    "mat_classes": ("setid.mat", "imagelabels.mat"),
    "openimages_csv": ("class-descriptions-boxable.csv",),
    "oriented_xml": ("ImageSets/Main/train.txt",),
    "phrasecut": ("VGPhraseCut_v0/image_data_split3000.json",),
    "reasonseg": ("ReasonSeg/explanatory/train.json",),
    # Each part of a table, and each picture that was made of one.
    "records": ("data/val-part*.parquet", "unpacked/val/*"),
    "refcoco": ("grefcoco/instances.json",),
    "sa_med2d": ("SAMed2D_v1_class_mapping_id.json",),
    "swig": ("SWiG_jsons/imsitu_space.json",),
    "vcoco": ("annotations/instances_*.json", "data/vcoco/vcoco_train.json"),
    "visual_genome": ("image_data.json", "question_answers.json"),
    "vqa_v2": ("*_annotations.json", "*_questions.json"),
    "vrd": ("json_dataset/objects.json", "json_dataset/predicates.json"),
}  # fmt: skip
# Lists and tables of plain text of which a line that is no UTF-8 costs all: the file is in another encoding.
TEXT_REFUSED = frozenset(
    {"awa_pose", "celeba_txt", "class_list", "cub", "im2latex", "kitti", "openimages_csv", "oriented_xml", "wflw_txt",
     "wider_face"}
)  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_bad_costs_no_other_record(name: str, tmp_path: Path) -> None:
    base = base_of(name, tmp_path)

    found = {f"{case.file}: {case.how}": _wrong(name, base, case) for case in spoilt(base, tmp_path)}

    assert found
    assert {place: wrong for place, wrong in found.items() if wrong} == {}


def _wrong(name: str, base: Base, case: Case) -> str:
    """Return what must not be of a spoilt folder, "" where all is well."""
    container = {one.origin.file for one in base.clean} == {case.file}
    for_all = container or any(fnmatch(case.file, pattern) for pattern in NEEDED_BY_ALL.get(name, ()))
    beside = case.how in ("a line", "elements")
    try:
        items = base.read(case.folder)
    except DataEngineError as error:
        if "\n" in str(error) or Path(case.file).name not in str(error):
            return f"refused without a line that names the file: {error}"
        if beside and not (case.how == "a line" and name in TEXT_REFUSED):
            return f"all records are refused for something beside them: {error}"
        return "" if for_all else f"all records are refused for a file of one: {error}"
    read = {one.key for one in items if isinstance(one, Annotation)}
    told = [one for one in items if isinstance(one, Rejected)]
    lost = [one for one in base.clean if one.key not in read]
    others = [one.key for one in lost if not _is_own(one, case, told) and (beside or not for_all)]
    if others:
        return f"costs {others}; told: {[(one.key, one.detail) for one in told]}"
    # Without any record a conversion fails (`test_convert.py`): a table that lost all its rows is told there.
    return "" if told or not lost or not read else f"{[one.key for one in lost]} vanished"


def _is_own(one: Annotation, case: Case, told: list[Rejected]) -> bool:
    """Say whether a lost record is made of the spoilt file, or is told by its name or its place."""
    if case.how not in ("a line", "elements") and case.file in (
        one.origin.file,
        *(image.path for image in one.images),
    ):
        return True
    return any(one.key == bad.key or one.origin == bad.origin for bad in told)

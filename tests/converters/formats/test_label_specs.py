"""Shipped specs whose label space turns codes into names and says what they mean, on miniatures of their layouts."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dataengine import manifest as manifests
from dataengine.annotation import Annotation
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.modules import load_reader, source_labels
from dataengine.source import items_of, labels_of

CHEXPERT = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
]  # fmt: skip
ISIC = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"]


def row(columns: list[str], **cells: str) -> str:
    return ",".join(cells.get(column.replace(" ", "_"), "") for column in columns)


# Spec, split, the table and its text, the picture, what the answer starts with.
TABLES = [
    (
        "ham10000", "train", "HAM10000_metadata.csv",
        "lesion_id,image_id,dx,dx_type,age,sex,localization\nHAM_1,ISIC_1,nv,histo,80,male,scalp\n",
        "ISIC2018_Task3_Training_Input/ISIC_1.jpg", "Melanocytic nevus: a mole:",
    ),
    (
        "isic2019", "train", "ISIC_2019_Training_GroundTruth.csv",
        f"image,{','.join(ISIC)}\nISIC_1,{','.join('1.0' if name == 'SCC' else '0.0' for name in ISIC)}\n",
        "ISIC_2019_Training_Input/ISIC_1.jpg", "Squamous cell carcinoma: a skin cancer",
    ),
    (
        "pad_ufes_20", "all", "metadata.csv", "patient_id,diagnostic,img_id\nPAT_1,SEK,PAT_1_2_3.png\n",
        "images/PAT_1_2_3.png", "Seborrheic keratosis: a benign, waxy growth",
    ),
    (
        "aptos2019", "train", "train.csv", "id_code,diagnosis\n0a1b,2\n", "train_images/0a1b.png",
        "Moderate non-proliferative diabetic retinopathy: more than microaneurysms alone",
    ),
    (
        "eyepacs", "test", "retinopathy_solution.csv", "image,level,Usage\n1_left,4,Public\n", "test/1_left.jpeg",
        "Proliferative diabetic retinopathy: new vessels",
    ),
    (
        "idrid_grading", "train",
        "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv",
        "Image name,Retinopathy grade,Risk of macular edema \nIDRiD_001,3,2\n",
        "B. Disease Grading/1. Original Images/a. Training Set/IDRiD_001.jpg",
        "Severe non-proliferative diabetic retinopathy: many haemorrhages",
    ),
    (
        "messidor2", "all", "messidor_data.csv",
        "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\na.png,1,0,1\nb.png,,,0\n",
        "IMAGES/a.png", "Mild non-proliferative diabetic retinopathy: microaneurysms alone",
    ),
]  # fmt: skip
# Spec, split, the picture in its folder, what the answer starts with.
FOLDERS = [
    (
        "breakhis", "all", "BreaKHis_v1/histology_slides/breast/malignant/SOB/ductal_carcinoma/S_1/40X/a.png",
        "Ductal carcinoma: malignant:",
    ),
    (
        "bracs", "val", "BRACS_RoI/val/4_ADH/a.png", "Atypical ductal hyperplasia: uniform cells",
    ),
    ("nct_crc_he_100k", "train", "NCT-CRC-HE-100K/MUC/a.png", "Mucus: pale, streaky matter"),
    ("herlev", "all", "smear2005/New database pictures/light_dysplastic/a.BMP", "Mild dysplasia: an abnormal"),
    (
        "hyperkvasir", "all", "labeled-images/lower-gi-tract/anatomical-landmarks/retroflex-rectum/a.jpg",
        "Retroflexed view of the rectum: the rectum seen backwards",
    ),
    ("kermany_oct2017", "test", "OCT2017/test/DME/a.jpeg", "Diabetic macular edema: fluid has gathered"),
    ("knee_oa", "val", "val/2/a.png", "Grade 2: minimal: osteophytes are definite"),
    ("acrima", "all", "Database/Images/Im0001_g_ACRIMA.jpg", "Glaucoma: a disease of the optic nerve"),
    ("eurosat", "all", "2750/AnnualCrop/a.jpg", "Annual crop: fields that are sown"),
    ("ucmerced", "all", "UCMerced_LandUse/Images/mobilehomepark/a.tif", "Mobile home park: long narrow homes"),
    ("rsscn7", "all", "dRiverLake/a.jpg", "River or lake: water inland"),
    ("cassava", "val", "cassavaleafdata/validation/cmd/a.jpg", "Mosaic disease: a disease by viruses"),
    (
        "plantvillage", "all", "color/Tomato___Late_blight/a.JPG", "Tomato late blight: a disease of tomato",
    ),
    ("artbench10", "test", "artbench-10-imagefolder-split/test/ukiyo_e/a.jpg", "Ukiyo-e: Japanese prints"),
    ("fire_risk", "val", "FireRisk/val/non-burnable/a.png", "Not burnable: land that does not burn"),
]  # fmt: skip


def picture(path: Path, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def answers(tmp_path: Path, name: str, split: str) -> list[str]:
    (spec,) = Catalog().find(f"{name}/classification_described")
    ledger = convert(spec, split, tmp_path / "in", tmp_path / "out")
    assert ledger.quarantined == {}
    folder = tmp_path / "out" / name / "classification_described" / split
    return [sample.conversation[1].text for sample in manifests.read_samples(folder)]


@pytest.mark.parametrize(
    ("name", "split", "table", "text", "image", "expected"), TABLES, ids=lambda value: value[:20]
)
def test_a_code_in_a_table_is_answered_by_its_name_and_meaning(
    tmp_path: Path, name: str, split: str, table: str, text: str, image: str, expected: str
) -> None:
    picture(tmp_path / "in" / image)
    (tmp_path / "in" / table).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "in" / table).write_text(text)

    (answer,) = answers(tmp_path, name, split)

    assert answer.startswith(expected) and answer.endswith(".")


@pytest.mark.parametrize(("name", "split", "image", "expected"), FOLDERS, ids=lambda value: value[:20])
def test_a_folder_is_answered_by_its_name_and_meaning(
    tmp_path: Path, name: str, split: str, image: str, expected: str
) -> None:
    picture(tmp_path / "in" / image)

    (answer,) = answers(tmp_path, name, split)

    assert answer.startswith(expected) and answer.endswith(".")


def test_a_finding_of_chexpert_is_there_absent_or_neither(tmp_path: Path) -> None:
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT]
    path = "CheXpert-v1.0-small/valid/patient1/study1/view1_frontal.jpg"
    cells = {
        "Path": path,
        "Edema": "1.0",
        "Pleural_Effusion": "1.0",
        "Pneumothorax": "0.0",
        "Pneumonia": "-1.0",
    }
    (tmp_path / "CheXpert-v1.0-small").mkdir()
    (tmp_path / "CheXpert-v1.0-small" / "valid.csv").write_text(
        f"{','.join(columns)}\n{row(columns, **cells)}\n"
    )
    (spec,) = Catalog().find("chexpert/classification")

    (found,) = items_of(spec, "valid", Root(tmp_path))

    assert isinstance(found, Annotation) and not found.exhaustive
    assert (found.labels, found.negatives) == (("edema", "pleural effusion"), ("pneumothorax",))
    assert found.images[0].path == path


def test_real_findings_of_nih_have_readable_names(samples_dir: Callable[[str], Path]) -> None:
    (spec,) = Catalog().find("nih_chestxray14/classification")
    root = Root(samples_dir("nih_chestxray14"))
    space = labels_of(spec, "all", root)

    found = [
        name for item in items_of(spec, "all", root) if isinstance(item, Annotation) for name in item.labels
    ]

    assert space is not None and set(found) <= set(space.names)
    assert "no finding" in found and not any("_" in name or name != name.lower() for name in found)


def categories(name: str, split: str, root: Path) -> set[str | None]:
    """Return the classes of all objects of a split; each of them is explained by the space of the spec."""
    (spec,) = Catalog().find(f"{name}/region_description")
    found = [item for item in items_of(spec, split, Root(root)) if isinstance(item, Annotation)]
    names = {one.category for item in found for one in item.instances}
    assert spec.labels is not None
    assert names <= {label.name for label in spec.labels.labels if label.description}
    return names


@pytest.mark.parametrize(
    ("name", "split", "names"),
    [
        (
            "deeppcb",
            "trainval",
            {"open circuit", "short circuit", "mouse bite", "spur", "spurious copper", "pinhole"},
        ),
        ("tbx11k", "train", {"active tuberculosis", "obsolete tuberculosis"}),
    ],
)
def test_objects_of_real_files_are_called_by_names_that_the_space_explains(
    samples_dir: Callable[[str], Path], name: str, split: str, names: set[str]
) -> None:
    assert categories(name, split, samples_dir(name)) == names


def test_real_blood_cells_have_readable_names(samples_dir: Callable[[str], Path], tmp_path: Path) -> None:
    # The excerpt lacks the lists of the splits.
    source = samples_dir("bccd") / "BCCD"
    for part in ("Annotations", "JPEGImages"):
        shutil.copytree(source / part, tmp_path / "BCCD" / part)
    (tmp_path / "BCCD" / "ImageSets" / "Main").mkdir(parents=True)
    stems = sorted(path.stem for path in (source / "Annotations").iterdir())
    (tmp_path / "BCCD" / "ImageSets" / "Main" / "test.txt").write_text("\n".join(stems) + "\n")

    assert categories("bccd", "test", tmp_path) == {"red blood cell", "white blood cell", "platelet"}


def test_real_findings_of_chestx_det_have_readable_names(
    samples_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    # The excerpt lacks the pictures, whose size the outlines are measured by.
    file = samples_dir("chestx_det") / "ChestX_Det_test.json"
    shutil.copy(file, tmp_path)
    for row in json.loads(file.read_text()):
        picture(tmp_path / "test_data" / row["file_name"], (1024, 1024))

    names = categories("chestx_det", "test", tmp_path)

    assert {"effusion", "consolidation"} < names


def test_the_space_of_resisc45_knows_every_class_of_its_real_folders(
    samples_dir: Callable[[str], Path],
) -> None:
    (spec,) = Catalog().find("resisc45/classification")
    root = Root(samples_dir("fmt_resisc45"))

    stated = source_labels(load_reader("imagefolder", "test"), spec.source("train"), root)

    assert stated is not None and spec.labels is not None
    assert {spec.labels.codes.get(name, name) for name in stated.names} <= set(spec.labels.names)


def test_the_space_of_deepweeds_knows_every_class_of_its_real_table(
    samples_dir: Callable[[str], Path],
) -> None:
    table = samples_dir("deepweeds") / "labels.csv"
    species = {row["Species"] for row in csv.DictReader(table.read_text().splitlines())}
    space = Catalog().labels["weeds9"]

    assert species and {space.codes.get(name, name) for name in species} <= set(space.names)


def test_real_screens_of_enrico_have_a_topic_that_is_explained(
    samples_dir: Callable[[str], Path],
) -> None:
    (spec,) = Catalog().find("enrico/classification_described")

    found = [
        item for item in items_of(spec, "all", Root(samples_dir("enrico"))) if isinstance(item, Annotation)
    ]

    assert spec.labels is not None and found
    assert {name for item in found for name in item.labels} <= set(spec.labels.names)


def test_a_number_of_a_pest_becomes_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "Detection" / "VOC2007"
    picture(folder / "JPEGImages" / "IP022000000.jpg", (30, 20))
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets/Main/test.txt").write_text("IP022000000\n")
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>12</xmax><ymax>13</ymax></bndbox>"
    (folder / "Annotations" / "IP022000000.xml").write_text(
        "<annotation><filename>IP022000000.jpg</filename>"
        "<size><width>30</width><height>20</height><depth>3</depth></size>"
        f"<object><name>22</name>{box}</object></annotation>"
    )
    (spec,) = Catalog().find("ip102/detection")

    (found,) = items_of(spec, "test", Root(tmp_path))

    assert isinstance(found, Annotation)
    assert [one.category for one in found.instances] == ["corn borer"]


def test_codes_rename_negatives_as_well_and_leave_other_names_alone(tmp_path: Path) -> None:
    space = {"id": "two", "labels": [{"name": "cat", "codes": ["c", "C"]}, {"name": "dog"}]}
    (tmp_path / "specs" / "labels").mkdir(parents=True)
    (tmp_path / "specs" / "datasets").mkdir()
    (tmp_path / "specs" / "labels" / "two.yaml").write_text(json.dumps(space))
    (tmp_path / "specs" / "datasets" / "pets.yaml").write_text(
        "id: pets\ntitle: Pets\nlicense: {annotations: CC0-1.0, images: CC0-1.0}\n"
        "source:\n  format: records\n  table: {path: rows.json, kind: json}\n  key: '{id}'\n"
        "  fields: {images: '{id}.jpg', labels: is, negatives: is_not}\n  splits: {train: {use: train}}\n"
        "labels: two\ntasks: {classification: {}}\nstatus: layout\n"
    )
    rows = [{"id": 1, "is": ["c", "C", "dog"], "is_not": ["c", "fox"]}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (spec,) = Catalog(tmp_path / "specs").find("pets")

    (found,) = items_of(spec, "train", Root(tmp_path))

    assert isinstance(found, Annotation)
    assert (found.labels, found.negatives) == (("cat", "dog"), ("cat", "fox"))

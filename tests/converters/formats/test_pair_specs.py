"""The shipped specs of picture pairs and of maps, on files called as their datasets call them."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.formats.records import read
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.files import Root

# A spec and its split, a file of its table, and the two pictures that belong together.
PAIRS = [
    ("gopro", "train", "GOPRO_Large/train/S1/blur/000047.png", None, "GOPRO_Large/train/S1/sharp/000047.png"),
    ("lol_v1", "train", "our485/low/2.png", None, "our485/high/2.png"),
    ("lol_v2", "real_test", "Real_captured/Test/Low/7.png", None, "Real_captured/Test/Normal/7.png"),
    ("istd", "train", "train/train_A/1-1.png", None, "train/train_C/1-1.png"),
    ("srd", "test", "test/shadow/a.jpg", None, "test/shadow_free/a.jpg"),
    ("rain13k", "train", "train/Rain13K/input/9.jpg", None, "train/Rain13K/target/9.jpg"),
    ("rain100", "heavy", "Rain100H/input/9.png", None, "Rain100H/target/9.png"),
    ("raindrop", "test_a", "test_a/data/3_rain.png", None, "test_a/gt/3_clean.png"),
    ("reside", "indoor", "ITS/hazy/12_3_0.8.png", None, "ITS/clear/12.png"),
    ("nh_haze", "all", "NH-HAZE/05_hazy.png", None, "NH-HAZE/05_GT.png"),
    ("polyu_noise", "crops", "CroppedImages/Canon_1_real.JPG", None, "CroppedImages/Canon_1_mean.JPG"),
    (
        "sidd_medium", "train", "SIDD_Medium_Srgb/Data/0001_S6/0001_NOISY_SRGB_010.PNG", None,
        "SIDD_Medium_Srgb/Data/0001_S6/0001_GT_SRGB_010.PNG",
    ),
    ("snow100k", "train", "Snow100K-training/synthetic/a.jpg", None, "Snow100K-training/gt/a.jpg"),
    ("uieb", "all", "raw-890/2_img_.png", None, "reference-890/2_img_.png"),
    ("lsui", "all", "LSUI/input/1.jpg", None, "LSUI/GT/1.jpg"),
    (
        "dpdd", "test", "dd_dp_dataset_canon/test_c/source/1P0A1.png", None,
        "dd_dp_dataset_canon/test_c/target/1P0A1.png",
    ),
    ("reds", "val", "val/val_blur/000/00000001.png", None, "val/val_sharp/000/00000001.png"),
    (
        "realsr", "canon_test_x4", "RealSR(V3)/Canon/Test/4/Canon_001_LR4.png", None,
        "RealSR(V3)/Canon/Test/4/Canon_001_HR.png",
    ),
    (
        "div2k", "train_x3", "DIV2K_train_LR_bicubic/X3/0001x3.png", None, "DIV2K_train_HR/0001.png",
    ),
    (
        "flickr2k", "train_x2", "Flickr2K/Flickr2K_LR_bicubic/X2/000001x2.png", None,
        "Flickr2K/Flickr2K_HR/000001.png",
    ),
    (
        "kitti_depth", "train",
        "data_depth_annotated/train/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png",
        "raw/2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png",
        "data_depth_annotated/train/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png",
    ),
    (
        "vkitti2", "all", "Scene01/fog/frames/depth/Camera_0/depth_00003.png",
        "Scene01/fog/frames/rgb/Camera_0/rgb_00003.jpg", "Scene01/fog/frames/depth/Camera_0/depth_00003.png",
    ),
    (
        "nyu_depth_v2_sync", "train", "sync/bath_1/sync_depth_00012.png", "sync/bath_1/rgb_00012.jpg",
        "sync/bath_1/sync_depth_00012.png",
    ),
    (
        "scannet_depth", "all", "scans/scene0000_00/depth/10.png", "scans/scene0000_00/color/10.jpg",
        "scans/scene0000_00/depth/10.png",
    ),
    (
        "taskonomy_depth", "all", "a_depth_zbuffer/point_1_view_2_domain_depth_zbuffer.png",
        "a_rgb/point_1_view_2_domain_rgb.png", "a_depth_zbuffer/point_1_view_2_domain_depth_zbuffer.png",
    ),
    (
        "taskonomy_normals", "all", "a_normal/point_1_view_2_domain_normal.png",
        "a_rgb/point_1_view_2_domain_rgb.png", "a_normal/point_1_view_2_domain_normal.png",
    ),
    (
        "arkitscenes_depth", "val", "upsampling/Validation/41/highres_depth/41_1.png",
        "upsampling/Validation/41/wide/41_1.png", "upsampling/Validation/41/highres_depth/41_1.png",
    ),
    (
        "structured3d_depth", "all",
        "Structured3D/scene_00000/2D_rendering/4/perspective/full/0/depth.png",
        "Structured3D/scene_00000/2D_rendering/4/perspective/full/0/rgb_rawlight.png",
        "Structured3D/scene_00000/2D_rendering/4/perspective/full/0/depth.png",
    ),
    (
        "structured3d_normals", "all",
        "Structured3D/scene_00000/2D_rendering/4/perspective/full/0/normal.png",
        "Structured3D/scene_00000/2D_rendering/4/perspective/full/0/rgb_rawlight.png",
        "Structured3D/scene_00000/2D_rendering/4/perspective/full/0/normal.png",
    ),
    (
        "nyuv2_normals", "test", "nyu_normal/test/norm/000_1.png", "nyu_normal/test/img/000_1.png",
        "nyu_normal/test/norm/000_1.png",
    ),
    (
        "diode_depth", "val", "val/outdoor/scene_00022/scan_00193/00022_00193_outdoor_010_020_depth.npy",
        "val/outdoor/scene_00022/scan_00193/00022_00193_outdoor_010_020.png",
        "depth16/val/outdoor/scene_00022/scan_00193/00022_00193_outdoor_010_020.png",
    ),
    (
        "tartanair_depth", "all", "ocean/Easy/P000/depth_left/000001_left_depth.npy",
        "ocean/Easy/P000/image_left/000001_left.png", "depth16/ocean/Easy/P000/image_left/000001.png",
    ),
    (
        "sintel_depth", "final", "training/depth/alley_1/frame_0001.dpt",
        "training/final/alley_1/frame_0001.png", "depth16/alley_1/frame_0001.png",
    ),
    (
        "blendedmvs", "all", "5a3/rendered_depth_maps/00000001.pfm", "5a3/blended_images/00000001.jpg",
        "depth16/5a3/00000001.png",
    ),
    (
        "hide_deblur", "test", "HIDE_dataset/test/7.png", None, "HIDE_dataset/GT/7.png",
    ),
    (
        "reds_sr", "train", "train/train_sharp_bicubic/X4/000/00000001.png", None,
        "train/train_sharp/000/00000001.png",
    ),
]  # fmt: skip


def _items(name: str, split: str, root: Path) -> list[Annotation | Rejected]:
    spec = Catalog().find(name)[0]
    return list(read(spec.source(split), Root(root)))


@pytest.mark.parametrize(("name", "split", "file", "shown", "wanted"), PAIRS)
def test_a_file_finds_the_picture_that_belongs_to_it(
    name: str, split: str, file: str, shown: str | None, wanted: str, tmp_path: Path
) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()

    (found,) = _items(name, split, tmp_path)

    assert isinstance(found, Annotation)
    assert [(image.path, image.role) for image in found.images] == [
        (shown or file, "input"),
        (wanted, "target"),
    ]
    # A measured target is a map; any other pair has an instruction that says what to do.
    assert (found.images[1].measure is None) == (len(found.edits) == 1)


def test_one_clear_picture_serves_several_hazy_ones(tmp_path: Path) -> None:
    for haze in ("1_1_0.9", "1_2_0.7", "2_1_0.9"):
        (tmp_path / f"ITS/hazy/{haze}.png").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"ITS/hazy/{haze}.png").touch()

    found = [item for item in _items("reside", "indoor", tmp_path) if isinstance(item, Annotation)]

    assert [item.images[1].path for item in found] == [
        "ITS/clear/1.png",
        "ITS/clear/1.png",
        "ITS/clear/2.png",
    ]


def test_a_list_names_both_pictures_of_a_pair(tmp_path: Path) -> None:
    (tmp_path / "RealBlur_J_test_list.txt").write_text("s/gt/gt_1.png s/blur/blur_1.png\n")

    (found,) = _items("realblur", "test_j", tmp_path)

    assert isinstance(found, Annotation)
    assert [image.path for image in found.images] == ["s/blur/blur_1.png", "s/gt/gt_1.png"]


def test_all_exposures_of_a_scene_aim_at_its_label(tmp_path: Path) -> None:
    for file in ("Dataset_Part1/12/1.JPG", "Dataset_Part1/12/2.JPG", "Dataset_Part1/Label/12.JPG"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()

    first, second, label = _items("sice", "all", tmp_path)

    assert isinstance(first, Annotation) and isinstance(second, Annotation) and isinstance(label, Rejected)
    assert first.images[1].path == second.images[1].path == "Dataset_Part1/Label/12.JPG"
    assert label.reason == "where.filtered"


def test_the_photograph_beside_a_depth_map_is_found_whatever_its_name(tmp_path: Path) -> None:
    for file in ("kv1/b/1/depth_bfx/d.png", "kv1/b/1/image/p.jpg", "kv1/b/2/depth_bfx/d.png"):
        (tmp_path / "SUNRGBD" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "SUNRGBD" / file).touch()

    found, lost = _items("sunrgbd_depth", "all", tmp_path)

    assert isinstance(found, Annotation) and isinstance(lost, Rejected)
    assert [image.path for image in found.images] == [
        "SUNRGBD/kv1/b/1/image/p.jpg",
        "SUNRGBD/kv1/b/1/depth_bfx/d.png",
    ]
    assert lost.reason == "id.orphan"


def test_a_frame_is_made_of_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "sep_testlist.txt").write_text("00001/0266\n")

    (found,) = _items("vimeo90k", "test", tmp_path)

    assert isinstance(found, Annotation)
    assert [(image.path, image.role) for image in found.images] == [
        ("sequences/00001/0266/im3.png", "input"),
        ("sequences/00001/0266/im5.png", "input"),
        ("sequences/00001/0266/im4.png", "target"),
    ]
    assert (found.edits[0].before, found.edits[0].after) == (0, 2)

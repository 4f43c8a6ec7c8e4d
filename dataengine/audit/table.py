"""The table of rules. To add one, write a function and a row.

`docs/rules.md` is made from it. Rows without a function are reasons that conversion or the audit itself gives.
"""

from __future__ import annotations

from dataengine.audit import geometry, labels, media, outlines, paths, policy, samples, texts
from dataengine.audit.rule import Rule

RULES: tuple[Rule, ...] = (
    # Records and samples as a whole.
    Rule(
        id="schema",
        severity="error",
        action="quarantine",
        says="a record is not of the declared layout, or a sample breaks its schema",
    ),
    Rule(
        id="sample.contradiction",
        severity="error",
        action="quarantine",
        says="a sample's tokens, routes, regions and targets contradict each other",
        sample=samples.other_contradiction,
    ),
    Rule(
        id="count.expected",
        severity="error",
        action="fail",
        says="a split has another number of records or pictures than its spec states",
    ),
    Rule(id="ledger.unbalanced", severity="error", action="fail", says="an account does not balance"),
    Rule(
        id="shard.damaged",
        severity="error",
        action="fail",
        says="a shard's bytes are not those that were written",
    ),
    # Geometry.
    Rule(
        id="box.degenerate",
        severity="error",
        action="drop",
        says="a box has no area",
        budget=0.001,
        known=("COCO train2017", "BCCD", "MOTSynth"),
        among="odd_boxes",
        annotation=geometry.degenerate,
        sample=geometry.target_degenerate,
    ),
    Rule(
        id="box.inverted",
        severity="error",
        action="drop",
        says="a box ends before it begins",
        among="odd_boxes",
        annotation=geometry.inverted,
    ),
    Rule(
        id="box.nonfinite",
        severity="error",
        action="drop",
        says="a box holds a number that is not finite",
        among="endless",
        annotation=geometry.nonfinite,
    ),
    Rule(
        id="box.outside",
        severity="warn",
        action="fix",
        says="a box leaves its picture by more than a pixel",
        known=("Visual Genome", "DOTA", "Objects365", "CityPersons", "TACO"),
        among="odd_boxes",
        annotation=geometry.outside,
        sample=geometry.target_outside,
    ),
    Rule(
        id="box.convention",
        severity="error",
        action="fail",
        says="the boxes look like another convention than the declared one",
        known=("Pascal VOC (counts from 1)",),
    ),
    Rule(
        id="box.size_mismatch",
        severity="error",
        action="quarantine",
        says="the stated picture size is not the file's",
        budget=0.001,
        known=("Sherlock", "Bongard-HOI"),
    ),
    Rule(
        id="box.duplicate",
        severity="warn",
        action="drop",
        says="two objects of one class have the same box",
        known=("COCO train2017", "Objects365", "VRD"),
        among="boxes",
        annotation=geometry.duplicate,
    ),
    Rule(
        id="box.whole_image",
        severity="warn",
        action="warn",
        says="in many pictures a box covers all of the picture",
        corpus=geometry.WholeImage,
    ),
    Rule(
        id="box.constant",
        severity="warn",
        action="warn",
        says="many pictures have the very same box",
        corpus=geometry.Constant,
    ),
    # Polygons, masks and corners.
    Rule(
        id="polygon.invalid",
        severity="error",
        action="quarantine",
        says="a polygon has too few points, numbers that are not finite, or no area",
        known=("TACO", "labelme's example"),
        among="outlined",
        annotation=outlines.flat,
    ),
    Rule(
        id="polygon.self_intersect",
        severity="warn",
        action="warn",
        says="the outline of a polygon crosses itself",
        known=("TACO", "labelme's example"),
        among="outlined",
        annotation=outlines.polygon_crossed,
    ),
    Rule(
        id="polygon.outside",
        severity="warn",
        action="fix",
        says="a polygon leaves its picture by more than a pixel",
        known=("Croissant's excerpt of COCO 2014",),
        among="outlined",
        annotation=outlines.polygon_outside,
    ),
    Rule(
        id="polygon.holes_lost",
        severity="warn",
        action="warn",
        says="a polygon lies inside another of its object: if it is a hole, the mask fills it",
        among="outlined",
        annotation=outlines.hole_lost,
    ),
    Rule(
        id="rle.size_mismatch",
        severity="error",
        action="drop",
        says="a run-length code does not fit its picture",
        known=("COCO (h and w swapped by tools)",),
        among="masked",
        annotation=outlines.mask_size,
    ),
    Rule(
        id="mask.box_mismatch",
        severity="warn",
        action="warn",
        says="the box around an object's polygons or mask is another one than its box (IoU below 0.8)",
        known=("LVIS v0.5 (turned pictures)", "OCHuman"),
        annotation=outlines.box_mismatch,
    ),
    Rule(
        id="quad.self_intersect",
        severity="error",
        action="quarantine",
        says="the sides of a quadrilateral cross",
        known=("SOON",),
        among="quads",
        annotation=outlines.quad_crossed,
    ),
    Rule(
        id="quad.order",
        severity="warn",
        action="warn",
        says="corners of quadrilaterals go counter-clockwise, where most readers expect clockwise",
        known=("WildReceipt",),
        corpus=outlines.QuadOrder,
    ),
    Rule(
        id="keypoint.count",
        severity="error",
        action="quarantine",
        says="an object has another number of keypoints than its category",
        known=("CrowdPose (its skeleton)",),
    ),
    Rule(
        id="keypoint.convention",
        severity="error",
        action="fail",
        says="the keypoints look like another convention than the declared one",
    ),
    Rule(
        id="keypoint.visibility",
        severity="warn",
        action="fix",
        says="a keypoint's flag and place disagree, or the stated number of keypoints is wrong",
        known=("CrowdPose", "Halpe"),
        among="posed",
        annotation=geometry.keypoint_visibility,
    ),
    Rule(
        id="keypoint.outside",
        severity="warn",
        action="fix",
        says="a labelled keypoint lies outside its picture",
        known=("CrowdPose",),
        among="posed",
        annotation=geometry.keypoint_outside,
    ),
    Rule(
        id="point.norm_range",
        severity="warn",
        action="fix",
        says="a box in words is of shares of the picture's sides, and leaves the picture",
        known=("Localized Narratives (traces)",),
        among="texts",
        annotation=texts.norm_range,
    ),
    Rule(
        id="keypoint.swap_map",
        severity="error",
        action="fail",
        says="a keypoint's mirror partner is unknown, itself, another's too, or of no other side",
        budget=0.0,
        whole=labels.swap_map,
    ),
    # Identity, labels and joins.
    Rule(
        id="id.duplicate",
        severity="error",
        action="quarantine",
        says="an id stands twice",
        known=("TACO", "MG-LLaVA"),
        corpus=labels.RepeatedIds,
    ),
    Rule(
        id="id.orphan",
        severity="error",
        action="quarantine",
        says="a record points to one that is not there",
        known=("LLaVA-NeXT", "InstructPix2Pix"),
        annotation=labels.orphan,
    ),
    Rule(
        id="category.unknown",
        severity="error",
        action="quarantine",
        says="an object's category is not in the label space",
        known=("TAO", "AnimalKingdom", "InterHand2.6M", "OpenLane"),
    ),
    Rule(
        id="category.gap_or_shift",
        severity="warn",
        action="warn",
        says="the first or last class alone has no object: numbers of classes may be off by one",
        known=("ImageNet devkit (its own order)",),
        whole=labels.shift,
    ),
    Rule(
        id="category.name_alias",
        severity="warn",
        action="warn",
        says="two names of classes differ in writing alone, or are well-known synonyms",
        known=("Visual Genome", "VRD"),
        whole=labels.alias,
    ),
    Rule(
        id="label.imbalance",
        severity="info",
        action="warn",
        says="the most frequent class has more than 50 times the objects of the rarest",
        whole=labels.imbalance,
    ),
    Rule(
        id="label.not_exhaustive_used_as_negative",
        severity="error",
        action="fail",
        says="a class without an object counts as absent, though nobody says that it is",
        budget=0.0,
        known=("LVIS", "Open Images"),
        annotation=labels.negatives_twice,
        sample=labels.unknown_as_absent,
    ),
    Rule(
        id="ignore.used_as_object",
        severity="error",
        action="fail",
        says="a region that is marked as no object is used as one",
        budget=0.0,
        known=("KITTI (DontCare)", "ICDAR 2015 (###)"),
        annotation=labels.marked_as_none,
        sample=labels.target_none,
    ),
    Rule(
        id="split.overlap",
        severity="error",
        action="fail",
        says="a picture to evaluate on is one to train on, too",
        budget=0.0,
        known=("VSR (random split)", "LIVECell", "PlantSeg", "FairFace"),
    ),
    Rule(
        id="path.separator",
        severity="error",
        action="fix",
        says="a picture's name has a backslash, a control character or a new line",
        known=("simulacra-aesthetic-captions",),
        annotation=paths.separator,
    ),
    Rule(
        id="path.unicode",
        severity="warn",
        action="fix",
        says="a picture's name is not in Unicode's composed form (NFC), or its file's name is in another form",
        annotation=paths.unicode_form,
    ),
    Rule(
        id="path.case",
        severity="error",
        action="fix",
        says="names of pictures differ in case alone, or a file's name is written in another case",
        known=("Cambrian-10M",),
        corpus=paths.SameButCase,
    ),
    Rule(id="path.outside", severity="error", action="quarantine", says="a file name leaves the root"),
    # Text.
    Rule(
        id="text.empty",
        severity="error",
        action="skip",
        says="a text that is asked or answered is empty",
        among="texts",
        annotation=texts.empty,
        sample=samples.contradiction("text.empty"),
    ),
    Rule(
        id="text.special_token",
        severity="error",
        action="quarantine",
        says="source text holds a token of the model",
        among="texts",
        annotation=texts.special_token,
        sample=samples.contradiction("text.special_token"),
    ),
    Rule(
        id="turn.structure",
        severity="error",
        action="quarantine",
        says="turns of a conversation do not alternate from user to assistant",
        sample=samples.contradiction("turn.structure"),
    ),
    Rule(
        id="media.placeholder",
        severity="error",
        action="quarantine",
        says="the number of <image> is not the number of pictures",
        annotation=texts.placeholder,
        sample=samples.contradiction("media.placeholder"),
    ),
    # Pictures.
    Rule(id="image.missing", severity="error", action="quarantine", says="a picture's file is not there"),
    Rule(
        id="image.corrupt",
        severity="error",
        action="quarantine",
        says="a picture cannot be decoded to its last row",
        known=("COCO train2014", "CelebA-HQ", "LAION-400M"),
    ),
    Rule(
        id="image.too_large",
        severity="error",
        action="quarantine",
        says="a picture has more pixels than is safe to decode",
    ),
    Rule(
        id="image.format_vs_extension",
        severity="warn",
        action="fix",
        says="a picture's bytes are of another format than its name says",
        known=("ImageNet", "COCO val2014", "OCR-VQA"),
        picture=media.format_vs_extension,
    ),
    Rule(
        id="image.exif_orientation",
        severity="warn",
        action="warn",
        says="a picture is stored turned; annotations may mean either side up",
        known=("Open Images", "COCO"),
        picture=media.exif_orientation,
    ),
    # Policy.
    Rule(
        id="license.missing",
        severity="warn",
        action="warn",
        says="no license is stated for annotations or pictures",
        known=("TACO", "CrowdPose"),
        annotation=policy.license_missing,
        sample=policy.sample_license_missing,
    ),
)
BY_ID = {rule.id: rule for rule in RULES}
ANNOTATION_RULES = tuple((rule.id, rule.annotation) for rule in RULES if rule.annotation is not None)
ANNOTATION_GROUPS = {
    name: tuple(
        (rule.id, rule.annotation) for rule in RULES if rule.annotation is not None and rule.among == name
    )
    for name in sorted({rule.among for rule in RULES if rule.annotation is not None})
}
SAMPLE_RULES = tuple((rule.id, rule.sample) for rule in RULES if rule.sample is not None)
PICTURE_RULES = tuple((rule.id, rule.picture) for rule in RULES if rule.picture is not None)
WHOLE_RULES = tuple((rule.id, rule.whole) for rule in RULES if rule.whole is not None)
CORPUS_RULES = tuple((rule.id, rule.corpus) for rule in RULES if rule.corpus is not None)


def rule_of(reason: str) -> Rule:
    """Return the rule of a reason; one that a reader or builder named itself counts as an error."""
    return BY_ID.get(reason) or Rule(
        id=reason, severity="error", action="quarantine", says="named by a reader or builder"
    )

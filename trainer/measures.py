"""Which measures tell how good answers are: a table by task, and one by the metric that a spec declares."""

from __future__ import annotations

# The first measure of a task gives its headline, the number that a table shows where there is room for one.
TASKS: dict[str, tuple[str, ...]] = {
    # Objects by name.
    "detection": ("box_ap", "mask_ap"),
    "instance_segmentation": ("mask_ap", "box_ap"),
    "oriented_detection": ("mask_ap", "box_ap"),
    "keypoints": ("keypoint_ap", "pck", "box_ap"),
    "text_spotting": ("spotting", "box_ap"),
    # Label maps and segments.
    "semantic_segmentation": ("label_maps",),
    "panoptic_segmentation": ("panoptic", "mask_ap"),
    "camouflaged_segmentation": ("answer_masks",),
    "salient_segmentation": ("answer_masks",),
    "change_segmentation": ("answer_masks",),
    # One answer to an expression, a region or an example.
    "grounding": ("precision_at_50",),
    "grounding_mask": ("answer_masks", "precision_at_50"),
    "reasoning_segmentation": ("answer_masks", "precision_at_50"),
    "interactive_segmentation": ("answer_masks", "precision_at_50"),
    "in_context_mask": ("answer_masks", "precision_at_50"),
    "relation_grounding": ("recall_at_50", "precision_at_50"),
    # Text with objects.
    "grounded_caption": ("box_ap", "captions"),
    "grounded_caption_mask": ("mask_ap", "box_ap", "captions"),
    "grounded_conversation": ("box_ap", "captions"),
    # Sentences.
    "caption": ("captions",),
    "change_caption": ("captions",),
    "classification_described": ("captions", "accuracy"),
    "region_caption": ("captions",),
    "region_caption_detailed": ("captions",),
    "region_caption_multi": ("captions",),
    "region_description": ("captions", "accuracy"),
    "video_caption": ("captions",),
    # Conversations, in the source's own words.
    "conversation": ("accuracy", "captions"),
    "interleaved": ("accuracy", "captions"),
    "region_conversation": ("accuracy", "captions"),
    # Short answers.
    "vqa": ("questions", "yes_no"),
    "video_qa": ("questions", "yes_no"),
    "video_qa_open": ("questions", "captions", "yes_no"),
    "region_qa": ("questions", "yes_no"),
    "in_context_text": ("accuracy", "captions"),
    "multiple_choice_vqa": ("choices",),
    "video_choices": ("choices",),
    "classification": ("accuracy",),
    "classification_choices": ("choices",),
    "video_classification": ("accuracy",),
    "region_recognition": ("accuracy",),
    "mark_recognition": ("accuracy",),
    "relation": ("accuracy",),
    "counting": ("counts",),
    "image_quality": ("ratings", "accuracy"),
    "image_aesthetics": ("ratings", "accuracy"),
    # Read text.
    "ocr": ("reading",),
    "region_ocr": ("reading",),
    "mark_ocr": ("reading",),
    # Made pictures.
    "text_to_image": ("noise",),
    "image_edit": ("pictures", "noise"),
    "image_restoration": ("pictures", "noise"),
    "depth": ("pictures", "noise"),
    "normals": ("pictures", "noise"),
}
# For a task that is not in the table, by the metric that its spec declares.
METRICS: dict[str, tuple[str, ...]] = {
    "accuracy": ("accuracy",),
    "anls": ("questions",),
    "choice_accuracy": ("choices",),
    "cider": ("captions",),
    "coco_ap": ("box_ap", "mask_ap"),
    "coco_ap_mask": ("mask_ap", "box_ap"),
    "coco_oks": ("keypoint_ap", "pck", "box_ap"),
    "count_mae": ("counts",),
    "cumulative_iou": ("answer_masks", "precision_at_50"),
    "mean_iou": ("answer_masks",),
    "meteor": ("captions",),
    "ned": ("reading",),
    "panoptic_quality": ("panoptic", "mask_ap"),
    "plcc": ("ratings", "accuracy"),
    "precision_at_50": ("precision_at_50",),
    "psnr": ("pictures", "noise"),
    "recall_at_50": ("recall_at_50", "precision_at_50"),
    "relaxed_accuracy": ("questions",),
    "text_f1": ("spotting", "box_ap"),
    "vqa_accuracy": ("questions", "yes_no"),
    "yes_f1": ("yes_no", "questions"),
}
# The number that a declared metric is called here, where that is another name.
NAMES = {"coco_ap": "box_ap", "coco_ap_mask": "mask_ap", "coco_oks": "keypoint_ap", "exact_match": "accuracy"}
# What specs declare and nothing here measures: it needs another model, or numbers that pictures are read back as.
NOT_MEASURED = frozenset({"abs_rel", "clip_directional_similarity", "fid", "mean_angular_error"})
OTHERS = ("accuracy",)


def measures_of(task: str, declared: str) -> tuple[str, ...]:
    """Return the measures of a task; the metric that its spec declares decides for one that is not listed."""
    return TASKS.get(task) or METRICS.get(declared, OTHERS)

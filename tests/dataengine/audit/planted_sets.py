"""Defects of COCO's and VQA's files, of a dataset's spec and source, of its manifests and shards."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pyarrow.parquet as pq

from tests.dataengine.audit.planted_corpora import SIDE, Corpus, Documents, Row, Sets, Tars
from tests.dataengine.audit.planting import (
    SUBJECT,
    Planted,
    encoded,
    insert,
    pixels_of,
)


def keypoint_count(files: Documents, chance: random.Random) -> Planted:
    one = files.take(chance, [pose for pose in files.poses["annotations"] if pose["keypoints"]])
    cut = chance.choice((1, 2, 3, 6))
    one["keypoints"] = one["keypoints"][:-cut] if chance.random() < 0.5 else [*one["keypoints"], *[1] * cut]
    return Planted(f"annotations[{files.poses['annotations'].index(one)}]")


def stated_number(files: Documents, chance: random.Random) -> Planted:
    one = files.take(chance, [pose for pose in files.poses["annotations"] if pose["keypoints"]])
    if chance.random() < 0.5:
        one["num_keypoints"] += chance.randrange(1, 4)
    else:
        point = 3 * chance.randrange(len(one["keypoints"]) // 3)
        one["keypoints"][point + 2] = 0
        one["num_keypoints"] -= 1
    return Planted(str(one["image_id"]))


def unknown_number(files: Documents, chance: random.Random) -> Planted:
    one = files.take(chance, files.poses["annotations"])
    one["category_id"] = chance.choice((0, 12, 999))
    return Planted(f"annotations[{files.poses['annotations'].index(one)}]")


def lost_picture(files: Documents, chance: random.Random) -> Planted:
    one = files.take(chance, files.poses["annotations"])
    one["image_id"] = 90_000 + chance.randrange(9000)
    return Planted(f"annotations[{files.poses['annotations'].index(one)}]")


def consensus(files: Documents, chance: random.Random) -> Planted:
    one = files.take(chance, files.answered["annotations"])
    one["multiple_choice_answer"] = "nobody said so"
    if chance.random() < 0.5:
        one["answers"][-1]["answer"] = one["multiple_choice_answer"]
    return Planted(str(one["question_id"]))


def swap_map(sets: Sets, chance: random.Random) -> Planted:
    """Make two keypoints partners that are not, or leave one without."""
    figure = next(one for one in sets.space["labels"] if one["flip_pairs"])
    pairs = [list(pair) for pair in figure["flip_pairs"]]
    first, second = chance.sample(range(len(pairs)), 2)
    if chance.random() < 0.5:
        pairs[first][1], pairs[second][1] = pairs[second][1], pairs[first][1]
    else:
        del pairs[first]
    figure["flip_pairs"] = pairs
    return Planted(SUBJECT, figure["name"])


def expected(sets: Sets, chance: random.Random) -> Planted:
    what = chance.choice(("records", "images"))
    count = 40 + chance.choice((-1, 1)) * chance.randrange(1, 9)
    sets.splits["train"][f"{what}_expected"] = count
    return Planted(SUBJECT, str(count))


def overlap(sets: Sets, chance: random.Random) -> Planted:
    """Evaluate on a picture to train on: the same file, or a copy of it."""
    trained, tested = sets.train.take(chance), sets.val.take(chance)
    shown, evaluated = trained["images"][0], tested["images"][0]
    if chance.random() < 0.5:
        evaluated["path"] = shown["path"]
    else:
        sets.val.picture(evaluated, (sets.train.folder / shown["path"]).read_bytes())
    sets.taken.append({"id": evaluated["path"]})
    return Planted(evaluated["path"])


def _shown_again(
    sets: Sets, chance: random.Random, first: Corpus, later: Corpus, near: bool
) -> tuple[str, str]:
    """Show a picture of one corpus in another one, as the same file or stored anew; return both names."""
    shown, again = first.take(chance)["images"][0], later.take(chance)["images"][0]
    if near:
        picture = pixels_of(first, shown)
        later.picture(again, encoded(picture, "JPEG", quality=chance.randrange(70, 95)), ".jpg")
    else:
        later.picture(again, (first.folder / shown["path"]).read_bytes())
    sets.taken += [{"id": shown["path"]}, {"id": again["path"]}]
    return shown["path"], again["path"]


def near_twin(sets: Sets, chance: random.Random) -> Planted:
    return Planted(_shown_again(sets, chance, sets.train, sets.train, near=True)[1])


def leaked(sets: Sets, chance: random.Random) -> Planted:
    return Planted(_shown_again(sets, chance, sets.train, sets.held, near=False)[0])


def leaked_nearly(sets: Sets, chance: random.Random) -> Planted:
    return Planted(_shown_again(sets, chance, sets.train, sets.held, near=True)[0])


def unbalanced(sets: Sets, chance: random.Random) -> Planted:
    path = sets.manifest(chance) / "ledger.json"
    ledger = json.loads(path.read_text())
    if chance.random() < 0.5:
        ledger["samples"] += chance.choice((-1, 1))
    else:
        ledger["skipped"] = {"unit.none": chance.randrange(1, 5)}
    path.write_text(json.dumps(ledger))
    return Planted(SUBJECT)


def broken_schema(sets: Sets, chance: random.Random) -> Planted:
    def change(sample: Row) -> None:
        kind = chance.randrange(4)
        if kind == 0:
            sample["images"][0]["width"] = "wide"
        elif kind == 1:
            sample["strange"] = 1
        elif kind == 2:
            del sample["origin"]
        else:
            sample["targets"]["type"] = "boxes"

    sets.change(sets.manifest(chance), chance, change)
    return Planted(SUBJECT)


def contradiction(sets: Sets, chance: random.Random) -> Planted:
    def change(sample: Row) -> None:
        if chance.random() < 0.5:
            sample["routes"].pop()
        else:
            sample["conversation"][1]["text"] += " [DET]"

    return Planted(sets.change(sets.manifest(chance, "detection", "keypoints"), chance, change))


def _said(sets: Sets, chance: random.Random, change: Callable[[list[Row]], object]) -> Planted:
    folder = sets.manifest(chance)
    return Planted(sets.change(folder, chance, lambda sample: change(sample["conversation"])))


def said_empty(sets: Sets, chance: random.Random) -> Planted:
    more = [{"role": "user", "text": chance.choice(("", " ", "\n"))}, {"role": "assistant", "text": "Yes."}]
    return _said(sets, chance, lambda said: said.extend(more))


def said_token(sets: Sets, chance: random.Random) -> Planted:
    token = chance.choice(("[EMB]", "<|im_start|>", "<s>"))
    return _said(sets, chance, lambda said: said[-1].update(text=insert(said[-1]["text"], token, chance)))


def said_twice(sets: Sets, chance: random.Random) -> Planted:
    return _said(
        sets, chance, lambda said: said.append({"role": chance.choice(("user", "assistant")), "text": "Yes."})
    )


def said_placeholder(sets: Sets, chance: random.Random) -> Planted:
    return _said(sets, chance, lambda said: said[0].update(text=f"<image>{said[0]['text']}"))


def _targets(sets: Sets, chance: random.Random, change: Callable[[Row], object]) -> Planted:
    """Change one target of a sample of the task detection, each of which has some."""
    folder = sets.manifest(chance, "detection")
    return Planted(
        sets.change(folder, chance, lambda sample: change(chance.choice(sample["targets"]["instances"])))
    )


def target_degenerate(sets: Sets, chance: random.Random) -> Planted:
    return _targets(sets, chance, lambda one: one["box"].__setitem__(2, one["box"][0]))


def target_outside(sets: Sets, chance: random.Random) -> Planted:
    return _targets(sets, chance, lambda one: one["box"].__setitem__(3, SIDE + chance.uniform(0.5, 30)))


def target_absent(sets: Sets, chance: random.Random) -> Planted:
    """Say that not all objects are annotated, and ask for a class of which there is none."""

    def change(sample: Row) -> None:
        sample["targets"]["exhaustive"] = False
        gone = sample["targets"]["instances"][0]["label"]
        sample["targets"]["instances"] = [
            one for one in sample["targets"]["instances"] if one["label"] != gone
        ]
        sample["targets"]["negatives"] = [
            route["name"] for route in sample["routes"] if route["name"] != gone
        ]

    return Planted(sets.change(sets.manifest(chance, "detection"), chance, change))


def target_none(sets: Sets, chance: random.Random) -> Planted:
    def change(sample: Row) -> None:
        name = chance.choice(("DontCare", "ignore", "ignored regions"))
        old = sample["targets"]["instances"][0]["label"]
        for one in sample["targets"]["instances"]:
            one["label"] = name if one["label"] == old else one["label"]
        for route in sample["routes"]:
            route["name"] = name if route["name"] == old else route["name"]

    return Planted(sets.change(sets.manifest(chance, "detection"), chance, change))


def sample_unlicensed(sets: Sets, chance: random.Random) -> Planted:
    def change(sample: Row) -> None:
        sample["license"][chance.choice(("images", "annotations"))] = chance.choice(
            ("", "unspecified", "unknown")
        )

    return Planted(sets.change(sets.manifest(chance), chance, change))


def sample_twice(sets: Sets, chance: random.Random) -> Planted:
    """Give a sample the id of another one of its split."""
    folder = sets.manifest(chance)
    ids = pq.read_table(folder / "samples.parquet", columns=["id"]).column("id").to_pylist()
    taken = {one["id"] for one in sets.taken}
    first = chance.choice([one for one in ids if one not in taken])
    sets.taken.append({"id": first})
    sets.change(folder, chance, lambda sample: sample.update(id=first))
    return Planted(first)


def damaged(sets: Sets, chance: random.Random) -> Planted:
    """Change a byte of a tar, or cut it."""
    path = chance.choice(sorted(sets.shards[0].glob("*.tar")))
    data = bytearray(path.read_bytes())
    if chance.random() < 0.8:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    else:
        del data[chance.randrange(len(data)) :]
    path.write_bytes(data)
    return Planted(SUBJECT, path.name)


def half(tars: Tars, chance: random.Random) -> Planted:
    """Take a sample's caption away."""
    tar, key = tars.take(chance)
    tars.members[tar] = [(name, data) for name, data in tars.members[tar] if name != f"{key}.txt"]
    return Planted("", key)


def in_no_sample(tars: Tars, chance: random.Random) -> Planted:
    """Put a member that belongs to no sample before another one."""
    tar, key = tars.take(chance)
    name = chance.choice((f"{key}-notes", f"{key}_README", f".{key}", f"__{key}__"))
    place = [one for one, _ in tars.members[tar]].index(f"{key}.png")
    tars.members[tar].insert(place, (name, b"by hand"))
    return Planted("", name)

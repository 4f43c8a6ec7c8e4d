"""Shards, streams and what becomes of them, side by side with the peers: numbers C1 to C12."""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import contest
import results
from contest import Contestant, Failure
from contestants.content import digest
from data import Data, once, tars_of
from results import OURS

MAKING_S = 600
WARM, COLD = "warm page cache", "cold page cache (posix_fadvise DONTNEED)"


def ours(task: str, name: str = OURS, **arguments: Any) -> Contestant:
    """Return a contestant of our side."""
    return Contestant(name=name, script="ours", task=task, arguments=arguments)


def peer(environment: str, task: str, name: str = "", **arguments: Any) -> Contestant:
    """Return a contestant of a peer."""
    script = f"peer_{environment.lower()}"
    return Contestant(
        name=name or environment, script=script, task=task, arguments=arguments, environment=environment
    )


def report(
    data: Data, title: str, contestants: list[Contestant], facts: tuple[str, ...] = (), *, repeats: int | None = None,
    cache: str = WARM, same: tuple[str, ...] = ("count", "bytes"), untimed: bool = False,
    run: Callable[[Contestant], dict[str, Any]] | None = None,
) -> None:  # fmt: skip
    """Let contestants run side by side, in as many rounds as the size has, and put their results as they come.

    `same` is what all must agree on. Untimed contests have one round and tell facts alone. `run` is what a run is, by
    default the contestant's process within the limit of the size.
    """
    rounds = repeats or (1 if untimed else data.size.repeats)
    if data.missing:
        lacking = [one for one in contestants if not results.is_done(title, one.name, data.name, rounds)]
        if not lacking:
            print(f"{title}: is there")
            return
        # Times are relative to those of the first, in the same rounds.
        contestants = lacking if untimed or contestants[0] in lacking else [contestants[0], *lacking]
    held = results.Contest(title, {"cache": cache, "size": data.name}, facts, same=same, untimed=untimed)
    contest.interleaved(held, contestants, rounds, run or partial(contest.run, limit_s=data.size.limit_s))


def converted(data: Data, shards: Path, name: str) -> dict[str, str | None]:
    """Return where each peer's own format of a shard set lies, made once; None where the peer cannot make it."""
    found: dict[str, str | None] = {}
    for environment in ("Energon", "litData", "MosaicML"):
        place = data.home / f"{name}-{environment.lower()}"

        def make(folder: Path, environment: str = environment) -> None:
            contest.run(peer(environment, "convert", tars=tars_of(shards), out=str(folder)), MAKING_S)

        try:
            found[environment] = str(once(place, make))
        except Failure as error:
            print(f"{environment}: cannot make its format: {error}")
            found[environment] = None
    return found


def many_formats(data: Data) -> dict[str, dict[str, str] | None]:
    """Return the folder of each of many sources in each peer's format, made by one process a peer."""
    tars = tars_of(data.many / "shards")
    found: dict[str, dict[str, str] | None] = {}
    for environment in ("Energon", "litData", "MosaicML"):
        place = data.home / f"many-{environment.lower()}"

        def make(folder: Path, environment: str = environment) -> None:
            contest.run(peer(environment, "convert_many", tars=tars, out=str(folder)), MAKING_S)

        try:
            once(place, make)
            found[environment] = {
                Path(tar).stem.rpartition("-")[0]: str(place / Path(tar).stem) for tar in tars
            }
        except Failure as error:
            print(f"{environment}: cannot make its format: {error}")
            found[environment] = None
    return found


def raw_stream(data: Data) -> None:
    """C1: every sample once a pass, bytes alone; ours in training order with digests checked."""
    shards, size = data.photos / "shards", data.size
    tars, folders = tars_of(shards), converted(data, shards, "photos")
    each: dict[str, Any] = {"passes": size.passes}
    report(data, "C1 raw stream", [
        ours("raw", shards=str(shards), **each),
        peer("webdataset", "raw", tars=tars, **each),
        peer("webdataset", "raw", "webdataset, shuffle(1000)", tars=tars, shuffle=1000, **each),
        peer("Energon", "raw", folder=folders["Energon"], **each),
        peer("Energon", "raw", "Energon, shuffle buffer 1000", folder=folders["Energon"], shuffle=1000, **each),
        peer("litData", "raw", folder=folders["litData"], **each),
        peer("litData", "raw", "litData, shuffled", folder=folders["litData"], shuffle=True, **each),
        peer("MosaicML", "raw", folder=folders["MosaicML"], **each),
        peer("MosaicML", "raw", "MosaicML, shuffled", folder=folders["MosaicML"], shuffle=True, **each),
        peer("datasets", "raw", tars=tars, **each),
        peer("Ray", "raw", "Ray Data, 2 CPUs", tars=tars, **each),
    ], ("first_s", "files", "threads", "peak_mb"))  # fmt: skip
    report(data, "C1 raw stream, 2 workers", [
        ours("raw", shards=str(shards), workers=2, **each),
        ours("raw", "dataengine, 2 threads", shards=str(shards), threads=2, **each),
        peer("webdataset", "raw", tars=tars, workers=2, **each),
        peer("Energon", "raw", folder=folders["Energon"], workers=2, **each),
        peer("litData", "raw", folder=folders["litData"], workers=2, **each),
    ], ("first_s",))  # fmt: skip


def small_records(data: Data) -> None:
    """C2: samples of 1 KB without pictures; ours decoded and checked, theirs bytes."""
    shards = data.texts / "shards"
    tars, folders = tars_of(shards), converted(data, shards, "texts")
    report(data, "C2 small records", [
        ours("raw", shards=str(shards)),
        peer("webdataset", "raw", tars=tars),
        peer("Energon", "raw", folder=folders["Energon"]),
        peer("litData", "raw", folder=folders["litData"]),
        peer("MosaicML", "raw", folder=folders["MosaicML"]),
        peer("datasets", "raw", tars=tars),
        peer("Ray", "raw", "Ray Data, 2 CPUs", tars=tars),
    ], ("first_s",))  # fmt: skip


def decoding(data: Data) -> None:
    """C3: pictures decoded and resized to 448 x 448, by size; then whole loaders."""
    pictures, ways = data.decoding, (
        ("Pillow, bicubic", "pillow"), ("simplejpeg, cv2", "simplejpeg"), ("DCT-scaled simplejpeg, cv2", "scaled"),
    )  # fmt: skip
    for shape in ("224x224", "336x336", "500x375", "640x480", "1024x768", "1920x1080"):
        folder = pictures / shape
        report(data, f"C3 decode {shape}", [
            Contestant(name=OURS, script="decode", task="ours", arguments={"folder": str(folder)}),
            *[Contestant(name=name, script="decode", task=task, arguments={"folder": str(folder)},
                         environment="webdataset") for name, task in ways],
        ])  # fmt: skip
    shards = data.photos / "shards"
    most = min(600, data.size.pictures)
    report(data, "C3 stream to 448", [
        Contestant(name=OURS, script="decode", task="stream", arguments={"shards": str(shards), "most": most}),
        peer("webdataset", "decode", 'webdataset, decode("pil")', tars=tars_of(shards), side=448, most=most),
    ], ("first_s",))  # fmt: skip


def mixed_sources(data: Data) -> None:
    """C4: hundreds of sources by weight: first batch, steady rate, open files, memory, and error of any prefix."""
    shards = data.many / "shards"
    # Peers know a source by what its tar is called.
    shares = {name.replace("/", "-"): share for name, share in data.shares.items()}
    names = sorted(shares)
    each: dict[str, Any] = {"shares": shares, "most": data.size.draws}
    tars = dict(zip(names, tars_of(shards), strict=True))
    folders = many_formats(data)
    facts = ("first_s", "files", "threads", "memory_mb", "prefix_error", "state_bytes")
    report(data, f"C4 {len(names)} sources", [
        ours("mixed", shards=str(shards), shares=data.shares, most=data.size.draws),
        peer("webdataset", "mixed", "webdataset RandomMix", tars=tars, **each),
        peer("webdataset", "mixed", "webdataset RandomMix, shuffle(100)", tars=tars, shuffle=100, **each),
        peer("Energon", "mixed", "Energon blend", folders=folders["Energon"], out=str(data.home / "blend.yaml"),
             **each),
        peer("litData", "mixed", "litData Combined", folders=folders["litData"], **each),
        peer("MosaicML", "mixed", "MosaicML streams", folders=folders["MosaicML"], **each),
        peer("datasets", "mixed", "datasets interleave", tars=tars, **each),
        peer("datasets", "mixed_nodes", "torchdata MultiNodeWeightedSampler", tars=tars, **each),
    ], facts, repeats=1, same=("count",))  # fmt: skip


def random_order(data: Data) -> None:
    """C5: what a fully random order costs beside windows, from a cold and a warm page cache."""
    shards = data.photos / "shards"
    folders = converted(data, shards, "photos")
    here = [
        ours("raw", shards=str(shards)),
        *[ours("windowed", f"dataengine, windows of {window}", shards=str(shards), window=window)
          for window in (1, 64, 1000)],
        peer("litData", "raw", "litData, shuffled", folder=folders["litData"], shuffle=True),
        peer("MosaicML", "raw", "MosaicML, shuffled", folder=folders["MosaicML"], shuffle=True),
        peer("Energon", "raw", "Energon, shuffle buffer 1000", folder=folders["Energon"], shuffle=1000),
    ]  # fmt: skip
    everything = [shards, *[Path(folder) for folder in folders.values() if folder]]

    def cold(one: Contestant) -> dict[str, Any]:
        cool(everything)
        return contest.run(one, data.size.limit_s)

    report(data, "C5 random order, cold", here, cache=COLD, run=cold)
    report(data, "C5 random order, warm", here)


def cool(folders: list[Path]) -> None:
    """Ask the kernel to forget the contents of files."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def resuming(data: Data) -> None:
    """C6: stop in the middle of an epoch, go on with as many, fewer or more workers; missing and twice served."""
    shards, count = data.photos / "shards", data.size.pictures
    tars, folders = tars_of(shards), converted(data, shards, "photos")
    for before, after in ((2, 2), (2, 1), (1, 2)):
        for at in (0.1, 0.5, 0.9) if before == after else (0.5,):
            each: dict[str, Any] = {"at": at, "before": before, "after": after}
            report(data, f"C6 resume at {at:.0%}, {before} to {after} workers", [
                ours("resume", shards=str(shards), **each),
                peer("Energon", "resume", folder=folders["Energon"], count=count, **each),
                peer("litData", "resume", folder=folders["litData"], **each),
                peer("MosaicML", "resume", folder=folders["MosaicML"], **each),
                peer("datasets", "resume_workers", "datasets, StatefulDataLoader", tars=tars, count=count, **each),
                *([peer("datasets", "resume", "datasets, shuffle(200), no workers", tars=tars, count=count, at=at)]
                  if before == after else []),
            ], ("missing", "twice", "state_bytes", "first_s"), untimed=True, same=())  # fmt: skip
    report(data, "C6 position 10^9", [ours("far", shards=str(shards), position=10**9)], ("first_s", "batch_s"),
           untimed=True)  # fmt: skip


def crashing(data: Data) -> None:
    """C7: SIGKILL at random moments; what was served is held to a run that nothing stops."""
    shards = data.photos / "shards"
    tars, folders = tars_of(shards), converted(data, shards, "photos")
    steps = min(data.size.pictures // 32, 60)
    each: dict[str, Any] = {"steps": steps}
    report(data, "C7 crash", [
        ours("crash", shards=str(shards), **each),
        peer("Energon", "crash", folder=folders["Energon"], **each),
        peer("litData", "crash", folder=folders["litData"], **each),
        peer("MosaicML", "crash", folder=folders["MosaicML"], **each),
        peer("datasets", "crash", "datasets, shuffle(200)", tars=tars, **each),
    ], ("kills", "missing", "twice or strange", "steps that differ", "steps"), untimed=True, same=(),
       run=partial(killed, data))  # fmt: skip


def killed(data: Data, one: Contestant) -> dict[str, Any]:
    """Return how many samples of a run with kills are missing or served twice, and how many steps differ."""
    limit = data.size.limit_s
    found = contest.run(replace(one, task="expected"), limit)
    wanted: list[list[str]] = found["steps"]
    folder, log = data.home / "crash", data.home / "crash" / "served.jsonl"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    again = replace(one, arguments=one.arguments | {"log_folder": str(folder), "pause_s": 0.02})
    rng = random.Random(0)
    kills = 0
    while kills < data.size.kills and kill(again, log, rng, limit):
        kills += 1
    contest.run(again, limit)
    last: dict[int, list[str]] = {}
    for line in log.read_text().splitlines():
        step, keys = json.loads(line)
        last[step] = keys  # a step whose state was not saved is served again: the trainer does it again too
    should, got = (
        Counter(k for keys in wanted for k in keys),
        Counter(k for keys in last.values() for k in keys),
    )
    differ = sum(last.get(step) != keys for step, keys in enumerate(wanted))
    return {"kills": kills, "missing": (should - got).total(), "twice or strange": (got - should).total(),
            "steps that differ": differ, "steps": len(wanted), "versions": found["versions"]}  # fmt: skip


def kill(one: Contestant, log: Path, rng: random.Random, limit_s: float) -> bool:
    """Start a contestant and kill it soon after it has served something new; return whether it still ran.

    Raises Failure where it serves nothing.
    """
    words, variables = contest.command(one)
    before = log.stat().st_size if log.exists() else 0
    process = subprocess.Popen(words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    try:
        wait_for_more(process, log, before, limit_s)
        time.sleep(rng.uniform(0, 0.15))
        return process.poll() is None
    finally:
        contest.end_group(process)


def wait_for_more(process: subprocess.Popen[Any], log: Path, before: int, limit_s: float) -> None:
    """Wait until a contestant has served something new. Raises Failure where it does not."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if log.exists() and log.stat().st_size > before:
            return
        if process.poll() is not None:
            return
        time.sleep(0.02)
    raise Failure(f"served nothing within {limit_s:.0f} s of a restart")


JUDGED = ("served", "lost", "served wrong", "noticed", "names the file", "names the offset")
DAMAGES = (
    "flipped picture byte",
    "flipped JSON byte",
    "truncated tar",
    "swapped contents",
    "bad JPEG",
    "duplicate key",
)


def corruption(data: Data) -> None:
    """C8: damaged copies of a tar; who notices, and who names file and offset."""
    for damage in DAMAGES:
        folder = data.home / "damaged" / damage.replace(" ", "_")
        truth = damaged(data, folder, damage)
        tars = tars_of(folder)
        report(data, f"C8 {damage}", [
            ours("corruption", shards=str(folder), tars=tars),
            peer("webdataset", "corruption", "webdataset, stop at an error", tars=tars, go_on=False),
            peer("webdataset", "corruption", "webdataset, warn and go on", tars=tars, go_on=True),
            peer("Energon", "corruption", tars=tars, out=str(folder / "energon")),
            peer("datasets", "corruption", tars=tars),
        ], JUDGED, untimed=True, same=(), run=partial(judge, data, truth, Path(tars[0]).name))  # fmt: skip


def judge(data: Data, truth: dict[str, str], name: str, one: Contestant) -> dict[str, Any]:
    """Let a contestant read damaged data, and return what became of them."""
    found = contest.run(one, data.size.limit_s)
    return judged(found, truth, name) | {"versions": found["versions"]}


def judged(found: dict[str, Any], truth: dict[str, str], name: str) -> dict[str, Any]:
    """Return what became of damaged data: lost, served wrong, and whether a message names the file and the offset."""
    delivered = found["delivered"]
    said = [*found["errors"], *found["findings"]]
    return {
        "served": len(delivered),
        "lost": len(truth.keys() - delivered.keys()),
        "served wrong": sum(truth.get(key) != digest for key, digest in delivered.items()),
        "noticed": bool(said),
        "names the file": any(name in text for text in said),
        "names the offset": any("offset" in text and name in text for text in said),
    }


def damaged(data: Data, folder: Path, damage: str) -> dict[str, str]:
    """Write a copy of a shard set of one tar with a damage in it; return the digest of each sample by key."""
    import tarfile

    source = data.single / "shards"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file():
            shutil.copy(path, folder / path.name)
    tar = Path(tars_of(folder)[0])
    with tarfile.open(tar) as opened:
        members = opened.getmembers()
        parts: dict[str, dict[str, bytes]] = {}
        for member in members:
            file = opened.extractfile(member)
            assert file is not None
            stem, _, extension = member.name.partition(".")
            parts.setdefault(stem, {})[extension] = file.read()
    truth = {stem: digest(part["jpg"], part["json"]) for stem, part in parts.items()}
    bytes_ = bytearray(tar.read_bytes())
    picture, text, other = members[10], members[11], members[20]
    match damage:
        case "flipped picture byte":
            bytes_[picture.offset_data + picture.size // 2] ^= 0x55
        case "flipped JSON byte":
            bytes_[text.offset_data + text.size // 2] ^= 0x01
        case "truncated tar":
            del bytes_[members[-3].offset_data + 100 :]
        case "swapped contents":
            size = min(picture.size, other.size)
            first, second = (
                slice(picture.offset_data, picture.offset_data + size),
                slice(other.offset_data, other.offset_data + size),
            )
            bytes_[first], bytes_[second] = bytes_[second], bytes_[first]
        case "bad JPEG":
            bytes_[picture.offset_data : picture.offset_data + picture.size] = bytes(picture.size)
        case "duplicate key":
            # The second sample takes the first one's name.
            for here, there in ((members[12], picture), (members[13], text)):
                bytes_[here.offset : here.offset + 512] = renamed(
                    bytes(bytes_[here.offset : here.offset + 512]), there.name
                )
    tar.write_bytes(bytes_)
    return truth


def renamed(header: bytes, name: str) -> bytes:
    """Return a tar header with another name and the checksum that belongs to it."""
    new = bytearray(name.encode().ljust(100, b"\0") + header[100:])
    new[148:156] = b" " * 8
    new[148:156] = b"%06o\0 " % sum(new)
    return bytes(new)


def packing(data: Data) -> None:
    """C9: fill and time of packing: published ways written anew here, and ours."""
    for buffer in (64, 256, 1024, 4096):
        arguments = {
            "buffer": buffer,
            "limit": 4096,
            "images": 18,
            "count": 512 if data.name == "tiny" else 16_384,
        }
        report(data, f"C9 pack, buffer {buffer}", [
            Contestant(name=name, script="packing", task=task, arguments=arguments)
            for name, task in (
                (OURS, "ours"), ("best fit decreasing", "best_fit"), ("first fit", "first_fit"),
                ("balanced knapsack, as in nanoVLM", "knapsack"),
            )
        ], ("fill", "us_a_sample"))  # fmt: skip


def writing(data: Data) -> None:
    """C10: manifests to tars with index and digests, against copying and the writers of peers."""
    photos = data.photos
    manifests, shards = photos / "manifests", photos / "shards"
    pictures = sorted(str(path) for path in (data.root / "pictures").glob("*.jpg"))
    texts = data.encoded
    out = data.home / "written"
    each: dict[str, Any] = {"pictures": pictures, "texts": str(texts), "out": str(out)}
    digests: list[Any] = []

    def whole(one: Contestant) -> dict[str, Any]:
        found = contest.run(one, data.size.limit_s)
        if "digests" in found:
            digests.append(found["digests"])
            assert digests[0] == digests[-1], "one process and two wrote different bytes"
        return found

    per: dict[str, Any] = {"samples_per_shard": data.size.samples_a_shard}
    report(data, "C10 write", [
        ours("write", manifests=str(manifests), out=str(out), workers=1, **per),
        ours("write", "dataengine, 2 processes", manifests=str(manifests), out=str(out), workers=2, **per),
        Contestant(name="copying", script="copying", task="copy", arguments=each | per),
        peer("webdataset", "write", "webdataset ShardWriter", **each, **per),
        peer("MosaicML", "write", "MosaicML MDSWriter", **each),
        peer("litData", "write", "litData cache writer", **each),
        peer("Ray", "write", "Ray Data write_webdataset", tars=tars_of(shards), out=str(out)),
    ], same=("count",), run=whole)  # fmt: skip
    shutil.rmtree(out, ignore_errors=True)


def indexing(data: Data) -> None:
    """C11: an index of tars that others wrote."""
    for title, tars in (("photos", tars_of(data.photos / "shards")), ("many members", tars_of(data.foreign))):
        members = contest.run(peer("webdataset", "tarfile_walk", tars=tars), data.size.limit_s)["count"]
        report(data, f"C11 index, {title} ({members:,} members)", [
            ours("index", tars=tars, out=str(data.home / "indexed"), members=members),
            peer("webdataset", "tarfile_walk", "tarfile, header by header", tars=tars),
            Contestant(name="tar tvR, as in wds2idx", script="copying", task="tar_list", arguments={"tars": tars}),
            peer("Energon", "prepare", "energon prepare", tars=tars, out=str(data.home / "prepared"), count=members),
        ], repeats=data.size.repeats if title == "photos" else 1, same=("count",))  # fmt: skip
    for name in ("indexed", "prepared"):
        shutil.rmtree(data.home / name, ignore_errors=True)


def transfer(data: Data) -> None:
    """C12: what it costs to bring batches from workers into the process that trains."""
    batches = {"tiny": 4, "small": 20}.get(data.name, 60)
    first = {"way": "shm", "dtype": "uint8", "tensors": 1, "batches": batches}
    report(data, "C12 transfer", [
        Contestant(name=name, script="transfer", task="bring", arguments=first | change, environment="webdataset")
        for name, change in (
            ("uint8, 1 tensor, shared memory", {}),
            ("uint8, 4 tensors, shared memory", {"tensors": 4}),
            ("uint8, 114 tensors, shared memory", {"tensors": 114}),
            ("float32, 1 tensor, shared memory", {"dtype": "float32"}),
            ("float32, 114 tensors, shared memory", {"dtype": "float32", "tensors": 114}),
            ("uint8, pickled", {"way": "pickle"}),
            ("float32, pickled", {"way": "pickle", "dtype": "float32"}),
            ("uint8, threads", {"way": "threads"}),
            ("float32, threads", {"way": "threads", "dtype": "float32"}),
        )
    ])  # fmt: skip


BENCHMARKS: dict[str, Callable[[Data], None]] = {
    "C1": raw_stream, "C2": small_records, "C3": decoding, "C4": mixed_sources, "C5": random_order, "C6": resuming,
    "C7": crashing, "C8": corruption, "C9": packing, "C10": writing, "C11": indexing, "C12": transfer,
}  # fmt: skip

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
from functools import partial
from pathlib import Path
from typing import Any

import contest
import results
from contest import Contestant, Failure
from data import Data, once, tars_of
from results import OURS

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


def report(data: Data, title: str, contestants: list[Contestant], repeats: int, facts: tuple[str, ...],
           cache: str = WARM, same_bytes: bool = True) -> None:  # fmt: skip
    """Measure contestants side by side and append their lines; one that fails is told with its reason."""
    measured, failures = contest.interleaved(contestants, repeats, same_bytes)
    about = {"cache": cache, "size": data.name}
    results.compare(title, measured, about, facts)
    for name, failure in failures.items():
        results.append({"benchmark": title, "contestant": name, "failure": failure} | about)


def converted(data: Data, shards: Path, name: str) -> dict[str, str | None]:
    """Return where each peer's own format of a shard set lies, made once; None where the peer cannot make it."""
    found: dict[str, str | None] = {}
    for environment in ("Energon", "litData", "MosaicML"):
        place = data.home / f"{name}-{environment.lower()}"

        def make(folder: Path, environment: str = environment) -> None:
            contest.run(peer(environment, "convert", tars=tars_of(shards), out=str(folder)), 600)

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
            contest.run(peer(environment, "convert_many", tars=tars, out=str(folder)), 600)

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
    ], size.repeats, ("first_s", "files", "threads", "peak_mb"))  # fmt: skip
    report(data, "C1 raw stream, 2 workers", [
        ours("raw", shards=str(shards), workers=2, **each),
        ours("raw", "dataengine, 2 threads", shards=str(shards), threads=2, **each),
        peer("webdataset", "raw", tars=tars, workers=2, **each),
        peer("Energon", "raw", folder=folders["Energon"], workers=2, **each),
        peer("litData", "raw", folder=folders["litData"], workers=2, **each),
    ], size.repeats, ("first_s",))  # fmt: skip


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
    ], data.size.repeats, ("first_s",))  # fmt: skip


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
        ], data.size.repeats, ())  # fmt: skip
    shards = data.photos / "shards"
    most = min(600, data.size.pictures)
    report(data, "C3 stream to 448", [
        Contestant(name=OURS, script="decode", task="stream", arguments={"shards": str(shards), "most": most}),
        peer("webdataset", "decode", 'webdataset, decode("pil")', tars=tars_of(shards), side=448, most=most),
    ], data.size.repeats, ("first_s",))  # fmt: skip


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
    ], 1, facts, same_bytes=False)  # fmt: skip


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
    measured: dict[str, list[dict[str, Any]]] = {one.name: [] for one in here}
    failures = {}
    for _ in range(data.size.repeats):
        for one in here:
            cool([shards, *[Path(folder) for folder in folders.values() if folder]])
            try:
                measured[one.name].append(contest.run(one))
            except Failure as error:
                failures[one.name] = str(error)
    about = {"cache": COLD, "size": data.name}
    results.compare("C5 random order, cold", measured, about, ())
    for name, failure in failures.items():
        results.append({"benchmark": "C5 random order, cold", "contestant": name, "failure": failure} | about)
    report(data, "C5 random order, warm", here, data.size.repeats, ())


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
            facts(data, f"C6 resume at {at:.0%}, {before} to {after} workers", [
                ours("resume", shards=str(shards), **each),
                peer("Energon", "resume", folder=folders["Energon"], count=count, **each),
                peer("litData", "resume", folder=folders["litData"], **each),
                peer("MosaicML", "resume", folder=folders["MosaicML"], **each),
                peer("datasets", "resume_workers", "datasets, StatefulDataLoader", tars=tars, count=count, **each),
                *([peer("datasets", "resume", "datasets, shuffle(200), no workers", tars=tars, count=count, at=at)]
                  if before == after else []),
            ], ("missing", "twice", "state_bytes", "first_s"))  # fmt: skip
    facts(data, "C6 position 10^9", [ours("far", shards=str(shards), position=10**9)], ("first_s", "batch_s"))


def facts(
    data: Data, title: str, contestants: list[Contestant], names: tuple[str, ...], cache: str = WARM
) -> None:
    """Run contestants once each and append what they found."""
    about = {"cache": cache, "size": data.name, "benchmark": title}
    for one in contestants:
        try:
            found = contest.run(one, 120)
        except Failure as error:
            results.append({"contestant": one.name, "failure": str(error)} | about)
            continue
        kept = {name: results.rounded(found[name]) for name in names if name in found}
        results.append({"contestant": one.name, "facts": kept, "versions": found["versions"]} | about)


def crashing(data: Data) -> None:
    """C7: SIGKILL at random moments; what was served is held to a run that nothing stops."""
    shards = data.photos / "shards"
    tars, folders = tars_of(shards), converted(data, shards, "photos")
    steps = min(data.size.pictures // 32, 60)
    contestants: list[tuple[str, str, dict[str, Any]]] = [
        ("ours", OURS, {"shards": str(shards)}),
        ("Energon", "Energon", {"folder": folders["Energon"]}),
        ("litData", "litData", {"folder": folders["litData"]}),
        ("MosaicML", "MosaicML", {"folder": folders["MosaicML"]}),
        ("datasets", "datasets, shuffle(200)", {"tars": tars}),
    ]
    for environment, name, arguments in contestants:
        about = {"benchmark": "C7 crash", "contestant": name, "cache": WARM, "size": data.name}
        try:
            found = killed(data, environment, arguments, steps)
        except Failure as error:
            results.append(about | {"failure": str(error)})
            continue
        results.append(about | {"facts": found})


def killed(data: Data, environment: str, arguments: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return how many samples of a run with kills are missing or served twice, and how many steps differ."""
    make = ours if environment == "ours" else partial(peer, environment)
    wanted = contest.run(make("expected", **arguments, steps=steps))["steps"]
    folder = data.home / "crash"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    place = "folder" if environment == "ours" else "log_folder"
    again = make("crash", **arguments, steps=steps, pause_s=0.02, **{place: str(folder)})
    rng = random.Random(0)
    kills = 0
    while kills < data.size.kills:
        words, variables = contest.command(again)
        process = subprocess.Popen(words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                   start_new_session=True)  # fmt: skip
        before = (folder / "served.jsonl").stat().st_size if (folder / "served.jsonl").exists() else 0
        try:
            wait_for_more(process, folder / "served.jsonl", before)
            time.sleep(rng.uniform(0, 0.15))
            over = process.poll() is not None
        finally:
            contest.end_group(process)
        kills += 1
        if over:
            break
    contest.run(again)
    last: dict[int, list[str]] = {}
    for line in (folder / "served.jsonl").read_text().splitlines():
        step, keys = json.loads(line)
        last[step] = keys  # a step whose state was not saved is served again: the trainer does it again too
    should, got = (
        Counter(k for keys in wanted for k in keys),
        Counter(k for keys in last.values() for k in keys),
    )
    differ = sum(last.get(step) != keys for step, keys in enumerate(wanted))
    return {"kills": kills, "missing": (should - got).total(), "twice or strange": (got - should).total(),
            "steps that differ": differ, "steps": steps}  # fmt: skip


def wait_for_more(process: subprocess.Popen[str], log: Path, before: int) -> None:
    """Wait until a contestant has served something new. Raises Failure where it does not."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if log.exists() and log.stat().st_size > before:
            return
        if process.poll() is not None:
            return
        time.sleep(0.02)
    raise Failure("served nothing within 60 s of a restart")


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
        for one in (
            ours("corruption", shards=str(folder), tars=tars),
            peer("webdataset", "corruption", "webdataset, stop at an error", tars=tars, go_on=False),
            peer("webdataset", "corruption", "webdataset, warn and go on", tars=tars, go_on=True),
            peer("Energon", "corruption", tars=tars, out=str(folder / "energon")),
            peer("datasets", "corruption", tars=tars),
        ):
            about = {"benchmark": f"C8 {damage}", "contestant": one.name, "cache": WARM, "size": data.name}
            try:
                found = contest.run(one, 90)
            except Failure as error:
                results.append(about | {"failure": str(error)})
                continue
            results.append(about | {"facts": judged(found, truth, Path(tars[0]).name)})


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
    """Write a copy of a shard set of one tar with a damage in it; return the digest of each picture by key."""
    import hashlib
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
        truth = {}
        for member in members:
            if member.name.endswith(".jpg"):
                file = opened.extractfile(member)
                assert file is not None
                truth[member.name.removesuffix(".jpg")] = hashlib.blake2b(
                    file.read(), digest_size=8
                ).hexdigest()
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
        ], data.size.repeats, ("fill", "us_a_sample"))  # fmt: skip


def writing(data: Data) -> None:
    """C10: manifests to tars with index and digests, against copying and the writers of peers."""
    photos = data.photos
    manifests, shards = photos / "manifests", photos / "shards"
    pictures = sorted(str(path) for path in (data.root / "pictures").glob("*.jpg"))
    texts = data.encoded
    out = data.home / "written"
    each: dict[str, Any] = {"pictures": pictures, "texts": str(texts), "out": str(out)}
    per: dict[str, Any] = {"samples_per_shard": data.size.samples_a_shard}
    report_bytes_apart(data, "C10 write", [
        ours("write", manifests=str(manifests), out=str(out), workers=1, **per),
        ours("write", "dataengine, 2 processes", manifests=str(manifests), out=str(out), workers=2, **per),
        Contestant(name="copying", script="copying", task="copy", arguments=each | per),
        peer("webdataset", "write", "webdataset ShardWriter", **each, **per),
        peer("MosaicML", "write", "MosaicML MDSWriter", **each),
        peer("litData", "write", "litData cache writer", **each),
        peer("Ray", "write", "Ray Data write_webdataset", tars=tars_of(shards), out=str(out)),
    ], data.size.repeats)  # fmt: skip


def report_bytes_apart(data: Data, title: str, contestants: list[Contestant], repeats: int) -> None:
    """Compare writers, whose outputs differ in size: the number of samples is the work."""
    measured: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contestants}
    failures: dict[str, str] = {}
    for _ in range(repeats):
        for one in contestants:
            if one.name in failures:
                continue
            try:
                found = contest.run(one)
            except Failure as error:
                failures[one.name], measured[one.name] = str(error), []
                continue
            measured[one.name].append(found)
    digests = {str(run["digests"]) for runs in measured.values() for run in runs if "digests" in run}
    assert len(digests) <= 1, "one process and two wrote different bytes"
    if len({run["count"] for runs in measured.values() for run in runs}) > 1:
        raise SystemExit(f"contestants disagree on the work: {title}")
    about = {"cache": WARM, "size": data.name}
    results.compare(title, measured, about, ())
    for name, failure in failures.items():
        results.append({"benchmark": title, "contestant": name, "failure": failure} | about)
    shutil.rmtree(data.home / "written", ignore_errors=True)


def indexing(data: Data) -> None:
    """C11: an index of tars that others wrote."""
    for title, tars in (("photos", tars_of(data.photos / "shards")), ("many members", tars_of(data.foreign))):
        members = contest.run(peer("webdataset", "tarfile_walk", tars=tars))["count"]
        report(data, f"C11 index, {title} ({members:,} members)", [
            ours("index", tars=tars, out=str(data.home / "indexed"), members=members),
            peer("webdataset", "tarfile_walk", "tarfile, header by header", tars=tars),
            Contestant(name="tar tvR, as in wds2idx", script="copying", task="tar_list", arguments={"tars": tars}),
            peer("Energon", "prepare", "energon prepare", tars=tars, out=str(data.home / "prepared"), count=members),
        ], data.size.repeats if title == "photos" else 1, ())  # fmt: skip
    for name in ("indexed", "prepared"):
        shutil.rmtree(data.home / name, ignore_errors=True)


def transfer(data: Data) -> None:
    """C12: what it costs to bring batches from workers into the process that trains."""
    batches = 4 if data.name == "tiny" else 60
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
    ], data.size.repeats, ())  # fmt: skip


BENCHMARKS: dict[str, Callable[[Data], None]] = {
    "C1": raw_stream, "C2": small_records, "C3": decoding, "C4": mixed_sources, "C5": random_order, "C6": resuming,
    "C7": crashing, "C8": corruption, "C9": packing, "C10": writing, "C11": indexing, "C12": transfer,
}  # fmt: skip

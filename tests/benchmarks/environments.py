"""Environments of the peers: one a peer below `.bench/`, with pinned versions, so that none can change another's.

What most of them need, torch above all, is installed once and seen by all through a path file.
"""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Resolved: environments hold paths, and a checkout may link to the folder of another one.
ROOT = (Path(__file__).parents[2] / ".bench").resolve()
SHARED = (
    "torch==2.13.0",
    "numpy==2.4.6",
    "pillow==13.0.0",
    "simplejpeg==1.9.0",
    "opencv-python-headless==5.0.0.93",
)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer and what to install: `alone` comes without the packages that it names, of which `needs` are used.

    litData and MosaicML name torchvision, which comes with another torch, and every cloud's client.
    """

    alone: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    module: str


PEERS = {
    "webdataset": Peer(needs=("webdataset==1.0.2",), module="webdataset"),
    "Energon": Peer(needs=("megatron-energon==7.4.1",), module="megatron.energon"),
    "litData": Peer(
        alone=("litdata==0.2.76",),
        needs=("lightning-utilities==0.15.2", "filelock", "boto3", "requests", "tifffile", "obstore"),
        module="litdata",
    ),
    "MosaicML": Peer(
        alone=("mosaicml-streaming==0.13.0",),
        needs=("boto3", "brotli", "catalogue<3", "python-snappy<1", "tqdm", "xxhash<4", "zstd<2", "transformers<5"),
        module="zstd",
    ),
    "datasets": Peer(needs=("datasets==5.0.1", "torchdata==0.11.0"), module="datasets"),
    "Ray": Peer(needs=("ray[data]==2.60.0",), module="ray"),
}  # fmt: skip


def python_of(name: str) -> Path | None:
    """Return the Python that a contestant runs with, made where it is not there yet; None where it cannot be made."""
    if name not in PEERS:
        return Path(sys.executable)
    try:
        shared = _make("shared", (), SHARED, "torch")
        purelib = subprocess.run(
            [shared, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        peer = PEERS[name]
        return _make(name.lower(), peer.alone, peer.needs, peer.module, purelib)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = error.stderr.strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
        print(f"{name}: absent, it cannot be installed: {detail[-1] if detail else error}")
        return None


def _make(name: str, alone: tuple[str, ...], needs: tuple[str, ...], module: str, also: str = "") -> Path:
    folder = ROOT / name
    python, done = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join((*alone, *needs, also))
    if done.is_file() and done.read_text() == wanted:
        return python
    print(f"making the environment {folder.name} ...", flush=True)
    run = {"check": True, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], **run)  # type: ignore[call-overload]
    if also:
        next(folder.glob("lib/python3*/site-packages")).joinpath("shared.pth").write_text(f"{also}\n")
    # An open upper end of torch would take a build of several gigabytes.
    limits = folder / "limits.txt"
    limits.write_text("torch==2.13.0\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", limits]
    if alone:
        subprocess.run([*pip, "--no-deps", *alone], **run)  # type: ignore[call-overload]
    subprocess.run([*pip, *needs], **run)  # type: ignore[call-overload]
    subprocess.run([python, "-c", f"import {module}"], **run)  # type: ignore[call-overload]
    done.write_text(wanted)
    return python


if __name__ == "__main__":
    for each in PEERS:
        print(each, python_of(each) or "absent", flush=True)

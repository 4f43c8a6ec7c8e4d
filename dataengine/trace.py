"""From a sample to its source record and to the steps that it served."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dataengine.errors import SourceError
from dataengine.served import SERVED


class Served(msgspec.Struct):
    """One line of a run's served.jsonl: the ids that a step was made of."""

    step: int
    ids: list[str]


def steps_of(run: Path, sample_id: str) -> list[int]:
    """Return the steps of a run that served a sample. Raises SourceError where the run kept no record."""
    path = run / SERVED if run.is_dir() else run
    decode = msgspec.json.Decoder(Served).decode
    try:
        with path.open("rb") as file:
            return [line.step for line in map(decode, file) if sample_id in line.ids]
    except (OSError, msgspec.DecodeError) as error:
        raise SourceError(
            f"{path}: cannot be read: {error}; expected the folder of a training run"
        ) from error

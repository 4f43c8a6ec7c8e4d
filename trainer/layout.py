"""How the samples of a part of a step lie in rows and micro-batches, the same for every rank.

It follows from the samples' text and the sizes of their pictures alone, so that no picture is decoded to know it, and
what ranks find out about pictures later changes nothing for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataengine.pack import bucket, deal, pack
from trainer.config import MicroBatches, Packing
from trainer.encode import Measured
from trainer.settings import TEXT, EncodeSettings


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Rows of samples, by their places among the measured ones; where it is `packed`, a row may have several.

    `number` counts the micro-batches of a part. An `idle` one only keeps a rank in step with the others: it is another
    rank's, and its loss counts nothing.
    """

    number: int
    rows: list[list[int]]
    packed: bool
    idle: bool = False


def lay_out(
    samples: Sequence[Measured],
    packing: Packing | None,
    limits: MicroBatches,
    max_length: int,
    first: int = 0,
) -> list[MicroBatch]:
    """Return the micro-batches of samples of one decoder family, numbered from `first`.

    Raises PlanError for a sample that exceeds a limit alone.
    """
    lengths = [sample.num_tokens for sample in samples]
    packed = packing is not None and all(sample.family == TEXT for sample in samples)
    rows = [[place] for place in range(len(samples))]
    if packing is not None and packed:
        rows = pack(
            lengths,
            packing.max_tokens or max_length,
            tiles=[sample.num_tiles for sample in samples],
            max_tiles=packing.max_tiles,
            multiple_of=limits.multiple_of,
        )
    parts = bucket(
        [sum(lengths[place] for place in row) for row in rows],
        max_rows=limits.max_rows,
        max_tokens=limits.max_tokens,
        multiple_of=limits.multiple_of,
        kinds=[_is_upright(samples[row[0]]) for row in rows],
    )
    return [
        MicroBatch(number=number, rows=[rows[row] for row in sorted(part)], packed=packed)
        for number, part in enumerate(parts)
    ]


def share(
    found: Sequence[MicroBatch], samples: Sequence[Measured], settings: EncodeSettings, rank: int, world: int
) -> list[MicroBatch]:
    """Return the micro-batches of one rank, as many as every other rank's; the cheapest is run idly where they lack.

    They lack where `multiple_of` is no multiple of the ranks, or where bad samples leave too few.
    """
    costs = [sum(_cost(samples[place], settings) for row in micro.rows for place in row) for micro in found]
    dealt = [found[number] for number in deal(costs, world)[rank]]
    if found and len(dealt) < -(-len(found) // world):
        cheapest = found[costs.index(min(costs))]
        idle = MicroBatch(number=cheapest.number, rows=cheapest.rows, packed=cheapest.packed, idle=True)
        dealt.append(idle)
    return dealt


def _is_upright(sample: Measured) -> int:
    """Return 1 where the decoder picture is upright: beside a flat one, each is padded to both sides."""
    return int(sample.decoder_size is not None and sample.decoder_size[0] < sample.decoder_size[1])


def _cost(sample: Measured, settings: EncodeSettings) -> int:
    """Return about how much work a sample is: tokens for the language model, and those of its tiles once more for the
    image encoder."""
    return sample.num_tokens + sample.num_tiles * settings.tokens_per_tile

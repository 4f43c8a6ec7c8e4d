"""What an audit has found: any number of findings, in the room of a few thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pyarrow as pa

from dataengine.annotation import Box
from dataengine.audit.rule import Place
from dataengine.spill import Spill

HELD = 4096


class Finding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One broken rule at one place. `subject` is the split, shard set or file that was audited.

    `place` is what the hit lies in (a box, a picture, …): of these, the account says how many were looked at.
    `other_image` is a second picture to see beside the first, of `other_subject`.
    """

    rule: str
    severity: str
    subject: str
    place: Place
    key: str
    file: str
    record: str
    detail: str
    image: str = ""
    box: Box | None = None
    other_image: str = ""
    other_subject: str = ""


class _Block(NamedTuple):
    """Findings that lie in the file, packed; `holds` are the (rule, subject, is on a picture) of them."""

    offset: int
    packed_bytes: int
    plain_bytes: int
    num_findings: int
    holds: frozenset[tuple[str, str, bool]]


class Findings:
    """Findings in the order in which they came, to be gone through as often as one likes.

    More than `held` lie in a temporary file without a name: it is gone when nobody holds the findings any more,
    however the process ends. `counts` are how many there are, by (subject, rule, place).
    """

    def __init__(self, held: int = HELD) -> None:
        self.counts: Counter[tuple[str, str, Place]] = Counter()
        self._most_held = held
        self._held: list[Finding] = []
        self._blocks: list[_Block] = []
        self._spill = Spill()

    def append(self, finding: Finding) -> None:
        """Add one. Raises DataEngineError where the temporary file cannot be written."""
        self._held.append(_writable(finding))
        self.counts[finding.subject, finding.rule, finding.place] += 1
        if len(self._held) >= self._most_held:
            self._pack()

    def extend(self, others: Findings) -> None:
        """Add all of another audit's, in their order. Raises DataEngineError as `append` does."""
        if others._blocks:
            self._pack()
        for block in others._blocks:
            self._blocks.append(block._replace(offset=self._spill.append(others._bytes_of(block))))
        for finding in others._held:
            self._held.append(finding)
            if len(self._held) >= self._most_held:
                self._pack()
        self.counts.update(others.counts)

    def __len__(self) -> int:
        return sum([block.num_findings for block in self._blocks]) + len(self._held)

    def __iter__(self) -> Iterator[Finding]:
        return self._through([*self._blocks], [*self._held])

    def _through(self, blocks: list[_Block], held: list[Finding]) -> Iterator[Finding]:
        for block in blocks:
            yield from self._unpacked(block)
        yield from held

    def of(self, rule: str, subject: str | None = None, *, pictured: bool = False) -> Iterator[Finding]:
        """Yield the findings of a rule, those of one subject and those on a picture alone where it is asked for.

        Whoever takes the first few reads no more of the file than up to them, and nothing that holds none.
        """

        def asked(of_rule: str, of_subject: str, on_picture: bool) -> bool:
            return of_rule == rule and subject in (None, of_subject) and (on_picture or not pictured)

        blocks = [block for block in self._blocks if any(asked(*one) for one in block.holds)]
        for one in self._through(blocks, [*self._held]):
            if asked(one.rule, one.subject, bool(one.image)):
                yield one

    def _pack(self) -> None:
        if not self._held:
            return
        data = _ENCODER.encode(self._held)
        packed = pa.compress(data, codec="zstd", asbytes=True)
        holds = frozenset((one.rule, one.subject, bool(one.image)) for one in self._held)
        block = _Block(self._spill.append(packed), len(packed), len(data), len(self._held), holds)
        self._blocks.append(block)
        self._held = []

    def _bytes_of(self, block: _Block) -> bytes:
        return self._spill.read(block.offset, block.packed_bytes)

    def _unpacked(self, block: _Block) -> list[Finding]:
        data = pa.decompress(self._bytes_of(block), block.plain_bytes, codec="zstd", asbytes=True)
        return _DECODER.decode(data)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Finding])
_TEXTS = ("subject", "key", "file", "record", "detail", "image", "other_image", "other_subject")


def _writable(finding: Finding) -> Finding:
    """Return a finding as every file can state it: what is no UTF-8, as some names of files, is spelled out."""
    texts = [getattr(finding, name) for name in _TEXTS]
    if all(map(str.isascii, texts)):
        return finding
    spelled = [text.encode(errors="backslashreplace").decode() for text in texts]
    return (
        finding
        if spelled == texts
        else msgspec.structs.replace(finding, **dict(zip(_TEXTS, spelled, strict=True)))
    )

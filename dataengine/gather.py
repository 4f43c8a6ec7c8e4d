"""Source items to items with examples: the stage between reader and units that in-context tasks need.

The source is read twice. The first pass keeps, for each class, the `pool` items whose names have the least hashes: a
sample of the whole split that depends on no order, in memory bounded by the number of classes. The second pass yields
every item once, in the order of the source, with examples drawn from the pools. Both choices are seeded by identity,
and both are made before any worker sees an item.
"""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial

import msgspec
import xxhash

from dataengine.annotation import Annotation, Rejected
from dataengine.errors import Quarantine
from dataengine.examples import CLASSES, FACTS
from dataengine.files import Root
from dataengine.source import items_of
from dataengine.spec import Gather, Resolved

VERSION = "1"  # changes whenever the same items would get other examples
NO_EXAMPLE = "gather.no_example"
Items = Iterable[Annotation | Rejected]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Annotation).decode


class _Kept(msgspec.Struct, frozen=True, order=True):
    """An item of a pool: its place in the order of hashes, its picture, and itself as bytes."""

    rank: int
    picture: str
    data: bytes


def gathered_items(spec: Resolved, split: str, root: Root, limit: int | None, seed: int) -> Items:
    """Yield a split's items, at most `limit`, with their examples where the task asks for some.

    Raises SpecError or SourceError.
    """
    if spec.gather is None:
        return items_of(spec, split, root, limit)
    # The second reading is of the same files; its digests are those of the first.
    identity = f"{seed}/{spec.id}/{split}"
    return gather(spec.gather, identity, lambda: items_of(spec, split, root, limit), partial(_is_there, root))


def _is_there(root: Root, path: str) -> bool:
    try:
        return root.inside(path).is_file()
    except (OSError, Quarantine):
        return False


def gather(
    how: Gather, identity: str, read: Callable[[], Items], is_there: Callable[[str], bool]
) -> Iterator[Annotation | Rejected]:
    """Yield every item that `read` gives, annotations with examples; one without is rejected, `gather.no_example`.

    An item whose picture `is_there` denies is nobody's example: of a set that is half fetched, the half is used.
    """
    pools = Pools(how, identity, is_there)
    for item in read():
        if isinstance(item, Annotation):
            pools.add(item)
    for item in read():
        yield pools.ask(item) if isinstance(item, Annotation) else item


class Pools:
    """Items to draw examples from, by class; by a fact that is no class, all are of one, ""."""

    def __init__(self, how: Gather, identity: str, is_there: Callable[[str], bool]) -> None:
        self.how = how
        self.identity = identity
        self.is_there = is_there
        self.kept: dict[str, list[_Kept]] = {}

    @cached_property
    def names(self) -> list[str]:
        """All classes, sorted, once every item was added."""
        return sorted(self.kept)

    def add(self, item: Annotation) -> None:
        """Keep an item for each of its classes whose pool has room, or holds one of a larger hash."""
        picture = _picture(item)
        if picture is None:
            return
        data = b""
        for name in classes(item, self.how.by):
            pool = self.kept.setdefault(name, [])
            rank = xxhash.xxh3_64_intdigest(f"{self.identity}/{name}/{item.key}".encode())
            if len(pool) == self.how.pool and pool[-1].rank <= rank:
                continue
            if not data and not self.is_there(picture):
                return
            data = data or _encode(item)
            insort(pool, _Kept(rank, picture, data))
            del pool[self.how.pool :]

    def ask(self, item: Annotation) -> Annotation | Rejected:
        """Return an item with its examples, or rejected where there are fewer than the least number.

        One whose own picture is missing stays as it is: that is why it is lost, and what will bring it back.
        """
        picture = _picture(item)
        if picture is not None and not self.is_there(picture):
            return item
        names = classes(item, self.how.by)
        if picture is None or not names:
            what = f"{len(item.images)} pictures, expected one" if picture is None else f"no {self.how.by}"
            return _rejected(item, what)
        rng = random.Random(xxhash.xxh3_64_intdigest(f"{self.identity}/{item.key}".encode()))
        for name in rng.sample(names, len(names)):
            found = self._draw(name, set(names), picture, rng)
            if len(found) >= self.how.shots[0]:
                examples = tuple(_decode(one.data) for one in found)
                return msgspec.structs.replace(item, examples=examples, shared=name)
        return _rejected(item, f"fewer than {self.how.shots[0]} other pictures with its {self.how.by}")

    def _draw(self, name: str, own: set[str], picture: str, rng: random.Random) -> list[_Kept]:
        """Return items of a class, and of others where `same` allows, no picture twice and none the asked one."""
        count = rng.randint(*self.how.shots)
        same = _apart(self.kept.get(name, []), picture, count, rng)
        if not same:
            return []
        number = count if self.how.same == "all" else rng.randint(1, count)
        chosen = same[:number]
        chosen += self._others(own, {picture, *(one.picture for one in chosen)}, count - len(chosen), rng)
        shown = {one.picture for one in chosen}
        chosen += [one for one in same[number:] if one.picture not in shown][: count - len(chosen)]
        rng.shuffle(chosen)
        return chosen

    def _others(self, own: set[str], seen: set[str], count: int, rng: random.Random) -> list[_Kept]:
        """Return items of other classes than the asked one's, at most one of a class."""
        found: list[_Kept] = []
        if self.how.same == "all":
            return found
        # So many are enough, even where all of the asked one's own are among them.
        for name in rng.sample(self.names, min(count + len(own), len(self.names))):
            free = [one for one in self.kept[name] if one.picture not in seen]
            if free and name not in own and len(found) < count:
                found.append(rng.choice(free))
                seen.add(found[-1].picture)
        return found


def _apart(pool: list[_Kept], asked: str, count: int, rng: random.Random) -> list[_Kept]:
    """Return random items of a pool, at most `count`, each with a picture of its own that is not the asked one."""
    seen = {asked}
    found: list[_Kept] = []
    for one in rng.sample(pool, len(pool)):
        if len(found) == count:
            break
        if one.picture not in seen:
            seen.add(one.picture)
            found.append(one)
    return found


def classes(item: Annotation, by: str) -> list[str]:
    """Return the classes under which an item can be an example; "" by a fact that is no class."""
    found = FACTS[by](item)
    return list(found) if by in CLASSES else [""] if found else []


def _picture(item: Annotation) -> str | None:
    """Return the path of an item's picture, None where it has several or none."""
    return item.images[0].path if len(item.images) == 1 and item.images[0].role == "input" else None


def _rejected(item: Annotation, detail: str) -> Rejected:
    return Rejected(key=item.key, reason=NO_EXAMPLE, detail=detail, origin=item.origin)

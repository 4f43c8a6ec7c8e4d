"""Questions about pictures, answered by the model alone: its words, and what the decoders make of its routing tokens.

Shape suffixes: L text positions, G groups (routing tokens that a decoder reads), N queries of a group, C width of the
language model.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from dataengine import tokens
from dataengine.annotation import Turn
from dataengine.errors import Skip
from dataengine.images import Pixels
from dataengine.sample import Region, Route, Sample, SampleImage, SampleLicense, SampleOrigin, TextTargets
from trainer import views
from trainer.batch import IGNORED, PictureTargets
from trainer.collate import collate
from trainer.encode import Encoded, Measured, check_text, fill
from trainer.generate import Ending, Generated, Limits, generate
from trainer.model.decoders.chance import chance_of
from trainer.model.visionllm import VisionLLM
from trainer.naming import names
from trainer.settings import DETECTION, EDITING, POSE, TEXT, EncodeSettings, tiles_per_image
from trainer.targets import FRAMES
from trainer.text import encode_text, end_tokens

# Families whose decoder looks at the question's last picture; those of FRAMES make a picture of each group.
_LOOKING = (DETECTION, POSE, EDITING)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A conversation that ends with the user's turn, its pictures (RGB uint8 [height, width, 3]) and regions.

    Every `<image>` of the turns shows the next picture, every `<region>` marks the next region. Objects are found on
    the last picture. The id seeds what is drawn for the answer.
    """

    id: str
    turns: tuple[Turn, ...]
    pictures: tuple[Pixels, ...] = ()
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Group:
    """A routing token of an answer, and the words that say what it stands for."""

    token: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a family's decoder `found` for some groups of an answer, on original pixels (see its `predict`).

    `groups` are places among the answer's groups. Labels of `found` count them in this order, those of poses the [DET]
    tokens among them alone, and their keypoints the [POSE] tokens.
    """

    family: str
    groups: tuple[int, ...]
    found: Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model says, with its routing tokens, and the results of the decoders that it called by them.

    `ended` says why the text ended: by itself, or at a limit. `unanswered` has (place, reason) of each group that no
    result is about: `decoder.none`, or `picture.none` where there is no picture to look at.
    """

    id: str
    text: str
    groups: tuple[Group, ...]
    results: tuple[Result, ...]
    ended: Ending
    unanswered: tuple[tuple[int, str], ...] = ()

    def of(self, family: str) -> list[Result]:
        """Return the results of one family."""
        return [result for result in self.results if result.family == family]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A question that cannot be asked, and why: `text.too_long`, `text.reserved`, `media.placeholder`, ..."""

    id: str
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How questions are answered: `batch_size` of them go through the model at once.

    Above a `temperature` of 0 tokens are drawn, by `seed` and the question's id; pictures to make are always drawn so.
    `decoding` holds settings for `predict` of decoders, by family: `{"detection": {"top_k": 20}}`.
    """

    batch_size: int = 8
    max_new_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    decoding: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def answer(
    model: VisionLLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    questions: Iterable[Question | Refused],
    **choices: Any,
) -> list[Answer | Refused]:
    """Return the answer to each question, in their order; `choices` are the fields of `Choices`.

    An answer does not depend on the other questions.
    """
    return list(answers(model, tokenizer, settings, questions, Choices(**choices)))


def answers(
    model: VisionLLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    questions: Iterable[Question | Refused],
    choices: Choices,
) -> Iterator[Answer | Refused]:
    """Yield what `answer` returns, a batch after the other; questions are taken as they are needed.

    One that was refused before comes back in its place.
    """
    model.eval()
    waiting = iter(questions)
    while part := list(itertools.islice(waiting, choices.batch_size)):
        coded = [
            one if isinstance(one, Refused) else encode_question(one, tokenizer, settings) for one in part
        ]
        drafts = [_Draft(*pair) for pair in zip(part, coded, strict=True) if isinstance(pair[1], Encoded)]
        if drafts:
            _speak(model, tokenizer, settings, drafts, choices)
            _decode(model, tokenizer, settings, drafts, choices)
        spoken = iter(drafts)
        for found in coded:
            yield found if isinstance(found, Refused) else next(spoken).answer()


@dataclass
class _Draft:
    """An answer in the making: its prompt, what was said, and each group's place in L and hidden states (None: no
    decoder reads its token)."""

    question: Question
    prompt: Encoded
    text: str = ""
    ended: Ending = "end"
    input_ids_L: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    groups: tuple[Group, ...] = ()
    positions: tuple[int, ...] = ()
    hidden: tuple[torch.Tensor | None, ...] = ()
    results: list[Result] = field(default_factory=list)
    unanswered: list[tuple[int, str]] = field(default_factory=list)

    def answer(self) -> Answer:
        return Answer(
            id=self.question.id,
            text=self.text,
            groups=self.groups,
            results=tuple(self.results),
            ended=self.ended,
            unanswered=tuple(sorted(self.unanswered)),
        )


def encode_question(
    question: Question, tokenizer: PreTrainedTokenizerFast, settings: EncodeSettings
) -> Encoded | Refused:
    """Return the prompt as training encodes it, up to where the assistant begins; Refused where it cannot be."""
    try:
        _check(question)
        sample = _as_sample(question)
        check_text(sample)
        tiles = tuple(tiles_per_image(sample, settings))
        text = encode_text(question.turns, tiles, tokenizer, settings)
        if len(text.input_ids_L) >= settings.max_length:
            raise Skip(
                "text.too_long",
                f"{len(text.input_ids_L)} tokens, at most {settings.max_length - 1} leave room for an answer",
            )
    except Skip as skip:
        return Refused(id=question.id, reason=skip.reason, detail=skip.detail)
    measured = Measured(
        sample=sample,
        window=None,
        mirrored=False,
        family=TEXT,
        text=text,
        tiles_per_image=tiles,
        decoder_size=None,
        shortened={},
    )
    return fill(measured, question.pictures, settings)


def _check(question: Question) -> None:
    if not question.turns or question.turns[-1].role != "user":
        raise Skip("turn.structure", "the last turn is not the user's")
    found = tokens.placeholders("\n".join(turn.text for turn in question.turns))
    for token, given, reason in (
        (tokens.IMAGE, len(question.pictures), "media.placeholder"),
        (tokens.REGION, len(question.regions), "token.region_mismatch"),
    ):
        if found.count(token) != given:
            raise Skip(reason, f"{found.count(token)} {token} in the text, {given} given")
    lost = [region.image for region in question.regions if not 0 <= region.image < len(question.pictures)]
    if lost:
        raise Skip("media.missing", f"a region lies on picture {lost[0]}, which is none")


def _as_sample(question: Question) -> Sample:
    """Return a question as the sample that it would be in training, without an answer."""
    said = tokens.placeholders("\n".join(turn.text for turn in question.turns))
    return Sample(
        id=question.id,
        task="",
        dataset="",
        split="",
        images=tuple(
            SampleImage(path=str(number), width=picture.shape[1], height=picture.shape[0], format="png")
            for number, picture in enumerate(question.pictures)
        ),
        conversation=question.turns,
        routes=tuple(
            Route(token=token, kind="category", name="") for token in said if token in tokens.ROUTING_TOKENS
        ),
        regions=question.regions,
        targets=TextTargets(),
        origin=SampleOrigin(dataset="", file="", record="", spec="", spec_hash="", reader=""),
        license=SampleLicense(annotations="", images=""),
    )


def _speak(
    model: VisionLLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    drafts: Sequence[_Draft],
    choices: Choices,
) -> None:
    """Let the model answer the prompts of some drafts, in words."""
    device = model.language.embeddings.weight.device
    # Of these, no answer in training has any: they stand for pictures, regions and queries, or for nothing.
    never = {
        *tokenizer.convert_tokens_to_ids(
            ["[PAD]", tokens.IMAGE, "<im_patch>", tokens.REGION, *tokens.EMB_TOKENS]
        ),
        *range(len(tokenizer), model.language.embeddings.num_embeddings),
    }
    generated = generate(
        model,
        collate([draft.prompt for draft in drafts], tokenizer.pad_token_id).to(device),
        ends=end_tokens(tokenizer),
        never=never,
        limits=Limits(max_new_tokens=choices.max_new_tokens, max_length=settings.max_length),
        temperature=choices.temperature,
        generators=[chance_of(choices.seed, draft.question.id) for draft in drafts],
    )
    for draft, found in zip(drafts, generated, strict=True):
        _note(draft, found, model, tokenizer)


def _note(draft: _Draft, found: Generated, model: VisionLLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write what was said into a draft: text, groups and their names."""
    ids = model.config.token_ids
    routing = {token_id: token for token, token_id in ids.routing.items()}
    emb, ends = frozenset(ids.emb), end_tokens(tokenizer)
    said = [(place, one) for place, one in enumerate(found.input_ids) if one not in emb]
    if said and said[-1][1] in ends:
        said.pop()
    places = [place for place, one in said if one in routing]
    before: list[list[int]] = [[]]
    for _, one in said:
        if one in routing:
            before.append([])
        else:
            before[-1].append(one)
    called = [routing[found.input_ids[place]] for place in places]
    words = names(
        draft.question.turns[-1].text,
        [tokenizer.decode(part, clean_up_tokenization_spaces=False) for part in before[:-1]],
        called,
    )
    hidden = dict(zip(found.groups, found.hidden, strict=True))
    draft.text = tokenizer.decode([one for _, one in said], clean_up_tokenization_spaces=False).strip()
    draft.ended = found.ended
    draft.input_ids_L = torch.cat(
        [draft.prompt.input_ids_L, torch.tensor(found.input_ids, dtype=torch.int64)]
    )
    draft.groups = tuple(Group(token=token, name=name) for token, name in zip(called, words, strict=True))
    draft.positions = tuple(len(draft.prompt.input_ids_L) + place for place in places)
    draft.hidden = tuple(hidden.get(place) for place in places)


def calls(routing: Sequence[str], readers: Mapping[str, Sequence[str]]) -> list[tuple[str, tuple[int, ...]]]:
    """Return which decoders the routing tokens of an answer call: (family, places of the tokens that it gets).

    The pose decoder is called by [POSE] alone, and takes the [DET] tokens along, as in training; others are called by
    any token that they read. A picture is made for each token that asks for one.
    """
    found: list[tuple[str, tuple[int, ...]]] = []
    taken: set[int] = set()
    for family in sorted(readers, key=lambda name: name != POSE):
        places = [k for k, token in enumerate(routing) if token in readers[family] and k not in taken]
        if not places or (family == POSE and tokens.POSE not in routing):
            continue
        taken.update(places)
        found += [(family, (place,)) for place in places] if family in FRAMES else [(family, tuple(places))]
    return found


def _decode(
    model: VisionLLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    drafts: Sequence[_Draft],
    choices: Choices,
) -> None:
    """Let each decoder answer all that it was called for in some drafts.

    Only pictures of one size go together: beside padding, what is found at a border would change.
    """
    together: dict[tuple[Any, ...], list[tuple[_Draft, tuple[int, ...], Encoded]]] = {}
    for draft in drafts:
        called = calls([group.token for group in draft.groups], settings.readers)
        answered = {place for _, places in called for place in places}
        draft.unanswered += [(k, "decoder.none") for k in range(len(draft.groups)) if k not in answered]
        for number, (family, places) in enumerate(called):
            if family in _LOOKING and not draft.question.pictures:
                draft.unanswered += [(place, "picture.none") for place in places]
                continue
            # Each picture to make draws its own chance, by its id.
            times = sum(earlier == family for earlier, _ in called[:number])
            name = draft.question.id if not times else f"{draft.question.id}#{times + 1}"
            view = replace(_decoder_view(draft, family, places, settings), id=name)
            size = None if view.image_3HW is None else tuple(view.image_3HW.shape)
            together.setdefault((family, size), []).append((draft, places, view))
    device = model.language.embeddings.weight.device
    for (family, _), some in together.items():
        chance = {"generator": torch.Generator().manual_seed(choices.seed)} if family in FRAMES else {}
        found = model.decoders[family].predict(
            torch.stack([draft.hidden[place] for draft, places, _ in some for place in places]),
            collate([view for _, _, view in some], tokenizer.pad_token_id).to(device),
            **{**chance, **choices.decoding.get(family, {})},
        )
        for (draft, places, _), one in zip(some, found, strict=True):
            draft.results.append(Result(family=family, groups=places, found=one))


def _decoder_view(draft: _Draft, family: str, places: tuple[int, ...], settings: EncodeSettings) -> Encoded:
    """Return an answered question as a decoder is shown it: the whole text, its own groups, and its picture."""
    image_3HW, size, picture = None, (0, 0), None
    names = tuple(draft.groups[place].name for place in places)
    if family in FRAMES:
        side, shown = settings.picture_side[family], draft.question.pictures[-1:] if family == EDITING else ()
        given = [views.framed(pixels, side, FRAMES[family])[None] for pixels in shown]
        picture = PictureTargets(wanted_B3SS=None, given_B3SS=given[0] if given else None, captions=names)
    elif draft.question.pictures:
        height, width = size = draft.question.pictures[-1].shape[:2]
        scaled = views.decoder_size(width, height, settings.decoder_short[-1], settings.decoder_longest)
        image_3HW = views.decoder_view(draft.question.pictures[-1], scaled)
    return replace(
        draft.prompt,
        family=family,
        input_ids_L=draft.input_ids_L,
        labels_L=torch.full_like(draft.input_ids_L, IGNORED),
        groups=tuple(draft.positions[place] for place in places),
        names=names,
        tokens=tuple(draft.groups[place].token for place in places),
        image_3HW=image_3HW,
        original_size=size,
        picture=picture,
    )

"""Tags of words: the scheme they are written in, and the entities that a row of them says."""

import functools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
# B begins an entity, I or M goes on with it, E or L ends it, S or U is one of a single word.
PREFIXED = re.compile("([BIMELSU])-(.+)")
ENTITY = re.compile("[BIMELSU](-.*)?")
BARE = re.compile("[BIMELSU]")  # of tags without types: chunks, Chinese words
# What looks like a scheme and is written in no way that is known here: B_PER, PER-B.
OTHER_FORMS = re.compile("[BIMELSU]_.+|.+[-_][BIMELSU]")
OTHER_BEGINNINGS = re.compile("B_.+|.+[-_]B")
NO_TYPE = "_"
PLAIN = "plain"  # no scheme: parts of speech, say
# By the prefixes beside O; of several that fit, the first.
SCHEMES = {"IO": "I", "BIO": "BI", "BIOES": "BIES", "BMES": "BMES", "BILOU": "BILU"}
SAME = str.maketrans("MLU", "IES")


class Entity(NamedTuple):
    type: str
    start: int  # its first word
    end: int  # one past its last


class Tag(NamedTuple):
    """A tag in two; the prefix is one of O B I E S."""

    prefix: str
    type: str


def scheme_of(tags: Iterable[str]) -> str:
    """A name in SCHEMES, PLAIN, or of mixed schemes all their prefixes.

    One tag with a prefix and a type makes it a scheme. Bare letters do if there is nothing else.
    """
    prefixes = {tag[0] for tag in _formed(tags)}
    if not prefixes:
        return PLAIN
    whole = [name for name, known in SCHEMES.items() if prefixes <= set(known)]
    return whole[0] if whole else "".join(sorted(prefixes))


def in_another_form(tags: Iterable[str]) -> str:
    """A tag that begins an entity, where all but O seem to be of a scheme in a form not known;
    else ""."""
    others = sorted(set(tags) - {OUTSIDE})
    if scheme_of(others) == PLAIN and all(map(OTHER_FORMS.fullmatch, others)):
        return next(filter(OTHER_BEGINNINGS.fullmatch, others), "")
    return ""


def complete(tags: Iterable[str]) -> tuple[str, ...]:
    """O, and each type with every prefix of the scheme, were some of them never seen; or the
    plain tags. What is in no scheme is left out where the others are."""
    scheme = scheme_of(tags)
    if scheme == PLAIN:
        return tuple(sorted(set(tags)))
    ends = sorted({tag[1:] for tag in _formed(tags)})
    return (OUTSIDE, *(prefix + end for end in ends for prefix in SCHEMES.get(scheme, scheme)))


def inside(tag: str, known: Sequence[str]) -> str:
    """The tag of a word's pieces after the first: of B the I or M there is, else the word's."""
    if scheme_of(known) == PLAIN or not tag.startswith("B"):
        return tag
    return next((p + tag[1:] for p in "IM" if p + tag[1:] in known), tag)


def entities(tags: Sequence[str]) -> list[Entity]:
    """Maximal runs of words, none of which ends an entity or begins one within the run.

    That is seqeval's default mode, and conlleval's: a run that begins with I, or ends without
    E, counts as it is, and so do schemes that are mixed. What has no letter of a scheme in front,
    as X or [SEP] of other people's taggers, is outside; seqeval warns that it is no such tag.
    """
    found: list[Entity] = []
    before = Tag(OUTSIDE, "")
    for place, tag in enumerate(map(_parse, tags)):
        is_apart = before.prefix in "OES" or tag.prefix in "OBS" or tag.type != before.type
        if tag.prefix != OUTSIDE and is_apart:
            found.append(Entity(tag.type, place, place + 1))
        elif tag.prefix != OUTSIDE:
            found[-1] = found[-1]._replace(end=place + 1)
        before = tag
    return found


def single_words(tags: Sequence[str]) -> list[Entity]:
    """Plain tags: every word for itself, but those without a tag."""
    return [Entity(tag, n, n + 1) for n, tag in enumerate(tags) if tag != OUTSIDE]


def _formed(tags: Iterable[str]) -> set[str]:
    """Those that a scheme has."""
    tags = set(tags) - {OUTSIDE}
    typed = {tag for tag in tags if PREFIXED.fullmatch(tag)}
    return typed or (tags if all(map(BARE.fullmatch, tags)) else set())


@functools.cache
def _parse(tag: str) -> Tag:
    if not ENTITY.fullmatch(tag):
        return Tag(OUTSIDE, "")
    return Tag(tag[0].translate(SAME), tag[2:] or NO_TYPE)

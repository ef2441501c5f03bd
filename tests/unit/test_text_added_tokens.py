"""Added tokens, against the library of Hugging Face: in from every file, and out again."""

import json

import foreign
import pytest
import tokenizers as library
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from bert_jax.errors import InputError
from bert_jax.interchange import vocabulary
from bert_jax.text import added_tokens, tokenizer

FIRST = len(foreign.PIECES)
ADDED = (
    AddedToken("ab", normalized=False),  # a piece of the vocabulary
    AddedToken("[E1]"),
    AddedToken("[E2]", special=True),
    AddedToken("<user>", rstrip=True, normalized=False),
    AddedToken("<url>", lstrip=True),
    AddedToken("cd", single_word=True),
    AddedToken("GH", normalized=False),
    AddedToken("好c"),
)
TEXTS = (
    "a [E1] b",
    "a[e1]b",
    "[E2]a [e2]",
    "<user>  a <USER>b",
    "a  <url> b",
    "cda cd b cd",
    "gh GH gGH",
    "abAB abb",
    "好c 好 c",
    "[E1][MASK] [E2]",
    "É<user> ",
    "",
)


def theirs():
    """The five special pieces and all of `ADDED`, as the library itself has them."""
    ids = {piece: number for number, piece in enumerate(foreign.PIECES)}
    made = library.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(list(foreign.SPECIAL))
    made.add_tokens(list(ADDED))
    return made


def save(directory, *, with_vocabulary=True, **files):
    if with_vocabulary:
        (directory / "vocab.txt").write_text("\n".join(foreign.PIECES) + "\n", "utf-8")
    for name, values in files.items():
        (directory / f"{name}.json").write_text(json.dumps(values), "utf-8")
    return directory


def decoder(tokens):
    """What a tokenizer_config.json says of them."""
    return {
        added_tokens.DECODER: {str(i): added_tokens.values(token) for i, token in tokens.items()}
    }


def every_way(directory):
    """The same tokens by tokenizer.json, alone or beside vocab.txt, and by the config's field."""
    for name in ("alone", "beside", "config"):
        (directory / name).mkdir()
    whole = json.loads(theirs().to_str())
    places = {token["content"]: token["id"] for token in whole["added_tokens"]}
    said = decoder({places[token.content]: token for token in ADDED})
    yield save(directory / "alone", with_vocabulary=False, tokenizer=whole)
    yield save(directory / "beside", tokenizer=whole, tokenizer_config={"do_lower_case": True})
    yield save(directory / "config", tokenizer_config={"do_lower_case": True} | said)


def test_added_tokens_are_found_as_the_library_finds_them(tmp_path):
    wanted = theirs()
    for directory in every_way(tmp_path):
        ours = tokenizer.load(directory)
        assert ours.vocab_size == wanted.get_vocab_size()
        for text in TEXTS:
            found = wanted.encode(text, add_special_tokens=False)
            ids, offsets = ours.encode(text, allow_special=True)
            assert ids == found.ids, (directory.name, text)
            shown = [text[left:right].strip() for left, right in found.offsets]
            assert [text[left:right] for left, right in offsets] == shown
        assert ours.encode_batch(["a [E1]", "GH"]) == [[5, FIRST], [FIRST + 5]]


def test_added_tokens_stay_where_the_five_are_plain_text(tmp_path):
    ours = tokenizer.load(next(every_way(tmp_path)))
    found = ours.encode("[E1][CLS] \ud800[E2]")
    assert (found.ids[0], found.ids[-1]) == (FIRST, FIRST + 1)
    assert ours.special.cls not in found.ids
    assert found.offsets[-1] == (11, 15)


def test_added_tokens_go_out_and_back(tmp_path):
    for directory in every_way(tmp_path):
        ours = tokenizer.load(directory)
        vocabulary.write(ours, directory / "out", positions=9)
        again = library.Tokenizer.from_file(str(directory / "out" / "tokenizer.json"))
        for text in TEXTS:
            wanted = theirs().encode(text, add_special_tokens=False).ids
            assert again.encode(text, add_special_tokens=False).ids == wanted, text
        assert tokenizer.load(directory / "out").fingerprint == ours.fingerprint
        said = json.loads((directory / "out" / "special_tokens_map.json").read_text("utf-8"))
        assert said["additional_special_tokens"] == ["[E2]"]
        ours.save(directory / "saved")
        saved = tokenizer.load(directory / "saved")
        assert (saved.fingerprint, saved.pieces) == (ours.fingerprint, ours.pieces)
        assert saved.encode(TEXTS[5]) == ours.encode(TEXTS[5])


def test_the_five_alone_change_nothing(tmp_path):
    plain = tokenizer.load(save(tmp_path))
    five = decoder({i: AddedToken(foreign.PIECES[i], special=True) for i in range(5)})
    assert tokenizer.load(save(tmp_path, tokenizer_config=five)).fingerprint == plain.fingerprint
    assert len({tokenizer.load(d).fingerprint for d in every_way(tmp_path)}) == 1
    assert tokenizer.load(tmp_path / "alone").fingerprint != plain.fingerprint


def test_the_files_of_older_releases(tmp_path):
    """Ids without flags; special ones are matched as they stand, others in lower case too."""
    several = ["GH", {"content": "<x>", "lstrip": False, "rstrip": True}, "ab", "[nowhere]"]
    ours = tokenizer.load(
        save(
            tmp_path,
            added_tokens={"<x>": FIRST + 2, "[E1]": FIRST, "GH": FIRST + 1},
            special_tokens_map={"additional_special_tokens": several},
        )
    )
    assert ours.pieces[FIRST:] == ("[E1]", "GH", "<x>")
    assert ours.encode("[e1] GHabb").ids == [FIRST, FIRST + 1, foreign.PIECES.index("ab"), 6]
    assert FIRST + 1 not in ours.encode("gh").ids
    assert {token.content: (token.special, token.rstrip) for token in ours.added} == {
        "ab": (True, False),
        "[E1]": (False, False),
        "GH": (True, False),
        "<x>": (True, True),
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"added_tokens": {"x": 7}}, r"added_tokens\.json gives the added token 'x' the id 7, and"),
        ({"added_tokens": {"a": FIRST}}, r"gives the added token 'a' the id 22, and the voc"),
        ({"added_tokens": {"x": "y"}}, r"added_tokens\.json must give each added token a content"),
        (
            {"tokenizer_config": {"added_tokens_decoder": {"22": {"content": "x", "rstrip": 1}}}},
            r"tokenizer_config\.json must give each added token a content, an id and flags",
        ),
        ({"tokenizer_config": {"added_tokens_decoder": [7]}}, r"_config\.json must give each add"),
        ({"tokenizer_config": {"added_tokens_decoder": {"22": 7}}}, r"_config\.json must give ea"),
        ({"special_tokens_map": {"additional_special_tokens": [7]}}, r"special_tokens_map\.json m"),
        ({"added_tokens": {"": FIRST}}, r"added_tokens\.json has an added token without any"),
    ],
)
def test_a_token_that_cannot_be_is_named(files, message, tmp_path):
    with pytest.raises(InputError, match=message):
        tokenizer.load(save(tmp_path, **files))


def test_words_come_after_added_tokens(tmp_path):
    said = decoder({FIRST: AddedToken("[E1]")})
    old = tokenizer.load(save(tmp_path, tokenizer_config={"do_lower_case": True} | said))
    (tmp_path / "words.txt").write_text("abba\n好中\n", "utf-8")
    words, _ = vocabulary.read_words(tmp_path / "words.txt", old)
    vocabulary.write(vocabulary.with_words(old, words), tmp_path / "new", positions=9)
    again = library.Tokenizer.from_file(str(tmp_path / "new" / "tokenizer.json"))
    for found in (
        tokenizer.load(tmp_path / "new").encode("[e1]abba 好中").ids,
        again.encode("[e1]abba 好中", add_special_tokens=False).ids,
    ):
        assert found == [FIRST, FIRST + 1, FIRST + 2]
    old = tokenizer.load(save(tmp_path, tokenizer_config=decoder({FIRST: AddedToken("abb")})))
    with pytest.raises(InputError, match=r"--add_words=.*: the added token 'abb' is a word"):
        vocabulary.read_words(tmp_path / "words.txt", old)

"""Sentences of Chinese and English."""

import pytest
import sentencex
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.text.sentences import LONGEST_PARAGRAPH, split_sentences

CASES = {
    "ends": ("他走了！！真的？？是的……嗯。完", ["他走了！！", "真的？？", "是的……嗯。", "完"]),
    "lines": ("第一条\n\n 第二条 \r\n第三条", ["第一条", "第二条", "第三条"]),
    "quotes": ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
    "brackets": ("真好(还好。)再见", ["真好(还好。)", "再见"]),
    "wide brackets": ("真好（还好！）再见", ["真好（还好！）", "再见"]),
    "a comma after brackets": ("真好（还好。），再见", ["真好（还好。），再见"]),
    "semicolons": ("应当：（一）甲；（二）乙。完", ["应当：（一）甲；（二）乙。", "完"]),
    "a number": ("今天3.5元。明天", ["今天3.5元。", "明天"]),
    "mixed": ("用BERT模型。It is good.", ["用BERT模型。", "It is good."]),
    "English": (
        "Mr. Smith left (see fig. 3.5). “Oh!” he said. Bye",
        ["Mr. Smith left (see fig. 3.5).", "“Oh!” he said.", "Bye"],
    ),
    "a quote, then who said it": ("“你好。”他说。", ["“你好。”", "他说。"]),
    "ends within quotes": ("他说：“走吧！快走！”她走了。", ["他说：“走吧！快走！”", "她走了。"]),
    "a comma after quotes": ("他说：“走！”，然后走了。好", ["他说：“走！”，然后走了。", "好"]),
    "corner brackets": ("『走。』她說。「好。」完", ["『走。』", "她說。", "「好。」", "完"]),
    "quotes in quotes": ("他说：“她说：‘走！’”好", ["他说：“她说：‘走！’”", "好"]),
    "a sentence in brackets": ("走了。（完。）好", ["走了。", "（完。）", "好"]),
    "a title": ("《你好！》是一首歌。好", ["《你好！》是一首歌。", "好"]),
    "English quotes": ('"Go!" he said. (It ended.)', ['"Go!" he said.', "(It ended.)"]),
    "English brackets": (
        "(It ended. Why?) [Sic.] We (the U.S.) left.",
        ["(It ended. Why?)", "[Sic.]", "We (the U.S.) left."],
    ),
    "nothing": (" \n\t\n", []),
}


@pytest.mark.parametrize(("text", "sentences"), CASES.values(), ids=CASES)
def test_sentences(text, sentences):
    assert split_sentences(text) == sentences


def test_sentencex_is_never_given_much_at_once(monkeypatch):
    given_lengths = []
    segment = sentencex.segment

    def watched(language, text):
        given_lengths.append(len(text))
        return segment(language, text)

    monkeypatch.setattr(sentencex, "segment", watched)
    sentence = "这是一个很长的段落，没有换行。"
    assert split_sentences(sentence * 2_000) == [sentence] * 2_000
    assert max(given_lengths) <= 5_000  # characters: its time grows with the square of them


def test_a_paragraph_without_ends_is_cut():
    assert [len(s) for s in split_sentences("长" * (2 * LONGEST_PARAGRAPH + 1))] == [
        LONGEST_PARAGRAPH,
        LONGEST_PARAGRAPH,
        1,
    ]


@settings(max_examples=200)
@given(st.text("好a 。.！？!(（)）“”\n；", max_size=40))
def test_no_character_is_lost_or_made(text):
    found = split_sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in found)

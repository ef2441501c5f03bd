"""A small Chinese corpus and labelled reviews, made of sentence parts by a seeded generator."""

import csv
import random
from pathlib import Path

from ml_collections import ConfigDict

from configs import finetune_sentiment, prepare_zh, pretrain_base

PLACES = ("城南的书店", "河边的旅馆", "山下的餐馆", "新开的影院", "老街的茶楼", "车站旁的超市")
PEOPLE = ("店员", "老板", "厨师", "邻居", "游客", "老师傅")
THINGS = ("点心", "热茶", "地图", "旧书", "雨伞", "门票", "水果")
DAYS = ("春天", "周末", "傍晚", "清晨", "下雨的时候", "节日里")
SENTENCES = (
    "{day}，{place}里坐满了人。",
    "{person}把{thing}递给客人，又回去忙碌。",
    "{place}离学校不远，走路十分钟就到。",
    "如果想买{thing}，最好{day}就去排队。",
    "{person}说，{place}已经开了三十多年！",
    "谁会忘记{day}的{thing}呢？",
    "他和{person}谈起{thing}，一直谈到{day}。",
    "有人觉得{thing}{opinion}，有人觉得{place}{opinion}。",
)
GOOD = ("精彩", "温暖", "热情", "干净", "满意", "推荐")
BAD = ("失望", "糟糕", "冷淡", "肮脏", "无聊", "难吃")
REVIEWS = ("{place}让人{word}，{person}很{other}。", "{thing}{word}，{day}再看{person}也{other}。")


def documents(count: int = 120, seed: int = 0) -> list[str]:
    """Different documents of three to eight sentences, two paragraphs in the longer ones."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        sentences = [_fill(rng.choice(SENTENCES), rng) for _ in range(rng.randint(3, 8))]
        sentences[0] = f"第{number}篇：{sentences[0]}"
        found.append("".join(sentences[:4]) + "\n" + "".join(sentences[4:]))
    return [document.strip() for document in found]


def rated(count: int, seed: int = 0) -> list[tuple[str, str, float]]:
    """(a line that tells nothing, a review, its value): 2 for a good one, -1 for a bad one, and
    half of one more where the staff is in it."""
    rng = random.Random(seed)
    return [
        (
            _fill(SENTENCES[0], rng),
            text,
            (2.0 if label == "好评" else -1.0) + 0.5 * ("店员" in text),
        )
        for text, label in reviews(count, seed)
    ]


def write_documents(path: Path, texts: list[str]) -> Path:
    """Plain text, a blank line between documents."""
    path.write_text("\n\n".join(texts) + "\n", "utf-8")
    return path


def reviews(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label), the label told by two words of the text."""
    rng = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        label, words = rng.choice((("好评", GOOD), ("差评", BAD)))
        word, other = rng.sample(words, 2)
        text = _fill(rng.choice(REVIEWS), rng).replace("{word}", word).replace("{other}", other)
        found[text] = label
    return list(found.items())


def write_reviews(path: Path, rows: list[tuple[str, str]]) -> Path:
    """CSV with the header text,label."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def _fill(template: str, rng: random.Random) -> str:
    parts = {"place": PLACES, "person": PEOPLE, "thing": THINGS, "day": DAYS, "opinion": GOOD + BAD}
    for name, values in parts.items():
        template = template.replace(f"{{{name}}}", rng.choice(values))
    return template


def prepare_config(*sources: Path) -> ConfigDict:
    """Rows of 32 tokens, up to 500 pieces, a tenth of the documents held out."""
    config = prepare_zh.get_config("tiny")
    config.sources = tuple(map(str, sources))
    config.max_documents = 0
    config.heldout_fraction = 0.1
    config.tokenizer.vocab_size = 500
    config.instances.length = 32
    config.workers = 1
    return config


def pretrain_config(data: Path) -> ConfigDict:
    """Twelve steps of a model of two layers, with dropout, a checkpoint every four."""
    config = pretrain_base.get_config("tiny")
    config.data = str(data)
    config.model.positions = 32
    config.masking.max_predictions = 6
    config.update(batch_size=8, steps=12, log_every=3, eval_every=6, save_every=4)
    return config


def finetune_config(reviews_path: Path, init_from: Path | str, tokenizer: str = "") -> ConfigDict:
    """Three epochs with two evaluations each, at a rate that learns from nothing."""
    config = finetune_sentiment.get_config("tiny")
    config.init_from = str(init_from)
    config.tokenizer = tokenizer
    config.data.train = str(reviews_path)
    config.model.positions = 32
    config.update(batch_size=16, max_length=32, epochs=3, evals_per_epoch=2, log_every=3)
    config.optimizer.learning_rate = 3e-3
    return config

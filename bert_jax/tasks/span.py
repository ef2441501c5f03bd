"""The part of a text that answers a question, or that there is none: SQuAD, CMRC2018, DRCD."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bert_jax.arrays import SpanBatch
from bert_jax.config import ModelConfig
from bert_jax.data.encoding import PAIR_SPECIAL, pad_tokens
from bert_jax.data.spans import CLS, Context, SpanExample, question_room, span_examples
from bert_jax.errors import InputError
from bert_jax.finetune_config import FinetuneConfig, LabelledDataConfig
from bert_jax.model.bert import SpanModel
from bert_jax.tasks import span_scores
from bert_jax.tasks.evaluation_report import NOT_DEFINED, Section
from bert_jax.tasks.span_decoding import Candidates, Span, decode
from bert_jax.tasks.task import Encoded, Task, Text
from bert_jax.text.labelled import LabelledText
from bert_jax.text.squad import Question, read_questions, split_by_context
from bert_jax.training.losses import accuracy, cross_entropy
from bert_jax.training.metrics import Mean

# What training has found: NONE is a label where some questions have no answer. It has no output
# of its own, both others at [CLS] say it.
START, END, NONE = "start", "end", "none"
SHOWN = 3  # of the best, in a prediction
NOT_A_TOKEN = -1e30
PREDICTIONS, MARGINS = "predictions.json", "null_odds.json"


class SpanTask(Task):
    """A row is a Question; an answer is its Candidates, from all windows of the context."""

    METRICS: ClassVar = dict.fromkeys(span_scores.NAMES, True)
    FILES: ClassVar = (PREDICTIONS, MARGINS)

    @staticmethod
    def read(source: str, data: LabelledDataConfig) -> list[Question]:
        """The context is the text, the question its pair, the answers its label."""
        return read_questions(source, data)

    @staticmethod
    def split(rows: Sequence[Question]) -> dict[str, list[Question]]:
        """All questions of a context on one side."""
        return split_by_context(rows)

    @staticmethod
    def find_labels(rows: Sequence[Question], data: LabelledDataConfig) -> tuple[str, ...]:
        """START and END, and NONE where some have no answer; InputError where none has one."""
        if not any(row.answers for row in rows):
            raise InputError(f"{data.train} holds no question with an answer: some are needed.")
        return (START, END) if all(row.answers for row in rows) else (START, END, NONE)

    @classmethod
    def check(cls, config: FinetuneConfig) -> None:
        """Every row has a question."""
        super().check(config)
        if not config.data.pair_field:
            raise InputError(
                "config.data.pair_field is empty, and config.task=span wants questions: name"
                " their field."
            )

    def encode(self, rows: Sequence[Question]) -> Encoded:
        """The first of several answers is learnt, as Hugging Face has it."""
        questions = self.tokenizer.encode_batch([row.question for row in rows])
        contexts: dict[str, Context] = {}  # many questions have one
        encoded = Encoded([], {})
        for number, (row, question) in enumerate(zip(rows, questions, strict=True)):
            if row.context not in contexts:
                contexts[row.context] = Context.of(row.context, self.tokenizer)
            context = contexts[row.context]
            first = row.answers[0] if row.answers else None
            examples = span_examples(
                question,
                context,
                (first.start, first.start + len(first.text)) if first else None,
                self.tokenizer,
                row=number,
                max_length=self.max_length,
                overlap=self.overlap,
            )
            encoded.examples.extend(examples)
            is_asked_whole = len(question) <= question_room(self.max_length)
            is_read_whole = self.overlap or len(examples[0].offsets) == len(context.ids)
            if not (is_asked_whole and is_read_whole):
                encoded.cut[number] = len(question) + len(context.ids) + PAIR_SPECIAL
        return encoded

    def cut_of(self, row: Question, tokens: int) -> str:
        """The question, where it is that: it has a limit of its own, and no windows."""
        pieces, room = len(self.tokenizer.encode(row.question).ids), question_room(self.max_length)
        if pieces > room:
            return f"has a question of {pieces} pieces, of which {room} are read"
        return super().cut_of(row, tokens)

    def batch(self, examples: Sequence[SpanExample], rows: int, length: int) -> SpanBatch:
        """Examples that fill up have no answer."""
        starts, ends = np.full(rows, CLS, np.int32), np.full(rows, CLS, np.int32)
        weights = np.zeros(rows, np.float32)
        for place, example in enumerate(examples):
            starts[place], ends[place], weights[place] = example.start, example.end, 1
        encodings = [example.tokens for example in examples]
        tokens = pad_tokens(encodings, rows, length, self.tokenizer.special.pad)
        return SpanBatch(tokens, starts, ends, weights)

    def model(self, config: ModelConfig, mesh: Any) -> SpanModel:
        """Two logits a token."""
        return SpanModel(config, mesh)

    def losses(
        self, outputs: Float[Array, "B T 2"], batch: SpanBatch
    ) -> tuple[dict[str, Mean], dict[str, Mean]]:
        """The mean of both cross-entropies over the tokens of a row.

        Padding is no token: how much there is of it depends on other examples, and the loss of one
        must not. The original, whose rows are all of one length, counts it in.
        The question is left in, as there: that it holds no answer is soon learnt.
        """
        is_token = batch.tokens.is_token[:, :, None]
        logits = jnp.where(is_token, outputs, NOT_A_TOKEN)
        firsts = (logits[:, :, 0], batch.starts, batch.weights)
        lasts = (logits[:, :, 1], batch.ends, batch.weights)
        first, last = cross_entropy(*firsts), cross_entropy(*lasts)
        loss = Mean((first.total + last.total) / 2, first.weight)
        found = {"start_accuracy": accuracy(*firsts), "end_accuracy": accuracy(*lasts)}
        return {"loss": loss}, found

    def answers(
        self,
        rows: Sequence[Question],
        examples: Sequence[SpanExample],
        predictions: Sequence[Float[np.ndarray, "_T 2"]],
    ) -> list[Candidates]:
        """In the words of the context."""
        of_row: list[list[int]] = [[] for _ in rows]
        for number, example in enumerate(examples):
            of_row[example.row].append(number)
        return [
            decode(row.context, [examples[n] for n in found], [predictions[n] for n in found])
            for row, found in zip(rows, of_row, strict=True)
        ]

    def score(
        self, rows: Sequence[Question], answers: Sequence[Candidates], data: LabelledDataConfig
    ) -> dict[str, float]:
        """By the rules that `data` names."""
        right = [tuple(answer.text for answer in row.answers) for row in rows]
        return span_scores.of_answers(right, answers, span_scores.RULES[data.answer_rules])

    def blind(self, known: Sequence[Question], rows: Sequence[Question]) -> list[Candidates]:
        """The most frequent answer, or none where that is."""
        counts = Counter(row.answers[0].text if row.answers else "" for row in known)
        none = counts.pop("", 0)
        text, count = counts.most_common(1)[0]
        answer = Candidates((Span(text, 0, len(text), float(count)),), float(none))
        return [answer] * len(rows)

    def findings(
        self,
        rows: Sequence[Question],
        encoded: Encoded,
        answers: Sequence[Candidates],
        data: LabelledDataConfig,
    ) -> list[Section]:
        """Calibration, the most confident wrong answers, exact matches by length."""
        from bert_jax.tasks import findings  # draws, which a prediction need not wait for

        said = []
        may_be_none = not all(row.answers for row in rows)  # as in the metrics
        rules = span_scores.RULES[data.answer_rules]
        for row, answer in zip(rows, answers, strict=True):
            ranked = answer.ranked(may_be_none=may_be_none)
            right = tuple(dict.fromkeys(answer.text for answer in row.answers))
            exact, _ = span_scores.score(ranked[0].text, right, rules, with_none=may_be_none)
            said.append(
                findings.Said(
                    LabelledText(row.context, row.question, "", row.where),
                    " / ".join(right) or NOT_DEFINED,
                    ranked[0].text or NOT_DEFINED,
                    exact == 1,
                    float(_chances(ranked)[0]),
                )
            )
        return findings.of_spans(said, self._lengths(rows, encoded))

    def files(self, rows: Sequence[Question], answers: Sequence[Candidates]) -> dict[str, str]:
        """What the official scripts read: answers by id, and with questions that have none
        how much likelier that is than the answer."""
        may_be_none = not all(row.answers for row in rows)
        found = {
            row.id: answer.best(may_be_none=may_be_none).text
            for row, answer in zip(rows, answers, strict=True)
        }
        margins = {row.id: answer.margin for row, answer in zip(rows, answers, strict=True)}
        files = {PREDICTIONS: found} | ({MARGINS: margins} if may_be_none else {})
        return {name: json.dumps(said, ensure_ascii=False) for name, said in files.items()}

    def row_of(self, text: Text) -> Question:
        """The text is the context, its pair the question; InputError where there is none."""
        if not text.pair.strip():
            raise InputError(f"{text.where} has no question: give --pair or --pair_field.")
        return Question("", text.text, text.pair, (), text.where)

    def shown(self, row: Question, answer: Candidates) -> dict[str, Any]:
        """The best answer and where it stands, in characters; then the best SHOWN of them.

        "" is none, where training had questions without. The probability is the share among
        the candidates, as the original has it.
        """
        ranked = answer.ranked(may_be_none=NONE in self.labels)
        best = [
            {"answer": s.text, "start": s.start, "end": s.end, "probability": float(chance)}
            for s, chance in zip(ranked[:SHOWN], _chances(ranked), strict=False)
        ]
        return {"text": row.context, "pair": row.question, **best[0], "best": best}

    def _lengths(self, rows: Sequence[Question], encoded: Encoded) -> Int[np.ndarray, "N"]:
        """Tokens of every row before anything is cut, special ones included."""
        found = np.zeros(len(rows), np.int64)
        for example in encoded.examples:
            # Of a further window only the pieces that the one before has not.
            shared = min(self.overlap, (self.max_length - example.first - 1) // 2)
            more = len(example.offsets) - shared
            found[example.row] += more if found[example.row] else example.length
        for row, tokens in encoded.cut.items():
            found[row] = tokens
        return found


def _chances(ranked: Sequence[Span]) -> Float[np.ndarray, "N"]:
    """The share of each among all."""
    chances = np.exp(np.array([span.score for span in ranked]) - ranked[0].score)
    return chances / chances.sum()

# SPDX-License-Identifier: Apache-2.0
"""A conversation with a model: what was said, what it took, what it cost.

In: questions. Out: answers, piece by piece, and an account of each.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from beffroi.cli.client import Failure
from beffroi.cli.show import duration
from beffroi.cli.web import Gateway
from beffroi.core.money import show as show_money
from beffroi.core.price import Price, Tokens, cost_of, price_at
from beffroi.wire.openai.answer import read_usage


@dataclass
class Account:
    """What answers took.

    Attributes:
        cost: nano-units by currency, of the answers whose price is known.
        unpriced: answers whose price is not known.
        first: seconds until the first piece of the last answer; None: it had none.
        seconds: of the last answer, from its first piece to its end.
    """

    answers: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    cost: dict[str, int] = field(default_factory=dict)
    unpriced: int = 0
    first: float | None = None
    seconds: float = 0.0

    def add(self, other: "Account") -> None:
        """Take up another's counts."""
        one, two = self.tokens, other.tokens
        self.answers += other.answers
        self.tokens = Tokens(
            one.input + two.input, one.cached + two.cached, one.output + two.output, one.reasoning + two.reasoning
        )
        for currency, nano in other.cost.items():
            self.cost[currency] = self.cost.get(currency, 0) + nano
        self.unpriced += other.unpriced

    def line(self) -> str:
        """In one line: tokens, money where it is known, time."""
        if not self.answers:
            return "no count of tokens came with it"
        parts = [f"{self.tokens.input + self.tokens.cached} tokens in, {self.tokens.completion} out"]
        if self.tokens.reasoning:
            parts[0] += f" ({self.tokens.reasoning} of them reasoning)"
        parts += [show_money(nano, currency) for currency, nano in self.cost.items()]
        if self.first is not None:
            parts.append(f"first after {duration(self.first)}")
            if self.seconds > 0 and self.tokens.completion > 1:
                parts.append(f"{(self.tokens.completion - 1) / self.seconds:,.0f} tokens/s")
        return " · ".join(parts)

    def document(self) -> dict[str, Any]:
        """For programs."""
        tokens = {"input": self.tokens.input, "cached": self.tokens.cached, "output": self.tokens.output}
        tokens["reasoning"] = self.tokens.reasoning
        cost = [{"amount": show_money(nano, "").strip(), "currency": currency} for currency, nano in self.cost.items()]
        first = None if self.first is None else round(self.first, 6)
        return {"tokens": tokens, "cost": cost, "first_token_seconds": first}


@dataclass
class Talk:
    """One conversation.

    Attributes:
        prices: price lists by model name; empty: nothing is known of money.
        last, total: accounts of the last answer and of all.
    """

    gateway: Gateway
    model: str
    prices: Mapping[str, tuple[Price, ...]]
    system: str = ""
    max_tokens: int | None = None
    said: list[dict[str, str]] = field(default_factory=list)
    last: Account = field(default_factory=Account)
    total: Account = field(default_factory=Account)

    def clear(self) -> None:
        """Forget what was said; the system prompt stays."""
        self.said.clear()

    def ask(self, question: str) -> Iterator[tuple[str, str]]:
        """Ask; → pieces of the answer, each `("text", …)` or `("thought", …)`.

        What was answered until an interruption stays in the conversation; a question that failed does not.

        Raises:
            Failure: the gateway refused, or the stream broke.
        """
        body: dict[str, Any] = {"model": self.model, "messages": self._messages(question), "stream": True}
        body["stream_options"] = {"include_usage": True}
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        self.last = Account()
        answer: list[str] = []
        began, ended = time.monotonic(), False
        try:
            for event in self.gateway.stream("/chat/completions", body):
                for kind, piece in _pieces(event):
                    if self.last.first is None:
                        self.last.first = time.monotonic() - began
                    if kind == "text":
                        answer.append(piece)
                    yield kind, piece
                self._account(event)
            ended = True
        finally:
            if self.last.first is not None:
                self.last.seconds = time.monotonic() - began - self.last.first
            if answer or ended:
                self.said += [{"role": "user", "content": question}, {"role": "assistant", "content": "".join(answer)}]
            self.total.add(self.last)

    def _messages(self, question: str) -> list[dict[str, str]]:
        head = [{"role": "system", "content": self.system}] if self.system else []
        return [*head, *self.said, {"role": "user", "content": question}]

    def _account(self, event: dict[str, Any]) -> None:
        usage = read_usage(event.get("usage"))
        if usage is None:
            return
        self.last.answers, self.last.tokens = 1, usage.tokens
        listed = self.prices.get(self.model)
        if listed is None:
            self.last.unpriced = 1
            return
        price = price_at(listed, int(time.time()))
        self.last.cost = {price.currency: cost_of(usage.tokens, price).total}


def _pieces(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if error := event.get("error"):
        said = error.get("message") if isinstance(error, dict) else error
        raise Failure(f"the answer broke off: {said}")
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        if thought := delta.get("reasoning_content"):
            yield "thought", str(thought)
        if text := delta.get("content"):
            yield "text", str(text)

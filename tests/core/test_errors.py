# SPDX-License-Identifier: Apache-2.0
"""Every error says how it leaves the house, and the tree drawn at the top of the module is the tree."""

import inspect
import re

import pytest

from beffroi.core import errors
from beffroi.core.errors import (
    BeffroiError,
    BudgetExceeded,
    EngineRejected,
    InternalError,
    LimitExceeded,
    MethodNotAllowed,
)


def _classes(root: type[BeffroiError] = BeffroiError) -> list[type[BeffroiError]]:
    below = [each for each in root.__subclasses__() if each.__module__ == errors.__name__]
    return [root, *(deep for each in below for deep in _classes(each))]


CLASSES = _classes()


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.__name__)
def test_every_error_has_a_status_a_type_and_a_code(error: type[BeffroiError]) -> None:
    """What an envelope in any API family needs; only the two broad roots have no code of their own."""
    assert 400 <= error.status <= 599
    assert re.fullmatch(r"[a-z_]+_error", error.type)
    assert error.code is None or re.fullmatch(r"[a-z0-9_]+", error.code)
    assert error.code is not None or error in (BeffroiError, errors.BadRequest)
    assert error.__doc__


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.__name__)
def test_the_drawn_tree_shows_every_error_with_its_status(error: type[BeffroiError]) -> None:
    """A status left out of the drawing is the parent's."""
    line = next(line for line in (errors.__doc__ or "").splitlines() if re.search(rf"\b{error.__name__}\b", line))
    drawn = re.search(r"\b([45]\d\d)\b", line)
    if drawn:
        assert int(drawn[1]) == error.status
    depth = len(inspect.getmro(error)) - len(inspect.getmro(BeffroiError))
    assert line.index(error.__name__) == 4 + 4 * depth


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.__name__)
def test_only_what_can_succeed_later_is_retryable(error: type[BeffroiError]) -> None:
    """The request's own faults are not; limits and engines' failures are."""
    assert error.retryable == (error.status in (429, 502, 503, 504))


def test_no_code_is_used_twice() -> None:
    """A client can act on the code alone."""
    codes = [each.code for each in CLASSES if each.code]
    assert len(codes) == len(set(codes))


def test_only_a_fault_of_ours_hides_its_text() -> None:
    """All others are written for the person who reads them."""
    assert [each for each in CLASSES if not each.exposable] == [InternalError]


def test_an_error_carries_what_its_reader_needs() -> None:
    """Message, parameter, retry time, limit, methods, the engine's status."""
    limit = LimitExceeded("slow down", limit="requests_per_minute", retry_after=1.5, requests=(10, 0, 61))
    assert (limit.message, limit.limit, limit.retry_after, limit.requests) == (
        "slow down",
        "requests_per_minute",
        1.5,
        (10, 0, 61),
    )
    assert BudgetExceeded("empty", limit="hard_budget", retry_after=1.0).requests is None
    assert MethodNotAllowed("no", allow="GET").allow == "GET"
    assert EngineRejected("bad", status=422, param="n").engine_status == 422
    assert str(BeffroiError("told")) == "told"

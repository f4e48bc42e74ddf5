# SPDX-License-Identifier: Apache-2.0
"""Estimates start from one token per four characters, learn per model, and err low where somebody pays for them."""

import random

from hypothesis import given
from hypothesis import strategies as st

from beffroi.gateway.quota.estimate import MODELS, Estimator


def test_before_anything_is_learned_a_token_is_four_characters() -> None:
    """The source's rule: 26 characters are 6 tokens."""
    estimator = Estimator()
    assert estimator.expect("m", 26, 200) == (6, 200)
    assert estimator.expect("m", 0, 0) == (0, 0)


def test_the_input_follows_what_the_engine_reports_model_by_model() -> None:
    """A tokenizer of one token per two bytes beside one of eight."""
    estimator = Estimator()
    for _ in range(200):
        estimator.learn("dense", 1000, 500, 10)
        estimator.learn("light", 1000, 125, 10)
    assert estimator.expect("dense", 1000, 10)[0] == 500
    assert estimator.expect("light", 1000, 10)[0] == 125
    assert estimator.expect("other", 1000, 10)[0] == 250


def test_nine_in_ten_answers_stay_below_the_expected_output() -> None:
    """About: the estimate moves by steps."""
    estimator, draw = Estimator(), random.Random(5)
    lengths = [int(draw.lognormvariate(5, 1)) for _ in range(6000)]
    below = 0
    for length in lengths:
        below += length <= estimator.expect("m", 100, 10**9)[1]
        estimator.learn("m", 100, 25, length)
    assert 0.86 < below / len(lengths) < 0.94


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=30))
def test_no_output_is_expected_beyond_its_bound_whatever_engines_report(reports: list[tuple[int, int, int]]) -> None:
    """Zeros and nonsense included."""
    estimator = Estimator()
    for report in reports:
        estimator.learn("m", *report)
    for bound in (0, 1, 50, 10**6):
        tokens, output = estimator.expect("m", 1000, bound)
        assert tokens >= 0
        assert 0 <= output <= bound


def test_a_cut_stream_is_billed_no_more_input_than_any_recent_answer_would_have_had() -> None:
    """The lowest ratio of late, so that nobody pays for tokens that no engine saw."""
    estimator, draw = Estimator(), random.Random(6)
    assert estimator.lowest_input("m", 10_000) == 0
    for _ in range(300):
        size = draw.randrange(100, 10_000)
        tokens = int(size * draw.uniform(0.15, 0.4)) + 1
        estimator.learn("m", size, tokens, 10)
        assert estimator.lowest_input("m", size) <= tokens
    assert estimator.lowest_input("m", 10_000) < 2_200


def test_the_lowest_ratio_forgets_an_odd_request_in_time() -> None:
    """A body full of blanks does not make the input of cut streams free for ever."""
    estimator = Estimator()
    for _ in range(50):
        estimator.learn("m", 1000, 250, 10)
    estimator.learn("m", 1_000_000, 10, 10)
    assert estimator.lowest_input("m", 1000) == 0
    for _ in range(2000):
        estimator.learn("m", 1000, 250, 10)
    assert estimator.lowest_input("m", 1000) > 200


def test_the_number_of_models_is_bounded() -> None:
    """The oldest makes room."""
    estimator = Estimator()
    for number in range(MODELS + 10):
        estimator.learn(f"m{number}", 100, 50, 10)
    assert len(estimator._models) == MODELS
    assert estimator.expect("m0", 100, 10)[0] == 25
    assert estimator.expect(f"m{MODELS + 9}", 100, 10)[0] == 50

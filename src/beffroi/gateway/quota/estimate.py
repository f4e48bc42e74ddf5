# SPDX-License-Identifier: Apache-2.0
"""How many tokens a request will take, learned per model from what engines reported.

In: bytes of a body, the bound on its output, and later the engine's counts. Out: estimates, never used for a bill that
an engine's count could settle. Until a model has taught us better, one token is four characters.
"""

START_RATIO = 0.25
START_OUTPUT = 256.0
RATIO_WEIGHT = 0.05
LOWEST_DRIFT = 0.002
OUTPUT_QUANTILE = 0.9
OUTPUT_STEP = 0.05
MODELS = 4096


class InputRatio:
    """Tokens per byte of one model: a moving average, and the lowest ratio of late.

    The lowest follows a lower ratio at once and drifts back up to the average slowly (half the way in 350 requests).
    """

    __slots__ = ("average", "learned", "lowest", "output")

    def __init__(self) -> None:
        self.average = START_RATIO
        self.lowest = 0.0
        self.output = START_OUTPUT  # about the 90th percentile
        self.learned = False


class Estimator:
    """Estimates for all models of one process. Each model takes about 200 bytes; the 4,097th pushes out the oldest."""

    __slots__ = ("_models",)

    def __init__(self) -> None:
        self._models: dict[str, InputRatio] = {}

    def expect(self, model: str, body_bytes: int, max_tokens: int) -> tuple[int, int]:
        """Expected input and output tokens; the output is at most `max_tokens`."""
        known = self._models.get(model)
        if known is None:
            return body_bytes // 4, min(int(START_OUTPUT), max_tokens)
        return int(body_bytes * known.average), min(int(known.output), max_tokens)

    def lowest_input(self, model: str, body_bytes: int) -> int:
        """Input tokens that the engine would very likely have reported at least: the bill of a stream that was cut.

        Nothing is known of a model before its first complete answer, so nothing is billed.
        """
        known = self._models.get(model)
        return 0 if known is None else int(body_bytes * known.lowest)

    def learn(self, model: str, body_bytes: int, input_tokens: int, output_tokens: int) -> None:
        """Take in what an engine reported for a request that it answered in full."""
        known = self._models.get(model)
        if known is None:
            known = self._new(model)
        if body_bytes > 0 and input_tokens > 0:
            ratio = input_tokens / body_bytes
            if known.learned:
                known.average += (ratio - known.average) * RATIO_WEIGHT
                if ratio < known.lowest:
                    known.lowest = ratio
                else:
                    known.lowest += (known.average - known.lowest) * LOWEST_DRIFT
            else:
                known.average = known.lowest = ratio
                known.learned = True
        # A quantile by steps: up by 0.9, down by 0.1, so it rests where nine in ten are below.
        step = OUTPUT_STEP * known.output + 1.0
        if output_tokens > known.output:
            known.output += OUTPUT_QUANTILE * step
        elif known.output > 1.0:
            known.output -= (1.0 - OUTPUT_QUANTILE) * step

    def _new(self, model: str) -> InputRatio:
        if len(self._models) >= MODELS:
            del self._models[next(iter(self._models))]
        known = self._models[model] = InputRatio()
        return known

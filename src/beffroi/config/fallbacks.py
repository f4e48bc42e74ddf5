# SPDX-License-Identifier: Apache-2.0
"""Which models may stand in for a model: others that are there, each once, priced in the same money.

In: a model's list and all models. Out: what is wrong with each entry.
Only the list of the model that was asked for counts, not the lists of those on it: a chain ends where it is written to
end, and two models may stand in for each other.
"""

from collections.abc import Iterator, Mapping, Sequence

from beffroi.core.snapshot import ModelSpec

MOST = 4


def faults(
    model: str, fallbacks: Sequence[str], models: Mapping[str, ModelSpec], names: Mapping[str, str]
) -> Iterator[tuple[int, str]]:
    """The place in the list, and what is wrong there.

    Args:
        names: every id and alias, with the id it stands for.
    """
    for number, name in enumerate(fallbacks):
        if name == model:
            yield number, "a model cannot stand in for itself"
        elif name in names and name not in models:
            yield number, f"`{name}` is another name of `{names[name]}`; write the id"
        elif name not in models:
            yield number, f"there is no model `{name}`; there are {', '.join(f'`{one}`' for one in models)}"
        elif name in fallbacks[:number]:
            yield number, "stands twice in this list"
        elif number >= MOST:
            yield number, f"is one too many: a model has {MOST} fallbacks at most"
        elif (theirs := _currency(models[name])) != (ours := _currency(models[model])) and theirs and ours:
            yield number, f"is priced in {theirs}, and `{model}` in {ours}: one request has one currency"


def _currency(model: ModelSpec) -> str:
    return model.prices[0].currency if model.prices else ""

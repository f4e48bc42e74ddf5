# SPDX-License-Identifier: Apache-2.0
"""Which models may stand in for a model: others that are there, each once, priced in the same money.

In: a model's list and all models. Out: what is wrong with each entry, and the remedy.
Only the list of the model that was asked for counts, not the lists of those on it: a chain ends where it is written to
end, and two models may stand in for each other.
"""

from collections.abc import Iterator, Mapping, Sequence

from beffroi.config.reader import nearest
from beffroi.core.snapshot import ModelSpec

MOST = 4


def faults(
    model: str, fallbacks: Sequence[str], models: Mapping[str, ModelSpec], names: Mapping[str, str]
) -> Iterator[tuple[int, str, str]]:
    """The place in the list, what is wrong there, and what to do.

    Args:
        names: every id and alias, with the id it stands for.
    """
    for number, name in enumerate(fallbacks):
        if name == model:
            yield number, "a model cannot stand in for itself", "name another model, or take it out"
        elif name in names and name not in models:
            yield number, f"`{name}` is another name of `{names[name]}`", f"write {names[name]}"
        elif name not in models:
            known = ", ".join(f"`{one}`" for one in models)
            near = nearest(name, models)
            yield (
                number,
                f"there is no model `{name}`; there are {known}",
                f"did you mean `{near[0]}`?" if near else "name one of them, or add it under resources.models",
            )
        elif name in fallbacks[:number]:
            yield number, "stands twice in this list", "keep one of them"
        elif number >= MOST:
            yield number, f"is one too many: a model has {MOST} fallbacks at most", f"keep the first {MOST}"
        elif (theirs := _currency(models[name])) != (ours := _currency(models[model])) and theirs and ours:
            yield (
                number,
                f"is priced in {theirs}, and `{model}` in {ours}",
                "price both in one currency: a request has one",
            )


def _currency(model: ModelSpec) -> str:
    return model.prices[0].currency if model.prices else ""

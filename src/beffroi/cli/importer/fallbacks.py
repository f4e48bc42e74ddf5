# SPDX-License-Identifier: Apache-2.0
"""LiteLLM's fallbacks: lists by model, and one for all that have none of their own.

In: its settings, and the models that were converted. Out: `fallbacks` of models, and lines in the report.
"""

from typing import Any

from beffroi.cli.importer.draft import Draft
from beffroi.cli.importer.reading import Part
from beffroi.cli.importer.report import Report
from beffroi.config.fallbacks import MOST

ALL = "*"
_WHEN = "once its own engines have failed"


class Fallbacks:
    """Gathers both kinds from wherever they stand; `settle` writes them."""

    def __init__(self, draft: Draft, report: Report) -> None:
        self._draft, self._report = draft, report
        self._for_all: tuple[Part, str, list[Any]] | None = None

    def read(self, part: Part) -> None:
        """`fallbacks` and `default_fallbacks` of one section."""
        told = part.take("fallbacks") or []
        for entry in told if isinstance(told, list) else [told]:
            for name, others in entry.items() if isinstance(entry, dict) else []:
                listed = others if isinstance(others, list) else [others]
                if name == ALL:
                    self._for_all = (part, "fallbacks", listed)
                else:
                    self._one(part, str(name), listed)
        default = part.take("default_fallbacks")
        if default:
            self._for_all = (part, "default_fallbacks", default if isinstance(default, list) else [default])

    def settle(self) -> None:
        """Models without a list of their own get the one for all."""
        if self._for_all is not None:
            part, name, listed = self._for_all
            others = self._known(part, name, listed)
            for model in self._draft.models.values():
                if not model.fallbacks:
                    model.fallbacks = [other for other in others if self._fits(model.id, other)][:MOST]
            if others:
                self._report.converted(
                    part, name, message=f"models without fallbacks of their own: {', '.join(others)}, {_WHEN}"
                )
        if any(model.fallbacks for model in self._draft.models.values()):
            self._report.note(
                "Another model takes over when engines fail, not when the request is at fault; and only for keys that may"
                " use that model too (`beffroi keys create NAME --model …`)."
            )

    def _one(self, part: Part, name: str, listed: list[Any]) -> None:
        model = self._draft.names.get(name)
        if model is None:
            self._report.left(part, "fallbacks", message=f"of `{name}`, which was not converted")
            return
        others = [other for other in self._known(part, "fallbacks", listed) if other != model]
        fit = [other for other in others if self._fits(model, other)]
        if fit:
            self._draft.models[model].fallbacks = fit[:MOST]
            shown = ", ".join(fit[:MOST])
            self._report.converted(part, "fallbacks", message=f"{model}: {shown}, {_WHEN}")
        if len(fit) < len(others) or len(fit) > MOST:
            self._report.left(
                part,
                "fallbacks",
                message=f"{model}: a model falls back on {MOST} others at most, which serve the same endpoints; the rest is left out",
            )

    def _known(self, part: Part, name: str, listed: list[Any]) -> list[str]:
        """The ids of those that were converted, each once; the others are told."""
        names = [str(one.get("model")) if isinstance(one, dict) else str(one) for one in listed]
        gone = [one for one in names if one not in self._draft.names]
        if gone:
            self._report.left(part, name, message=f"not converted, so nothing falls back on {', '.join(gone)}")
        return list(dict.fromkeys(self._draft.names[one] for one in names if one not in gone))

    def _fits(self, model: str, other: str) -> bool:
        """Another model that serves the same."""
        one, two = self._draft.models[model], self._draft.models[other]
        return model != other and one.fields.get("endpoints") == two.fields.get("endpoints")

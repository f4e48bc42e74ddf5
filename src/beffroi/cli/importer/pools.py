# SPDX-License-Identifier: Apache-2.0
"""What the importers share: one deployment after another becomes an entry of a pool, a secret, a price, a time-out.

In: parts of the file that is read. Out: a `Draft` that grows, and a `Report` of what became of each part.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from beffroi.cli.importer.draft import PLACEHOLDERS, Draft, Model, Secret, amount, seconds, tidy
from beffroi.cli.importer.engines import Address, Foreign, address_of
from beffroi.cli.importer.reading import Part
from beffroi.cli.importer.report import Report

_NAME = re.compile(r"[!-~]{1,200}")


class Time(NamedTuple):
    """A time-out that the file tells, and where; `whole`: it holds for all models."""

    part: Part
    name: str
    seconds: float
    whole: bool


class Pools:
    """The work that does not depend on whose file it is."""

    def __init__(self, currency: str, environ: Mapping[str, str]) -> None:
        self.draft = Draft(currency)
        self.report = Report()
        self.environ = environ
        self._times: dict[str, list[Time]] = {}
        self._unpriced: list[str] = []

    def usable_name(self, part: Part, name: str | None, *where: str | int) -> bool:
        """Whether a name can be a model's or an alias in Beffroi; what is wrong with it goes into the report."""
        if name is None:
            self.report.left(part, message="it has no name")
        elif "*" in name:
            self.report.left(
                part,
                *where,
                message=f"`{name}` stands for any name; Beffroi serves the models it is told",
                advice="write each name that clients use, as a model or under `aliases`",
            )
        elif not _NAME.fullmatch(name):
            self.report.left(
                part,
                *where,
                message=f"`{name}` cannot be a name: Beffroi takes up to 200 visible ASCII characters without spaces",
                advice="choose another name",
            )
        else:
            return True
        return False

    def address(self, part: Part, name: str, prefix: str, base: str | None) -> Address | None:
        """Where a deployment of the model `name` is; None, and a line in the report, when it is nowhere of ours."""
        try:
            return address_of(prefix, base)
        except Foreign as error:
            self.report.left(part, message=f"{name}: {error}", advice=error.advice)
            return None

    def secret(self, part: Part, name: str, variable: str | None, text: str | None) -> Secret | None:
        """The key of an engine: from the environment where a variable is told, else its text; None for a placeholder."""
        if variable:
            if not self.environ.get(variable):
                self.report.note(f"Set {variable} in the environment of `beffroi serve`; it is not set here.")
            return Secret(variable=variable)
        if text is None:
            return None
        if text.lower() in PLACEHOLDERS:
            self.report.otherwise(part, name, message="a placeholder: no key is sent to the engine")
            return None
        if not _NAME.fullmatch(text) or len(text) > 4096:
            self.report.left(
                part,
                name,
                message="the key is not one line of visible ASCII characters (it is not shown here)",
                advice="write it into a file and name that as `api_key: file:PATH`",
            )
            return None
        self.report.converted(
            part, name, message="the key stands in a file of its own (0600) beside the configuration, not in it"
        )
        self.report.note("Keys of engines still stand in the file that was read: take them out of it, or delete it.")
        return Secret(text=text)

    def deploy(self, part: Part, name: str, upstream: str, address: Address, secret: Secret | None) -> Model | None:
        """Put an engine into the pool of the model `name`; None when it stands there already for another model of its own."""
        model = self.draft.models.setdefault(name, Model(name))
        self.draft.names.setdefault(name, name)
        engine = self.draft.engine(address, secret).name
        known = model.targets.get(engine)
        if known == upstream:
            self.report.otherwise(part, message=f"{name}: `{engine}` is in its pool already")
            return model
        if known is not None:
            self.report.left(
                part,
                message=f"{name}: `{engine}` is in its pool already, as `{known}`; one engine stands there once",
                advice=f"give `{upstream}` a model of its own",
            )
            return None
        model.targets[engine] = upstream
        called = "" if upstream == name else f", called `{upstream}` there"
        remark = f"; {address.remark}" if address.remark else ""
        self.report.converted(part, message=f"{name}: engine `{engine}` at {address.url}{called}{remark}")
        return model

    def alias(self, part: Part, alias: str, target: str, *where: str | int) -> None:
        """Another name for a model."""
        model = self.draft.names.get(target)
        if not self.usable_name(part, alias, *where):
            return
        if model is None:
            self.report.left(part, *where, message=f"`{alias}` stood for `{target}`, which was not converted")
        elif self.draft.names.get(alias) == model:
            self.report.otherwise(part, *where, message=f"`{alias}` is a name of that model already")
        elif alias in self.draft.names:
            self.report.left(part, *where, message=f"`{alias}` names the model `{self.draft.names[alias]}` already")
        else:
            self.draft.names[alias] = model
            self.draft.models[model].aliases.append(alias)
            self.report.converted(part, *where, message=f"`{alias}` is another name of `{model}`")

    def price(self, prices: dict[str, tuple[Part, str, Any]], times: int) -> dict[str, Decimal]:
        """Amounts per million tokens by class, of what the file says per token (`times` a million) or per million."""
        found: dict[str, Decimal] = {}
        for kind, (where, name, value) in prices.items():
            try:
                found[kind] = amount(value, times)
            except ValueError as error:
                self.report.left(where, name, message=str(error), advice="write it under `prices` by hand")
        return found

    def settle_prices(self, parts: dict[str, Part]) -> None:
        """One price per model: of deployments that differ, the dearest of each class."""
        for model in self.draft.models.values():
            part = parts[model.id]
            told = [price for price in model.prices if price]
            kinds = dict.fromkeys(kind for price in told for kind in price)
            dearest = {kind: max(price.get(kind, Decimal(0)) for price in told) for kind in kinds}
            if any(price != dearest for price in told):
                self.report.left(
                    part,
                    message=f"{model.id}: its deployments have different prices; Beffroi has one per model, the dearest was taken",
                    advice="give deployments of another price a model of their own",
                )
            model.prices = [dearest] if dearest else []
            if not dearest:
                self._unpriced.append(model.id)
            elif any(dearest.values()):
                shown = ", ".join(f"{kind} {value.normalize():f}" for kind, value in dearest.items())
                self.report.converted(part, message=f"{model.id}: {self.draft.currency} per million tokens: {shown}")

    def time(self, setting: str, part: Part, name: str, *, whole: bool) -> None:
        """Remember a time-out that stands for Beffroi's `setting`."""
        value = part.take(name)
        if value is None:
            return
        found = seconds(value)
        if found is None:
            self.report.left(part, name, message="is not a number of seconds above zero")
        else:
            self._times.setdefault(setting, []).append(Time(part, name, found, whole))

    def settle_times(self) -> None:
        """One time-out for all models: the one that held for all, else the longest."""
        for setting, times in self._times.items():
            whole = [time.seconds for time in times if time.whole]
            chosen = whole[0] if whole else max(time.seconds for time in times)
            self.draft.gateway[setting] = tidy(chosen)
            for time in times:
                if time.seconds == chosen:
                    self.report.converted(
                        time.part, time.name, message=f"gateway.{setting}: {tidy(chosen)} s, for all models"
                    )
                else:
                    self.report.left(
                        time.part,
                        time.name,
                        message=f"Beffroi has one `gateway.{setting}` for all models; it is {tidy(chosen)} s now",
                    )

    def finish(self, without_price: str) -> None:
        """The last words, once all parts were read."""
        self.draft.drop_idle()
        free = [name for name in self._unpriced if name in self.draft.models]
        if free:
            self.report.note(f"Without a price, and so free: {', '.join(free)}. {without_price}")

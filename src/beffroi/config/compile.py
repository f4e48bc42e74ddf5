# SPDX-License-Identifier: Apache-2.0
"""From a configuration to the config part of the snapshot: names resolved, clashes refused, prices in nano-units.

In: one `Source` or more (a file, and what start-up found). Out: a `core.snapshot.Config`, or `Invalid`.
"""

import datetime
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from beffroi.config import schema
from beffroi.config.checks import check_authority, check_gateway, zone_of
from beffroi.config.fallbacks import faults
from beffroi.config.load import EMPTY, Invalid, Place, Problem, Source, dotted
from beffroi.config.reader import nearest
from beffroi.config.secrets import Unreadable, look_up
from beffroi.core import snapshot
from beffroi.core.money import parse_nano
from beffroi.core.price import Price

_URL = re.compile(
    r"(?:https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?(?:/[A-Za-z0-9._~/-]*)?|unix:/[^\s?#]+)"
)
_NAME = re.compile(r"[!-~]+")  # what fits in a header and in a JSON path without quoting
_VISIBLE = "must be visible ASCII characters without spaces"
_RENAME = "write letters, figures and signs such as - . / : without spaces or accents"


def compile_config(
    sources: Sequence[Source], revision: int, environ: Mapping[str, str] = os.environ
) -> snapshot.Config:
    """One config of all sources; settings come from the first, resources from each in turn.

    Args:
        revision: the number the result carries.
        environ: where `env:NAME` references are looked up.

    Raises:
        Invalid: with every fault of every source.
    """
    compiled = compile_all(sources, revision, environ)
    if compiled.problems:
        raise Invalid(compiled.problems)
    return compiled.config


class Compiled(NamedTuple):
    """A config, which has stand-ins where there are faults."""

    config: snapshot.Config
    problems: list[Problem]


def compile_all(
    sources: Sequence[Source], revision: int, environ: Mapping[str, str], *, more: bool = False
) -> Compiled:
    """As `compile_config`, with the faults beside the config.

    Args:
        more: other engines may join later, so that one which is not there is no fault yet.
    """
    settings = sources[0].document.gateway
    compiler = _Compiler(zone_of(settings.time_zone) or datetime.UTC, environ, more=more)
    for source in sources:
        compiler.engines_of(source)
    for source in sources:
        compiler.models_of(source)
    for source in sources:
        compiler.fallbacks_of(source)
    config = snapshot.Config(revision, settings, tuple(compiler.engines.values()), tuple(compiler.models.values()))
    return Compiled(config, [*check_gateway(sources[0]), *compiler.problems])


class _Compiler:
    def __init__(self, zone: datetime.tzinfo, environ: Mapping[str, str], *, more: bool) -> None:
        self.engines: dict[str, snapshot.EngineSpec] = {}
        self.models: dict[str, snapshot.ModelSpec] = {}
        self.problems: list[Problem] = []
        self._names: dict[str, str] = {}  # model id or alias → model id
        self._versions: set[str] = set()
        self._source = EMPTY
        self._environ = environ
        self._zone = zone
        self._more = more  # engines may exist that are not known here
        self._unsure = False  # models may exist whose ids are not known here

    def _fault(self, place: Place, message: str, remedy: str) -> None:
        if not self._source.broken.told(place):  # else it is told already
            self.problems.append(Problem(self._source.marks.value(place), dotted(place), message, remedy))

    def engines_of(self, source: Source) -> None:
        """Takes the engines of one source."""
        self._source = source
        self._more = self._more or _unsure(source)
        for index, engine in enumerate(source.document.resources.engines):
            place: Place = ("resources", "engines", index)
            if engine.name in self.engines:
                self._fault((*place, "name"), f"there is already an engine `{engine.name}`", "give each its own name")
                continue
            if not _NAME.fullmatch(engine.name):
                self._fault((*place, "name"), _VISIBLE, _RENAME)
            ca_file = None if engine.ca_file is None else str(source.base / engine.ca_file)
            if ca_file is not None and (fault := check_authority(ca_file)):
                self._fault((*place, "ca_file"), *fault)
            self.engines[engine.name] = snapshot.EngineSpec(
                name=engine.name,
                url=self._url(engine.url, (*place, "url")),
                kind=engine.kind,
                machine=engine.name if engine.machine is None else engine.machine,
                api_key=self._secret(engine.api_key, (*place, "api_key")),
                ca_file=ca_file,
            )

    def _url(self, text: str, place: Place) -> str:
        match = _URL.fullmatch(text)
        url = text.rstrip("/")
        if "@" in text:  # not repeated: what stands before the @ is a secret
            self._fault(place, "must not hold a name or a password", "write them as `api_key: env:NAME`")
        elif match is None or int(match[1] or 1) not in range(1, 65536):
            self._fault(
                place, f"`{text[:80]}` is no engine's URL", "write http://host:port, https://host:port or unix:/path"
            )
        elif url.endswith("/v1"):
            self._fault(place, "must not end in /v1, which Beffroi adds", f"leave `/v1` out: write {url[:-3]}")
        return url

    def _secret(self, reference: str | None, place: Place) -> str | None:
        """What an `env:` or `file:` reference names; no message ever shows what was found."""
        if reference is None:
            return None
        try:
            return look_up(reference, self._source.base, self._environ)
        except Unreadable as error:
            self._fault(place, error.message, error.remedy)
            return None

    def models_of(self, source: Source) -> None:
        """Takes the models of one source; every engine is known by now."""
        self._source = source
        for index, model in enumerate(source.document.resources.models):
            place: Place = ("resources", "models", index)
            self._claim(model.id, model.id, (*place, "id"))
            for number, alias in enumerate(model.aliases):
                self._claim(alias, model.id, (*place, "aliases", number))
            if model.max_output and model.max_model_len and model.max_output > model.max_model_len:
                self._fault(
                    (*place, "max_output"),
                    f"is more than max_model_len ({model.max_model_len})",
                    f"write at most {model.max_model_len}, or leave it out",
                )
            self.models[model.id] = snapshot.ModelSpec(
                id=model.id,
                targets=self._targets(model, place),
                aliases=tuple(model.aliases),
                owned_by=model.owned_by,
                created=model.created,
                max_model_len=model.max_model_len,
                max_output=model.max_output,
                default_max_tokens=model.default_max_tokens,
                endpoints=tuple(dict.fromkeys(model.endpoints)),
                prices=self._prices(model, place),
                fallbacks=tuple(model.fallbacks),
            )

    def fallbacks_of(self, source: Source) -> None:
        """Checks the fallbacks of one source; every model is known by now."""
        self._source = source
        self._unsure = self._unsure or _nameless(source)
        if self._unsure:
            return  # the id of some model is a stand-in: one that is not found may be that one
        for index, model in enumerate(source.document.resources.models):
            for number, message, remedy in faults(model.id, model.fallbacks, self.models, self._names):
                self._fault(("resources", "models", index, "fallbacks", number), message, remedy)

    def _claim(self, name: str, model: str, place: Place) -> None:
        if not _NAME.fullmatch(name):
            self._fault(place, _VISIBLE, _RENAME)
        elif name in self._names:
            self._fault(place, f"`{name}` already names the model `{self._names[name]}`", "give each its own name")
        else:
            self._names[name] = model

    def _targets(self, model: schema.Model, place: Place) -> tuple[snapshot.Target, ...]:
        if not model.targets and len(self.engines) == 1 and not self._more:
            return (snapshot.Target(next(iter(self.engines)), model.id),)
        if not model.targets and not self._more and self._source.broken.sound(*place, "targets"):
            why = f"there are {len(self.engines)} engines" if self.engines else "there is no engine"
            self._fault(
                place,
                f"`targets` is missing, and {why}",
                "name at least one engine that serves it: targets: [{engine: …}]",
            )
        targets: dict[str, snapshot.Target] = {}  # by engine: a pool knows a model of an engine by one name
        for index, entry in enumerate(model.targets):
            target = snapshot.Target(entry.engine, model.id if entry.model is None else entry.model)
            spot: Place = (*place, "targets", index)
            if entry.engine not in self.engines and not self._more:
                near = nearest(entry.engine, self.engines)
                known = ", ".join(f"`{name}`" for name in self.engines) or "none"
                self._fault(
                    (*spot, "engine"),
                    f"there is no engine `{entry.engine}`; there are {known}",
                    f"did you mean `{near[0]}`?" if near else "name one of them, or add it under resources.engines",
                )
            if entry.engine in targets and self._source.broken.sound(*spot):
                self._fault(spot, f"the engine `{entry.engine}` stands twice in this pool", "keep one of them")
            targets[entry.engine] = target
        return tuple(targets.values())

    def _prices(self, model: schema.Model, place: Place) -> tuple[Price, ...]:
        prices: list[Price] = []
        for index, entry in enumerate(model.prices):
            spot: Place = (*place, "prices", index)
            day = entry.effective
            effective = int(datetime.datetime.combine(day, datetime.time(), self._zone).timestamp()) if day else 0
            version = entry.version or f"{model.id}@{day.isoformat() if day else 'start'}"
            if any(price.effective == effective for price in prices) and self._source.broken.sound(*place):
                self._fault(
                    (*spot, "effective"),
                    "two prices of one model hold from the same day",
                    "give one of them another day in `effective`, or take it away",
                )
            elif version in self._versions and self._source.broken.sound(*place):
                self._fault(
                    (*spot, "version"), f"the version `{version}` stands for another price already", "name it otherwise"
                )
            self._versions.add(version)
            if prices and entry.currency != prices[0].currency:
                self._fault(
                    (*spot, "currency"),
                    f"one model has one currency; the first price is in {prices[0].currency}",
                    f"write {prices[0].currency}",
                )
            output = self._amount(entry.output, (*spot, "output"))
            prices.append(
                Price(
                    version=version,
                    effective=effective,
                    currency=entry.currency,
                    input=self._amount(entry.input, (*spot, "input")),
                    output=output,
                    reasoning=output
                    if entry.reasoning is None
                    else self._amount(entry.reasoning, (*spot, "reasoning")),
                    cached=None if entry.cached is None else self._amount(entry.cached, (*spot, "cached")),
                )
            )
        return tuple(sorted(prices, key=lambda price: price.effective))

    def _amount(self, value: schema.Amount, place: Place) -> int:
        try:
            return parse_nano(value)
        except ValueError as error:
            self._fault(place, str(error).partition(";")[0], "write an amount such as 0.9, or 0 for nothing")
            return 0


def _unsure(source: Source) -> bool:
    """Whether the name of some engine of this source is a stand-in: then one that is not found may be that one."""
    return any(
        len(one) < 2 or (one[:2] != ("resources", "models") and (len(one) < 4 or one[3:] == ("name",)))
        for one in source.broken.places
        if one[:1] in ((), ("resources",))
    )


def _nameless(source: Source) -> bool:
    """The same of a model's id."""
    return any(
        len(one) < 2 or (one[:2] == ("resources", "models") and (len(one) < 4 or one[3:] == ("id",)))
        for one in source.broken.places
        if one[:1] in ((), ("resources",))
    )

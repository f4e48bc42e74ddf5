# SPDX-License-Identifier: Apache-2.0
"""From a configuration to the config part of the snapshot: names resolved, clashes refused, prices in nano-units.

In: one `Source` or more (a file, and what start-up found). Out: a `core.snapshot.Config`, or `Invalid`.
"""

import datetime
import os
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path

from beffroi.config import schema
from beffroi.config.fallbacks import faults
from beffroi.config.load import Invalid, Place, Problem, Source, dotted
from beffroi.core import snapshot
from beffroi.core.money import parse_nano
from beffroi.core.price import Price

_URL = re.compile(
    r"(?:https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?(?:/[A-Za-z0-9._~/-]*)?|unix:/[^\s?#]+)"
)
_NAME = re.compile(r"[!-~]+")  # what fits in a header and in a JSON path without quoting
_ACTS = ("off", "annotate", "block")


def compile_config(
    sources: Sequence[Source], revision: int, environ: Mapping[str, str] = os.environ
) -> snapshot.Config:
    """One config of all sources; settings come from the first, resources from each in turn.

    Args:
        revision: the number the result carries.
        environ: where `env:NAME` references are looked up.

    Raises:
        Invalid: with the faults of the first source that has any.
    """
    settings = sources[0].document.gateway
    compiler = _Compiler(settings, environ)
    for source in sources:
        compiler.engines_of(source)
        compiler.finish(source)
    for source in sources:
        compiler.models_of(source)
        compiler.finish(source)
    for source in sources:
        compiler.fallbacks_of(source)
        compiler.finish(source)
    return snapshot.Config(revision, settings, tuple(compiler.engines.values()), tuple(compiler.models.values()))


class _Compiler:
    def __init__(self, settings: snapshot.Settings, environ: Mapping[str, str]) -> None:
        self.engines: dict[str, snapshot.EngineSpec] = {}
        self.models: dict[str, snapshot.ModelSpec] = {}
        self._names: dict[str, str] = {}  # model id or alias → model id
        self._versions: set[str] = set()
        self._faults: list[tuple[Place, str]] = []
        self._environ = environ
        self._settings = settings
        self._zone: datetime.tzinfo = datetime.UTC
        self._check_settings()

    def _fault(self, place: Place, message: str) -> None:
        self._faults.append((place, message))

    def finish(self, source: Source) -> None:
        """Raises Invalid if this source had faults."""
        if self._faults:
            raise Invalid(
                source.file, [Problem(source.line(place), dotted(place), text) for place, text in self._faults]
            )

    def _check_settings(self) -> None:
        settings = self._settings
        try:
            self._zone = zoneinfo.ZoneInfo(settings.time_zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            self._fault(
                ("gateway", "time_zone"), f"there is no zone `{settings.time_zone}`; write one such as Europe/Paris"
            )
        for index, proxy in enumerate(settings.trusted_proxies):
            try:
                ip_network(proxy)
            except ValueError as error:
                self._fault(("gateway", "trusted_proxies", index), f"is not an address or network: {error}")
        for feature, act in settings.guard.items():
            if act not in _ACTS:
                self._fault(("gateway", "guard", feature), f"must be one of {', '.join(_ACTS)}, not `{act}`")
        if settings.proxy_protocol and not settings.trusted_proxies:
            self._fault(
                ("gateway", "proxy_protocol"),
                "needs `gateway.trusted_proxies`: PROXY headers are believed from those only",
            )

    def engines_of(self, source: Source) -> None:
        """Takes the engines of one source."""
        for index, engine in enumerate(source.document.resources.engines):
            place: Place = ("resources", "engines", index)
            if engine.name in self.engines:
                self._fault((*place, "name"), f"there is already an engine `{engine.name}`")
                continue
            if not _NAME.fullmatch(engine.name):
                self._fault((*place, "name"), "must be visible ASCII characters without spaces")
            match = _URL.fullmatch(engine.url)
            url = engine.url.rstrip("/")
            if match is None or int(match[1] or 1) not in range(1, 65536):
                self._fault(
                    (*place, "url"),
                    f"`{engine.url}` is not of the form http://host:port, https://host:port or unix:/path",
                )
            elif url.endswith("/v1"):
                self._fault((*place, "url"), f"leave `/v1` out: write {url[:-3]}")
            ca_file = None if engine.ca_file is None else str(source.base / engine.ca_file)
            if ca_file is not None and not os.access(ca_file, os.R_OK):
                self._fault((*place, "ca_file"), f"cannot read {ca_file}")
            self.engines[engine.name] = snapshot.EngineSpec(
                name=engine.name,
                url=url,
                kind=engine.kind,
                machine=engine.name if engine.machine is None else engine.machine,
                api_key=self._secret(engine.api_key, (*place, "api_key"), source.base),
                ca_file=ca_file,
            )

    def _secret(self, reference: str | None, place: Place, base: Path) -> str | None:
        """What an `env:` or `file:` reference names; the message never shows what was found."""
        if reference is None:
            return None
        kind, _, name = reference.partition(":")
        value: str | None = None
        if kind == "env" and name:
            value = self._environ.get(name)
            missing = f"the environment has no {name}"
        elif kind == "file" and name:
            missing = f"cannot read {base / name}"
            try:
                value = (base / name).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError):
                value = None
        else:
            missing = "must be a reference, `env:NAME` or `file:PATH`; secrets do not belong in this file"
        if value is not None and not _NAME.fullmatch(value):
            value, missing = None, "what it names is not one line of visible ASCII characters"
        if value is None:
            self._fault(place, missing)
        return value

    def models_of(self, source: Source) -> None:
        """Takes the models of one source; every engine is known by now."""
        for index, model in enumerate(source.document.resources.models):
            place: Place = ("resources", "models", index)
            self._claim(model.id, model.id, (*place, "id"))
            for number, alias in enumerate(model.aliases):
                self._claim(alias, model.id, (*place, "aliases", number))
            if model.max_output and model.max_model_len and model.max_output > model.max_model_len:
                self._fault((*place, "max_output"), f"is more than max_model_len ({model.max_model_len})")
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
        for index, model in enumerate(source.document.resources.models):
            for number, message, remedy in faults(model.id, model.fallbacks, self.models, self._names):
                self._fault(("resources", "models", index, "fallbacks", number), f"{message}; {remedy}")

    def _claim(self, name: str, model: str, place: Place) -> None:
        if not _NAME.fullmatch(name):
            self._fault(place, "must be visible ASCII characters without spaces")
        elif name in self._names:
            self._fault(place, f"`{name}` already names the model `{self._names[name]}`")
        else:
            self._names[name] = model

    def _targets(self, model: schema.Model, place: Place) -> tuple[snapshot.Target, ...]:
        if not model.targets and len(self.engines) == 1:
            return (snapshot.Target(next(iter(self.engines)), model.id),)
        if not model.targets:
            why = f"there are {len(self.engines)} engines" if self.engines else "there is no engine"
            self._fault(place, f"`targets` is missing, and {why}: name at least one engine that serves it")
        targets: dict[snapshot.Target, None] = {}
        for index, entry in enumerate(model.targets):
            target = snapshot.Target(entry.engine, model.id if entry.model is None else entry.model)
            if entry.engine not in self.engines:
                known = ", ".join(f"`{name}`" for name in self.engines) or "none"
                self._fault(
                    (*place, "targets", index, "engine"), f"there is no engine `{entry.engine}`; there are {known}"
                )
            if target in targets:
                self._fault((*place, "targets", index), "stands twice in this pool")
            targets[target] = None
        return tuple(targets)

    def _prices(self, model: schema.Model, place: Place) -> tuple[Price, ...]:
        prices: list[Price] = []
        for index, entry in enumerate(model.prices):
            spot: Place = (*place, "prices", index)
            day = entry.effective
            effective = int(datetime.datetime.combine(day, datetime.time(), self._zone).timestamp()) if day else 0
            version = entry.version or f"{model.id}@{day.isoformat() if day else 'start'}"
            if any(price.effective == effective for price in prices):
                self._fault((*spot, "effective") if day else spot, "two prices of one model hold from the same day")
            if version in self._versions:
                self._fault((*spot, "version"), f"the version `{version}` stands for another price already")
            self._versions.add(version)
            if prices and entry.currency != prices[0].currency:
                self._fault(
                    (*spot, "currency"), f"one model has one currency; the first price is in {prices[0].currency}"
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
            self._fault(place, str(error))
            return 0

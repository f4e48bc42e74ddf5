# SPDX-License-Identifier: Apache-2.0
"""The configuration that is being made: engines without doubles, models with their pools, keys of engines apart.

In: what converters found. Out: the configuration as plain data, the texts of secrets beside it, and what `serve` needs.
"""

from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from beffroi.cli.importer.engines import Address
from beffroi.core.money import parse_nano

# What people write where an engine wants no key.
PLACEHOLDERS = frozenset(
    "none empty dummy fake fake-key na n/a null anything no-key not-needed not-used placeholder test token key x xx xxx"
    " ollama lm-studio vllm sk-dummy sk-none sk-no-key-required".split()
)


class Secret(NamedTuple):
    """A key of an engine: the name of an environment variable, or its text, which goes into a file of its own."""

    variable: str = ""
    text: str = ""


class Engine(NamedTuple):
    """One engine under its final name."""

    name: str
    address: Address
    secret: Secret | None


class Model:
    """One public model while its deployments are gathered."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.aliases: list[str] = []
        self.targets: dict[str, str] = {}  # engine → the name it knows the model by
        self.fields: dict[str, Any] = {}
        self.prices: list[dict[str, Decimal]] = []
        self.fallbacks: list[str] = []


class Draft:
    """A configuration in the making."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.engines: dict[tuple[str, str, Secret | None], Engine] = {}
        self.models: dict[str, Model] = {}
        self.names: dict[str, str] = {}  # model id or alias → model id
        self.gateway: dict[str, Any] = {}

    def engine(self, address: Address, secret: Secret | None) -> Engine:
        """The engine at an address with a key; the same one for the same."""
        key = (address.url, address.kind, secret)
        if key not in self.engines:
            taken = {engine.name for engine in self.engines.values()}
            name, number = address.name[:56], 2
            while name in taken:
                name, number = f"{address.name[:56]}-{number}", number + 1
            self.engines[key] = Engine(name, address, secret)
        return self.engines[key]

    def drop_idle(self) -> None:
        """Forget engines that no model uses, and models that no engine serves."""
        self.models = {name: model for name, model in self.models.items() if model.targets}
        used = {engine for model in self.models.values() for engine in model.targets}
        self.engines = {key: engine for key, engine in self.engines.items() if engine.name in used}
        self.names = {name: model for name, model in self.names.items() if model in self.models}

    def document(self, folder: str) -> dict[str, Any]:
        """The configuration as plain data; secrets are named as files in `folder`, relative to the file."""
        engines = [
            {
                "name": engine.name,
                "url": engine.address.url,
                **({} if engine.address.kind == "openai" else {"kind": engine.address.kind}),
                **({"api_key": self._reference(engine, folder)} if engine.secret else {}),
            }
            for engine in self.engines.values()
        ]
        models = [self._model(model) for model in self.models.values()]
        document = {"gateway": self.gateway} if self.gateway else {}
        return document | {"resources": {"engines": engines, "models": models}}

    def secrets(self) -> dict[str, str]:
        """File name → text of each secret that must not stand in the configuration."""
        return {
            engine.name: engine.secret.text
            for engine in self.engines.values()
            if engine.secret is not None and engine.secret.text
        }

    def variables(self) -> list[str]:
        """Environment variables that `serve` must be started with."""
        secrets = (engine.secret for engine in self.engines.values())
        return list(dict.fromkeys(secret.variable for secret in secrets if secret is not None and secret.variable))

    def _model(self, model: Model) -> dict[str, Any]:
        targets = [
            {"engine": engine} if name == model.id else {"engine": engine, "model": name}
            for engine, name in model.targets.items()
        ]
        price = model.prices[0] if model.prices else {}
        return {
            "id": model.id,
            **({"aliases": model.aliases} if model.aliases else {}),
            "targets": targets,
            **model.fields,
            **({"fallbacks": model.fallbacks} if model.fallbacks else {}),
            **(
                {"prices": [{name: _number(amount) for name, amount in price.items()} | self._currency()]}
                if any(price.values())
                else {}
            ),
        }

    def _currency(self) -> dict[str, str]:
        return {} if self.currency == "EUR" else {"currency": self.currency}

    @staticmethod
    def _reference(engine: Engine, folder: str) -> str:
        secret = engine.secret
        return f"env:{secret.variable}" if secret and secret.variable else f"file:{folder}/{engine.name}"


def amount(value: Any, times: int = 1) -> Decimal:
    """An amount of money per million tokens, from a price per token (`times` a million) or per million.

    Raises:
        ValueError: not an amount, or finer than Beffroi can hold.
    """
    try:
        exact = Decimal(str(value)) * times
    except InvalidOperation:
        raise ValueError(f"{value!r} is not an amount of money") from None
    parse_nano(exact)
    return exact


def seconds(value: Any) -> float | None:
    """A time above zero; None for anything else."""
    try:
        time = float(value)
    except (TypeError, ValueError):
        return None
    return time if 0 < time < 1e9 else None


def tidy(value: float) -> float | int:
    """600.0 → 600."""
    return int(value) if value == int(value) else value


def _number(value: Decimal) -> int | float | str:
    """As a person would write it in YAML, as long as that is exact."""
    if value == value.to_integral_value():
        return int(value)
    return (
        float(value)
        if Decimal(repr(float(value))) == value and value >= Decimal("0.0001")
        else f"{value.normalize():f}"
    )

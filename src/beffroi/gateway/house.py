# SPDX-License-Identifier: Apache-2.0
"""What a worker holds in memory: the view of the snapshot that an exchange takes with it, and the state of its rooms.

In: config and keys from control. Out: `View` objects, swapped whole, and the one `House` that the flow walks through.
An exchange keeps the view it began with, so no request ever sees a mixture of two configurations.
"""

import asyncio

import msgspec

from beffroi.core.clock import Clock
from beffroi.core.exchange import Exchange
from beffroi.core.ids import RequestIds
from beffroi.core.snapshot import Config, KeyBase, KeyDelta, KeyRecord, ModelSpec, Settings
from beffroi.gateway.authn.networks import Networks
from beffroi.gateway.guard.structure import Structure
from beffroi.gateway.journal.spool import Journal
from beffroi.gateway.quota.estimate import Estimator
from beffroi.gateway.quota.port import Counters
from beffroi.gateway.routing.pool import Member, Pool, RetryBudget
from beffroi.gateway.upstream.endpoint import Endpoint
from beffroi.telemetry.metrics import EngineMetrics, ModelMetrics, WorkerMetrics
from beffroi.wire import http
from beffroi.wire.openai import models as model_pages


class Model:
    """One public model, ready for the hot path."""

    __slots__ = ("fallbacks", "metrics", "pool", "quoted", "spec", "upstream")

    def __init__(self, spec: ModelSpec, pool: Pool, metrics: ModelMetrics) -> None:
        self.spec = spec
        self.quoted = msgspec.json.encode(spec.id)  # its name as JSON
        self.pool = pool
        self.metrics = metrics
        self.upstream = {target.engine: target.model for target in spec.targets}
        self.fallbacks: tuple[Model, ...] = ()  # known once all models are


class View:
    """One configuration, compiled; immutable once made."""

    __slots__ = ("_pages", "config", "models", "settings", "structure")

    def __init__(self, config: Config, models: dict[str, Model]) -> None:
        self.config = config
        self.settings: Settings = config.settings
        self.models = models
        self.structure = Structure(config.settings.guard)
        self._pages: dict[frozenset[str] | None, bytes] = {}

    def listing(self, key: KeyRecord) -> bytes:
        """`GET models` as this key may see it."""
        page = self._pages.get(key.models)
        if page is None:
            if len(self._pages) > 1000:
                self._pages.clear()
            page = self._pages[key.models] = model_pages.listing(
                spec for spec in self.config.models if key.models is None or spec.id in key.models
            )
        return page


class Keys:
    """The key table: public id → record, the peppers, and which tenants are closed. Quotas are the counters' to know.

    `networks`: the address lists of keys that were used since they last changed, compiled, by key id.
    """

    __slots__ = ("by_public", "closed", "networks", "peppers", "revision")

    def __init__(self, base: KeyBase) -> None:
        self.revision = base.revision
        self.peppers = dict(base.peppers)
        self.by_public: dict[bytes, KeyRecord] = {key.public.encode(): key for key in base.keys}
        self.closed = base.closed
        self.networks: dict[str, Networks] = {}

    def apply(self, delta: KeyDelta) -> bool:
        """Take one delta; False when it does not follow (the table must then be loaded again)."""
        if delta.revision <= self.revision:
            return True
        if delta.revision != self.revision + 1:
            return False
        self.peppers.update(delta.peppers)
        for key in delta.upsert:
            self.by_public[key.public.encode()] = key
            self.networks.pop(key.id, None)
        if delta.remove:
            gone = set(delta.remove)
            self.by_public = {public: key for public, key in self.by_public.items() if key.id not in gone}
        if delta.closed is not None:
            self.closed = delta.closed
        self.revision = delta.revision
        return True


class House:
    """The state of one worker's rooms. `tick` is a coarse monotonic clock in seconds, moved by the sweep."""

    def __init__(
        self,
        config: Config,
        keys: Keys,
        journal: Journal,
        counters: Counters,
        metrics: WorkerMetrics,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.keys = keys
        self.journal = journal
        self.counters = counters
        self.metrics = metrics
        self.clock = clock
        self.loop = loop
        self.ids = RequestIds()
        self.estimator = Estimator()
        self.retries = RetryBudget()
        self.members: dict[str, Member] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.active: set[Exchange] = set()
        self.refused: dict[str, int] = {}
        self.draining = False
        self.stale = False  # the key table is older than it may be (gateway.deadlines)
        self.tick = clock.mono_ns() / 1e9
        self.date = http.date_line()
        self.view = self._compile(config)

    def swap(self, config: Config) -> None:
        """Take a new configuration whole; exchanges under way keep the old one."""
        self.view = self._compile(config)

    def _compile(self, config: Config) -> View:
        """Engines that stay the same keep their connections and their health; those that left are closed when idle."""
        endpoints: dict[str, Endpoint] = {}
        for spec in config.engines:
            old = self.endpoints.get(spec.name)
            if old is not None and old.spec == spec:
                endpoints[spec.name] = old
                old.tune(config.settings)
            else:
                endpoints[spec.name] = Endpoint(spec, config.settings, self.loop)
                self.members[spec.name] = Member(spec.name, spec.kind, spec.machine or spec.name)
                self.metrics.engines[spec.name] = EngineMetrics()
        for name, endpoint in self.endpoints.items():
            if endpoints.get(name) is not endpoint:
                endpoint.retire()
        for name in self.members.keys() - endpoints.keys():
            del self.members[name]
            self.metrics.engines.pop(name, None)
        self.endpoints = endpoints
        models: dict[str, Model] = {}
        for model in config.models:
            pool = Pool(tuple(self.members[target.engine] for target in model.targets))
            compiled = Model(model, pool, self.metrics.models.setdefault(model.id, ModelMetrics()))
            for name in (model.id, *model.aliases):
                models[name] = compiled
        for model in config.models:
            models[model.id].fallbacks = tuple(models[name] for name in model.fallbacks)
        return View(config, models)

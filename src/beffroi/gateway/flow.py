# SPDX-License-Identifier: Apache-2.0
"""The table of contents: what happens to a request, in order. Whoever reads this page knows where every rule lives.

In: an exchange whose head has been read. Out: an answer, a bill and a record, whatever happened on the way.
Stepped by hand (`Exchange.resume`), never a Task; it sleeps where it must wait, and once for the whole relay.
"""

from beffroi.core.errors import BeffroiError, EngineError
from beffroi.core.exchange import ClientGone, Exchange
from beffroi.gateway import pages
from beffroi.gateway.authn.bearer import authenticate
from beffroi.gateway.guard.inspect import inspect
from beffroi.gateway.house import House
from beffroi.gateway.journal.records import failed_attempt, intend, record
from beffroi.gateway.meter.settle import settle
from beffroi.gateway.quota.admit import admit, give_back, take_over
from beffroi.gateway.read import read
from beffroi.gateway.routing.choose import another_try, release, route, while_closed
from beffroi.gateway.upstream.relay import relay


# fmt: off
async def handle(x: Exchange, house: House) -> None:
    """One request, from key to record."""
    counted = 0
    try:
        authenticate(x, house)                                    # 1  who asks
        await read(x, house)                                      #    the body, read once
        await admit(x, house)                                     # 2  limits and budgets, all or nothing
        await inspect(x, house)                                   # 3  the prompt
        if x.fallbacks and (stand_in := while_closed(x, house)) is not None:
            await take_over(x, house, stand_in)                   #    none of its engines is well
        while True:
            route(x, house)                                       # 4  an engine
            await intend(x, house)                                # 7a before a byte leaves for it
            try:
                await relay(x, house, pages.stream_lines)         # 5  the answer, up to its last bytes
                break
            except EngineError as failure:
                stand_in = another_try(x, house, failure)         #    raises when this was the last
                house.journal.settle(failed_attempt(x, house, failure), None)
                if stand_in is not None:
                    await take_over(x, house, stand_in)           #    a fallback of the model
        x.outcome = x.outcome or "complete"
    except BeffroiError as error:
        x.refusal = error
    except ClientGone:
        x.outcome = "client_gone"
    finally:
        if x.relay is not None:
            counted = x.relay.counted if x.begun and x.source != "engine" else 0
            x.relay.stop()
            x.relay = None
        release(x, house)
        settle(x, house.estimator, counted)                       # 6  tokens, price, the rest of the reservation back
        give_back(x, house)
        pages.finish(x, house)                                    #    the answer, or what went wrong, as bytes
        record(x, house)                                          # 7  before the last byte leaves

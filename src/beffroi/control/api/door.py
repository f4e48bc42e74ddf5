# SPDX-License-Identifier: Apache-2.0
"""The door of the control port: how often an address may knock, and whose key it shows.

In: a request. Out: who it is, or a refusal. The address is that of the connection: nothing that a client writes changes it.
"""

from starlette.requests import Request

from beffroi.control.api.limits import Limits
from beffroi.control.house import House
from beffroi.control.tenancy.admin_keys import authenticate_admin
from beffroi.control.tenancy.scope import Actor
from beffroi.core.errors import AuthenticationError

_LONGEST = 200  # characters of a key


class Door:
    """Tells who calls, from an admin key."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._limits = Limits()

    async def __call__(self, request: Request) -> Actor:
        """Who calls.

        Raises:
            AuthenticationError: no key, or none that is good. LimitExceeded: too often.
        """
        address = "" if request.client is None else request.client.host
        self._limits.call(address)
        try:
            return await authenticate_admin(self._house, _key(request), address)
        except AuthenticationError:
            self._limits.wrong(address)
            raise


def _key(request: Request) -> str:
    given = request.headers.getlist("authorization")
    kind, _, key = (given[0] if len(given) == 1 else "").strip().partition(" ")
    key = key.strip()
    if kind.lower() != "bearer" or not key or len(key) > _LONGEST:
        raise AuthenticationError("this needs an admin key, as `Authorization: Bearer bfa-…`, once")
    return key

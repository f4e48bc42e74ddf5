# SPDX-License-Identifier: Apache-2.0
"""From what a script said to the struct that a service takes, within that struct's bounds.

In: plain data. Out: a struct, or a refusal that names what does not fit.
"""

from typing import Any, TypeVar

import msgspec

from beffroi.core.errors import BadRequest

T = TypeVar("T")


def convert(said: dict[str, Any], kind: type[T]) -> T:
    """The struct.

    Raises:
        BadRequest: it does not fit.
    """
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"what was asked cannot be kept: {error}") from None

# SPDX-License-Identifier: Apache-2.0
"""Every operation of the admin API, in the order of the reference: each domain declares its own, this is where they meet.

In: the `OPERATIONS` of the domains. Out: one table. Whoever adds a domain adds it here.
"""

from beffroi.control.api import installation, keys
from beffroi.control.api.operation import Operation
from beffroi.control.declare import routes as declare
from beffroi.control.fleet import routes as fleet
from beffroi.control.operations import routes as operations
from beffroi.control.quotas import routes as quotas
from beffroi.control.rotation import routes as rotations
from beffroi.control.tenancy import routes as tenancy
from beffroi.control.webhooks import routes as webhooks

PREFIX = "/api/v1"
OPERATIONS: tuple[Operation, ...] = (
    *installation.OPERATIONS,
    *fleet.OPERATIONS,
    *keys.OPERATIONS,
    *operations.OPERATIONS,
    *tenancy.OPERATIONS,
    *rotations.OPERATIONS,
    *quotas.OPERATIONS,
    *webhooks.OPERATIONS,
    *declare.OPERATIONS,
)

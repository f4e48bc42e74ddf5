# SPDX-License-Identifier: Apache-2.0
"""Several Beffroi over one database: who each is, what has changed, how far each follows, how long each may go on alone.

In: the database of the fleet. Out: one key table on every machine, and revocations that all of them have confirmed.
"""

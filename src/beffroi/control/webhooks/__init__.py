# SPDX-License-Identifier: Apache-2.0
"""Webhooks: programs of an organisation that are told what happens in it, signed, at least once.

In: events, in the transaction of the act. Out: POST requests, repeated until they are taken or a day has passed.
"""

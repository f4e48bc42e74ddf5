# SPDX-License-Identifier: Apache-2.0
"""The admin API: one table of operations, and what is done to every call before and after its handler.

In: HTTP on the control port and on `control.sock`. Out: JSON, problem details, and calls of the services of `control`.
"""

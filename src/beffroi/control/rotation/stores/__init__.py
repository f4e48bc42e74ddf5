# SPDX-License-Identifier: Apache-2.0
"""Secret stores that a successor is put into: one module each, all with `read` and `write`, chosen by `choose`."""

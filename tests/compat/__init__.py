# SPDX-License-Identifier: Apache-2.0
"""Client libraries as their users call them, against a running Beffroi: openai, LangChain, curl.

LangChain has an environment of its own, `.venv-clients`, which `make clients-env` makes from `langchain.lock`; without it
its tests are skipped. Many more clients are tried by `make chaos`, where their programs lie beside the repository.
"""

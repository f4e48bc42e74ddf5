# SPDX-License-Identifier: Apache-2.0
"""The engine process, started by the supervisor.

In: BEFFROI_CHILD with `model`, `alias`, `host` (an address or a socket's path), `port`, `ready_fd`. Out: llama.cpp's
OpenAI-compatible server until SIGTERM, and one JSON line on `ready_fd` when it can serve.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from beffroi.embedded.settings import CONTEXT, MAX_OUTPUT, SLOTS


def main() -> None:
    """Serve until told to stop."""
    told = json.loads(os.environ["BEFFROI_CHILD"])
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGINT):  # while the model loads, signals end the process at once
        signal.signal(number, signal.SIG_DFL)
    os.dup2(2, 1)  # llama.cpp writes on both
    if not told["port"]:
        Path(told["host"]).unlink(missing_ok=True)  # a killed predecessor's; the data directory's lock is ours
    server = _serve(told)
    with os.fdopen(told["ready_fd"], "w") as out:
        line = {"ready": True, "url": server.listening_address, "seconds": round(time.monotonic() - began, 3)}
        out.write(json.dumps(line) + "\n")
    # Leave at once: deleting the server with a stream open can wait for ever, and there is nothing to save.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    while True:
        signal.pause()


def _serve(told: dict[str, Any]) -> Any:
    """The running server; the model is loaded and the address listens."""
    try:
        import xllamacpp
    except ImportError as error:
        sys.exit(_absent(error))
    p = xllamacpp.CommonParams()
    p.model.path = told["model"]
    p.model_alias = {told["alias"]}
    p.hostnames, p.port = [told["host"]], told["port"]
    p.n_parallel = SLOTS
    p.n_ctx = CONTEXT * SLOTS  # shared out between the slots
    p.kv_unified = (
        True  # otherwise the texts of one embeddings call, where their lengths differ, change each other's vectors
    )
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1  # two threads on two busy cores are ten times slower
    p.cpuparams.poll = p.cpuparams_batch.poll = 0  # no busy waiting between tokens
    p.n_threads_http = SLOTS + 4
    p.n_predict = MAX_OUTPUT  # a ceiling when the client gives none
    p.n_gpu_layers = 0
    p.fit_params = False  # would size the context by free memory
    p.cache_ram_mib = 0  # the default is 8 GiB of prompt cache
    p.sampling.temp = 0.0  # greedy unless the client asks otherwise
    p.use_jinja = True
    p.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_DEEPSEEK
    p.embedding = True  # with a pooling type the one server answers chat and embeddings
    p.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    p.n_ubatch = p.n_batch = CONTEXT  # a text must fit one micro-batch
    p.ui = False
    p.verbosity = 1
    return xllamacpp.Server(p)


def _absent(error: ImportError) -> str:
    """What to do about an engine that cannot be loaded: it is not installed, or a library that it needs is not."""
    if (
        isinstance(error, ModuleNotFoundError) and error.name == "xllamacpp"
    ):  # the loader names it in the other case too
        needs = "needs the `embedded` extra: pip install 'beffroi[embedded]'"
    else:
        needs = f"cannot be loaded ({error}). On Debian and Ubuntu: apt-get install libgomp1"
    return f"The embedded engine {needs}. Or name an engine with --engine."


def _leave(_number: int, _frame: object) -> NoReturn:
    os._exit(0)

# SPDX-License-Identifier: Apache-2.0
"""Every way a request can be refused or fail, as one tree. Errors are raised, never returned.

Class attributes say how an error leaves the house; `wire.envelope` alone renders it.

    BeffroiError
    ├── BadRequest                 400 invalid_request_error
    │   ├── ProtocolError          400 and the connection closes
    │   ├── HeadTooLarge           431
    │   ├── TargetTooLong          414
    │   ├── BodyTooLarge           413
    │   ├── ClientTimeout          408
    │   ├── UnsupportedMedia       415
    │   ├── RouteNotFound          404 not_found
    │   ├── MethodNotAllowed       405 (Allow)
    │   ├── ModelNotFound          404 model_not_found
    │   ├── KeyNotFound            404 key_not_found (administration)
    │   ├── ObjectNotFound         404 object_not_found (administration)
    │   ├── PreconditionFailed     412 precondition_failed (administration)
    │   ├── Conflict               409 conflict (administration)
    │   ├── NotAnswered            409 not_answered (administration)
    │   ├── IdempotencyKeyReused   422 idempotency_key_reused (administration)
    │   ├── RequestNotFound        404 request_not_found (administration)
    │   └── EngineRejected         4xx the engine found fault with the request
    ├── AuthenticationError        401 invalid_api_key
    ├── PermissionDenied           403
    │   ├── ModelNotAllowed        403 model_not_allowed
    │   ├── EndpointNotAllowed     403 endpoint_not_allowed
    │   ├── AddressNotAllowed      403 address_not_allowed
    │   ├── TenantSuspended        403 tenant_suspended
    │   └── PromptBlocked          403 prompt_blocked
    ├── LimitExceeded              429 rate_limit_exceeded (Retry-After)
    │   └── BudgetExceeded         429 insufficient_quota
    ├── Unavailable                503 (Retry-After)
    │   ├── NoEngine               503 no_engine_available
    │   ├── JournalUnavailable     503 journal_unavailable
    │   ├── CountersUnavailable    503 limits_unavailable
    │   ├── KeysStale              503 keys_stale
    │   ├── NotAcknowledged        503 not_acknowledged (administration)
    │   └── Draining               503 shutting_down
    ├── EngineError                502 engine_error
    │   ├── EngineTimeout          504 engine_timeout
    │   └── EngineBroken           502 engine_broken
    └── InternalError              500 internal_error
"""

from typing import ClassVar


class BeffroiError(Exception):
    """Root of the tree. `message` may leave the house only where `exposable` is true.

    Args:
        message: one sentence for the person who reads it: what is wrong and what to do.
        param: the field of the request that is at fault, if one is.
        retry_after: seconds after which a retry can succeed; rounded up to whole seconds in the header.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    retryable: ClassVar[bool] = False
    exposable: ClassVar[bool] = True
    closes: ClassVar[bool] = False  # the connection cannot be trusted to be in step after it

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class BadRequest(BeffroiError):
    """The request cannot be served as it is; the same request will fail again."""

    status = 400
    type = "invalid_request_error"


class ProtocolError(BadRequest):
    """Bytes that are not one unambiguous HTTP/1.1 request (RFC 9112)."""

    code = "malformed_http"
    closes = True


class HeadTooLarge(BadRequest):
    """The request head is over the limit in bytes or in number of headers."""

    status = 431
    code = "head_too_large"
    closes = True


class TargetTooLong(BadRequest):
    """The request target is over the limit."""

    status = 414
    code = "target_too_long"
    closes = True


class BodyTooLarge(BadRequest):
    """The body is over the limit."""

    status = 413
    code = "body_too_large"
    closes = True


class ClientTimeout(BadRequest):
    """The client took too long to send its request."""

    status = 408
    code = "request_timeout"
    closes = True


class UnsupportedMedia(BadRequest):
    """The body is not declared as plain JSON."""

    status = 415
    code = "unsupported_media_type"


class RouteNotFound(BadRequest):
    """No such path."""

    status = 404
    code = "not_found"


class MethodNotAllowed(BadRequest):
    """The path exists, with other methods; `allow` lists them."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class ModelNotFound(BadRequest):
    """No model of that name or alias."""

    status = 404
    code = "model_not_found"


class KeyNotFound(BadRequest):
    """No API key of that id, or several of that name."""

    status = 404
    code = "key_not_found"


class ObjectNotFound(BadRequest):
    """There is nothing of that id that whoever asks may see."""

    status = 404
    code = "object_not_found"


class PreconditionFailed(BadRequest):
    """What was to be changed is at another revision than the caller saw."""

    status = 412
    code = "precondition_failed"


class Conflict(BadRequest):
    """Something is under way that excludes what was asked."""

    status = 409
    code = "conflict"


class NotAnswered(BadRequest):
    """The first call under an Idempotency-Key is under way, or was never answered."""

    status = 409
    code = "not_answered"


class IdempotencyKeyReused(BadRequest):
    """An Idempotency-Key came back with another call than the first."""

    status = 422
    code = "idempotency_key_reused"


class RequestNotFound(BadRequest):
    """The ledger has no such request, or what names it fits several."""

    status = 404
    code = "request_not_found"


class EngineRejected(BadRequest):
    """The engine answered 4xx: it found fault with the request itself."""

    code = "engine_rejected"

    def __init__(self, message: str, *, status: int = 400, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.engine_status = status


class AuthenticationError(BeffroiError):
    """No key, or none that is known here."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class PermissionDenied(BeffroiError):
    """The key is good, the act is not allowed to it."""

    status = 403
    type = "permission_error"
    code = "permission_denied"


class ModelNotAllowed(PermissionDenied):
    """The model exists and this key may not use it."""

    code = "model_not_allowed"


class EndpointNotAllowed(PermissionDenied):
    """This key may not use this endpoint."""

    code = "endpoint_not_allowed"


class AddressNotAllowed(PermissionDenied):
    """This key may not be used from this address."""

    code = "address_not_allowed"


class TenantSuspended(PermissionDenied):
    """The organisation or the project of this key is suspended."""

    code = "tenant_suspended"


class PromptBlocked(PermissionDenied):
    """The prompt guard stopped the request."""

    code = "prompt_blocked"


class LimitExceeded(BeffroiError):
    """A rate or concurrency limit; `limit` names it.

    Args:
        requests: for the rate headers of the refusal: requests per minute, how many are left, seconds to a whole minute;
            None when the key has no such limit.
    """

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retryable = True

    def __init__(
        self, message: str, *, limit: str, retry_after: float, requests: tuple[int, int, int] | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.limit = limit
        self.requests = requests


class BudgetExceeded(LimitExceeded):
    """A budget is used up or reserved to its end."""

    code = "insufficient_quota"


class Unavailable(BeffroiError):
    """Beffroi cannot take the request now."""

    status = 503
    type = "service_unavailable_error"
    code = "unavailable"
    retryable = True


class NoEngine(Unavailable):
    """No engine of the model's pool can take the request."""

    code = "no_engine_available"


class JournalUnavailable(Unavailable):
    """The journal cannot be written: what cannot be recorded is not served."""

    code = "journal_unavailable"


class CountersUnavailable(Unavailable):
    """The limit counters cannot be read: a limited key is not served without them."""

    code = "limits_unavailable"


class KeysStale(Unavailable):
    """The gateway has not heard from its database for longer than it may believe its keys."""

    code = "keys_stale"


class NotAcknowledged(Unavailable):
    """A change is on disk, but not every worker has said that it holds it."""

    code = "not_acknowledged"


class Draining(Unavailable):
    """This process is stopping and takes no new work."""

    code = "shutting_down"
    closes = True


class EngineError(BeffroiError):
    """An engine failed and no other attempt was possible."""

    status = 502
    code = "engine_error"
    retryable = True


class EngineTimeout(EngineError):
    """An engine did not answer in time."""

    status = 504
    code = "engine_timeout"


class EngineBroken(EngineError):
    """An engine closed, or answered with bytes that are not a sound answer."""

    code = "engine_broken"


class InternalError(BeffroiError):
    """A fault of ours; its text stays inside."""

    code = "internal_error"
    exposable = False

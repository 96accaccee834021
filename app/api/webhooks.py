"""Where alerts come in. The body is read whatever its content type says, and handed on as it came."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, post
from litestar.datastructures import Headers, State
from litestar.openapi import ResponseSpec
from litestar.params import FromQuery
from litestar.types import ASGIApp, Receive, Scope, Send

from app.alerts.fields import read_positive, read_time
from app.alerts.signed import Signed, read_signed
from app.api.inject import Injected
from app.api.problems import OF_STATUS, Problem
from app.api.proxies import client_of, is_certified
from app.domain.money import ZERO
from app.domain.order import PositionSide
from app.errors import InvalidInput, StoreUnavailable
from app.flows.door import Delivery
from app.flows.explain import Explanation, WhatIf, explain
from app.flows.receive import receive as take_in
from app.resources import Resources

HANDLER_TIMEOUT_S = 2.5
"""The chart hangs up after 3 s and then takes the alert for lost, so it has to hear of it before."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    alert_id: UUID
    status: str
    repairs: tuple[str, ...] = ()
    """What was mended or left out of the body; absent when nothing was."""


RECEIPT = {202: ResponseSpec(Receipt, generate_examples=False)}
_encode = msgspec.json.Encoder().encode


class WebhookController(Controller):
    path = "/webhook"
    tags = ("alerts",)

    @post("/{strategy:str}", status_code=202, operation_id="deliver_alert", responses=RECEIPT)
    async def secret_in_body(self) -> ASGIApp:
        """Deliver an alert whose body holds the strategy's secret."""
        return deliver

    @post("/{strategy:str}/{secret:str}", status_code=202, operation_id="deliver_alert_with_secret", responses=RECEIPT)
    async def secret_in_path(self) -> ASGIApp:
        """Deliver an alert; the address holds the strategy's secret."""
        return deliver

    @post("/{strategy:str}/explain", status_code=200, operation_id="explain_alert")
    async def explain_with_secret_in_body(
        self,
        request: Request[Any, Any, State],
        resources: Injected,
        held: FromQuery[str | None] = None,
        at: FromQuery[str | None] = None,
    ) -> Explanation:
        """What this alert would do now: how it is read, every check, the orders. Nothing is stored or sent.

        `held` asks what it would do if another position were held: `long:1.5`, `short:2` or `flat`; `at` at another
        instant than now.
        """
        return await _explain(request, resources, held, at)

    @post("/{strategy:str}/{secret:str}/explain", status_code=200, operation_id="explain_alert_with_secret")
    async def explain_with_secret_in_path(
        self,
        request: Request[Any, Any, State],
        resources: Injected,
        held: FromQuery[str | None] = None,
        at: FromQuery[str | None] = None,
    ) -> Explanation:
        """What this alert would do now; the address holds the strategy's secret. Nothing is stored or sent."""
        return await _explain(request, resources, held, at)


async def _explain(
    request: Request[Any, Any, State], resources: Resources, held: str | None, at: str | None
) -> Explanation:
    what_if = WhatIf(held=None if held is None else _held(held), at=read_time(at, "at"))
    return await explain(resources, await _delivery(request, resources), what_if)


def _held(text: str) -> tuple[PositionSide, Decimal]:
    side, _, qty = text.strip().lower().partition(":")
    if side == "flat" and not qty:
        return PositionSide.LONG, ZERO
    if side not in set(PositionSide):
        raise InvalidInput("bad_held", "held is what is held instead: write long:1.5, short:2 or flat.", "held")
    return PositionSide(side), read_positive(qty, "held")


async def deliver(scope: Scope, receive: Receive, send: Send) -> None:
    """202 or 200 only for what is stored. Out of time means that nobody knows: 503, and the sender sends again.

    It is what the handlers return, and answers by itself: to read parameters into a signature and to make a Response
    takes Litestar longer than all the rest that it does for an alert.
    """
    request: Request[Any, Any, State] = Request(scope, receive, send)
    resources: Resources = request.app.state.resources
    try:
        async with asyncio.timeout(HANDLER_TIMEOUT_S):
            stored = await take_in(resources, await _delivery(request, resources))
    except TimeoutError:
        raise StoreUnavailable(f"the alert was not stored within {HANDLER_TIMEOUT_S} s") from None
    status = "duplicate" if stored.duplicate else "accepted"
    body = _encode(Receipt(alert_id=stored.alert_id, status=status, repairs=stored.repairs))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200 if stored.duplicate else 202, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _delivery(request: Request[Any, Any, State], resources: Resources) -> Delivery:
    address, headers = request.path_params, request.headers
    return Delivery(
        strategy_id=address["strategy"],
        path_secret=address.get("secret"),
        raw=await _body(request.receive, headers.get("content-length", ""), resources.settings.alert_body_bytes_max),
        content_type=headers.get("content-type", ""),
        source=client_of(request),
        signed=_signed(headers),
        certified=is_certified(request, resources.settings.certificate_header),
    )


def _signed(headers: Headers) -> Signed | None:
    """The headers of Standard Webhooks; None without a signature."""
    signature = headers.get("webhook-signature")
    if signature is None:
        return None
    return read_signed(headers.get("webhook-id", ""), headers.get("webhook-timestamp", ""), signature)


async def _body(receive: Receive, announced: str, bytes_max: int) -> bytes:
    """The whole body; a longer one than is allowed is 413, as soon as that is known, whatever its content-length says.

    Litestar's own way to it goes through an iterator of the parts, for bodies that are larger than an alert's.
    """
    if announced.isdecimal() and int(announced) > bytes_max:
        raise Problem(413, *OF_STATUS[413])
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(400, "incomplete_body", "The body ended early: send the alert again.")
        parts.append(message["body"])
        size += len(message["body"])
        if size > bytes_max:
            raise Problem(413, *OF_STATUS[413])
        more = message["more_body"]
    return b"".join(parts)

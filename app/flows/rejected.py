"""Keep what was refused at the door, for its sender to see. Only what an authenticated sender sent is kept, and the
answer neither depends on the keeping nor waits for it long.
"""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import datetime
from itertools import islice
from typing import Any

from app.alerts import body as bodies
from app.alerts.redact import cut, secrets_in, without_secrets
from app.errors import InvalidInput
from app.flows.door import Delivery, Unauthorized, addressed
from app.ids import new_id
from app.log import event
from app.resources import Resources
from app.store import rejected
from app.store.db import store_errors
from app.store.rejected import Rejected

log = logging.getLogger("receive")

WAIT_S = 0.25
"""The answer waits so long at most, so that who has it finds what was kept."""
BODY_LENGTH_MAX = 8192  # characters that are kept of a body
SHORT_LENGTH_MAX = 200  # of what stands beside it
SECRETS_TRIED_MAX = 5

_keeping: set[asyncio.Task[None]] = set()  # the loop alone would forget a task that nobody awaits


async def keep(
    resources: Resources, delivery: Delivery, strategy_id: str, body: str, error: InvalidInput, received_at: datetime
) -> None:
    """Keep a delivery of an authenticated sender; `body` is without secrets already."""
    await _behind(delivery, _keep(resources, delivery, strategy_id, body, error, received_at))


async def keep_unopened(resources: Resources, delivery: Delivery, error: InvalidInput, received_at: datetime) -> None:
    """Keep a delivery whose body could not be opened, if a secret of its strategy can be seen: in the address, or under
    its name somewhere in the text.
    """
    await _behind(delivery, _keep_unopened(resources, delivery, error, received_at))


async def _behind(delivery: Delivery, keeping: Coroutine[Any, Any, None]) -> None:
    """What is late is not cancelled: it goes on behind the answer."""
    task = asyncio.create_task(_tell_failure(delivery, keeping))
    _keeping.add(task)
    task.add_done_callback(_keeping.discard)
    await asyncio.wait({task}, timeout=WAIT_S)


async def _tell_failure(delivery: Delivery, keeping: Coroutine[Any, Any, None]) -> None:
    try:
        await keeping
    except Unauthorized:
        pass  # of strangers nothing is kept or said
    except Exception as error:  # whatever it is: it was refused already, and its sender hears why
        event(log, logging.WARNING, "what was rejected could not be kept", strategy=delivery.strategy_id,
              error=type(error).__name__)  # fmt: skip


async def _keep_unopened(resources: Resources, delivery: Delivery, error: InvalidInput, received_at: datetime) -> None:
    text = bodies.text_of(delivery.raw)
    sender = await addressed(resources, delivery, *islice(secrets_in(text), SECRETS_TRIED_MAX))
    shown = cut(without_secrets(text), bodies.long_secrets(delivery.path_secret, *secrets_in(text)))
    await _keep(resources, delivery, sender.strategy.id, shown, error, received_at)


async def _keep(
    resources: Resources, delivery: Delivery, strategy_id: str, body: str, error: InvalidInput, received_at: datetime
) -> None:
    event(log, logging.WARNING, "alert rejected", strategy=strategy_id, code=error.code, field=error.field)
    one = Rejected(
        id=new_id(),
        strategy_id=strategy_id,
        code=error.code,
        reason=_storable(error.detail),
        field=error.field and _storable(error.field)[:SHORT_LENGTH_MAX],
        body=body[:BODY_LENGTH_MAX],
        body_bytes=len(delivery.raw),
        content_type=delivery.content_type[:SHORT_LENGTH_MAX],
        source=delivery.source,
        received_at=received_at,
    )
    with store_errors():
        await rejected.keep(resources.pool, one)


def _storable(text: str) -> str:
    """Without what PostgreSQL cannot store: a sentence may quote it."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()

"""One short function per job name: an id in, one flow called. Jobs may run twice; flows do not mind."""

from typing import Any
from uuid import UUID

from arq.worker import func

from app.flows import execute
from app.queue import EXECUTE_ALERT, EXECUTE_BOOK


async def execute_alert(ctx: dict[str, Any], symbol: str, account_ids: list[str]) -> None:
    await execute.execute_alert(ctx["resources"], ctx["worker"], symbol, [UUID(one) for one in account_ids])


async def execute_book(ctx: dict[str, Any], account_id: str, symbol: str) -> None:
    await execute.execute_book(ctx["resources"], ctx["worker"], UUID(account_id), symbol)


FUNCTIONS = [func(execute_alert, name=EXECUTE_ALERT), func(execute_book, name=EXECUTE_BOOK)]

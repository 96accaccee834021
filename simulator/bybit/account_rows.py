"""The wire rows of Bybit V5 for what an account holds. Numbers are strings, "" is "no value".

Fields: https://bybit-exchange.github.io/docs/v5/position, /account/wallet-balance, and /websocket/private/position and
/wallet.
"""

from decimal import Decimal

from simulator.bybit.rows import POSITION_IDX, Row
from simulator.engine import Engine
from simulator.model import ZERO, Account, PositionView
from simulator.numbers import text, text8

MAINTENANCE_RATE = Decimal("0.005")


def position_row(view: PositionView) -> Row:
    """Rows of /v5/position/list; a symbol that was never traded has "" in nearly every number."""
    p = view.position
    return _row(view) if p.created_ms else _never_traded_row(p.symbol, POSITION_IDX[p.position_side])


def _row(view: PositionView) -> Row:
    p = view.position
    side = p.side
    margin = p.size * view.mark / view.leverage
    maintenance = p.size * view.mark * MAINTENANCE_RATE
    break_even = p.cost / p.size * (1 + (Decimal("0.0011") * (1 if p.qty > 0 else -1))) if p.qty else ZERO
    return {
        "positionIdx": POSITION_IDX[p.position_side],
        "riskId": 1,
        "riskLimitValue": "2000000",
        "symbol": p.symbol,
        "side": side.value if side else "",
        "size": text(p.size),
        "avgPrice": text8(p.entry_price),
        "positionValue": text8(p.cost),
        "tradeMode": 0,
        "positionStatus": "Normal",
        "autoAddMargin": 0,
        "adlRankIndicator": 2 if p.qty else 0,
        "leverage": text(view.leverage),
        "breakEvenPrice": text8(break_even),
        "positionBalance": "0",
        "markPrice": text(view.mark),
        "liqPrice": "",
        "bustPrice": "",
        "positionMM": text8(maintenance),
        "positionMMByMp": text8(maintenance),
        "positionIM": text8(margin),
        "positionIMByMp": text8(margin),
        "tpslMode": "Full",
        "takeProfit": text(view.take_profit) if view.take_profit else "",
        "stopLoss": text(view.stop_loss) if view.stop_loss else "",
        "trailingStop": text(view.trailing),
        "unrealisedPnl": text8(p.unrealized_pnl(view.mark)),
        "curRealisedPnl": text8(p.current_realized_pnl),
        "cumRealisedPnl": text8(p.net_realized_pnl),
        "seq": p.seq,
        "isReduceOnly": False,
        "leverageSysUpdatedTime": "",
        "sessionAvgPrice": "",
        "createdTime": str(p.created_ms),
        "updatedTime": str(p.updated_ms),
        "openTime": p.opened_ms if p.qty else 0,
        "mmrSysUpdatedTime": "",
    }


_BLANK_WHEN_NEVER_TRADED = (
    "riskLimitValue side avgPrice positionValue positionStatus leverage breakEvenPrice positionBalance markPrice "
    "liqPrice bustPrice positionMM positionMMByMp positionIM positionIMByMp tpslMode takeProfit stopLoss trailingStop "
    "unrealisedPnl curRealisedPnl cumRealisedPnl leverageSysUpdatedTime sessionAvgPrice createdTime updatedTime "
    "mmrSysUpdatedTime"
).split()


def _never_traded_row(symbol: str, position_idx: int) -> Row:
    return {
        "positionIdx": position_idx,
        "riskId": 0,
        "symbol": symbol,
        "size": "0",
        "tradeMode": 0,
        "autoAddMargin": 0,
        "adlRankIndicator": 0,
        "seq": -1,
        "isReduceOnly": False,
        "openTime": 0,
        **dict.fromkeys(_BLANK_WHEN_NEVER_TRADED, ""),
    }


def position_event(view: PositionView) -> Row:
    """Rows of the private topic `position`: `entryPrice` where REST says `avgPrice`, "0" where nothing is set."""
    row = _row(view)
    row["category"] = "linear"
    row["entryPrice"] = row.pop("avgPrice")
    for name in ("takeProfit", "stopLoss", "trailingStop"):
        row[name] = row[name] or "0"
    return row


def wallet_row(engine: Engine, account: Account) -> Row:
    """The one row of /v5/account/wallet-balance and of the topic `wallet`; 1 USDT is 1 USD here."""
    pnl = engine.unrealized_pnl(account)
    equity = account.balance + pnl
    position_im, order_im = engine.position_margin(account), engine.order_margin(account)
    held = engine.held(account)
    maintenance = sum((p.size * engine.markets[p.symbol].mark * MAINTENANCE_RATE for p in held), ZERO)
    margin = position_im + order_im
    im_rate = text((margin / equity).quantize(Decimal("0.0001"))) if equity > 0 else "0"
    mm_rate = text((maintenance / equity).quantize(Decimal("0.0001"))) if equity > 0 else "0"
    coin = {
        "coin": "USDT",
        "equity": text8(equity),
        "usdValue": text8(equity),
        "walletBalance": text8(account.balance),
        "availableToWithdraw": "",
        "availableToBorrow": "",
        "borrowAmount": "0",
        "accruedInterest": "0",
        "totalOrderIM": text8(order_im),
        "totalPositionIM": text8(position_im),
        "totalPositionMM": text8(maintenance),
        "unrealisedPnl": text8(pnl),
        "cumRealisedPnl": text8(account.balance - account.deposited),
        "bonus": "0",
        "collateralSwitch": True,
        "marginCollateral": True,
        "locked": "0",
        "spotHedgingQty": "0",
        "spotBorrow": "0",
    }
    row: Row = {
        "accountType": "UNIFIED",
        "accountLTV": "0",
        "totalEquity": text8(equity),
        "totalWalletBalance": text8(account.balance),
        "totalMarginBalance": text8(equity),
        "totalAvailableBalance": text8(equity - margin),
        "totalPerpUPL": text8(pnl),
        "totalInitialMargin": text8(margin),
        "totalInitialMarginByMp": text8(margin),
        "totalMaintenanceMargin": text8(maintenance),
        "totalMaintenanceMarginByMp": text8(maintenance),
        "accountIMRate": im_rate,
        "accountIMRateByMp": im_rate,
        "accountMMRate": mm_rate,
        "accountMMRateByMp": mm_rate,
        "coin": [coin] if account.balance or equity else [],
    }
    return row | dict.fromkeys(_NOT_WHEN_ISOLATED, "") if account.isolated else row


_NOT_WHEN_ISOLATED = (
    "totalMarginBalance totalAvailableBalance totalInitialMargin totalInitialMarginByMp totalMaintenanceMargin "
    "totalMaintenanceMarginByMp accountIMRate accountIMRateByMp accountMMRate accountMMRateByMp"
).split()

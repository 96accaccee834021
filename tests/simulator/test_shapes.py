"""Every field that clients have been seen to read is there. Written down from the vendor's pages and from traffic."""

from tests.simulator.support import Client

ORDER = set(
    """orderId orderLinkId parentOrderLinkId blockTradeId symbol price qty side isLeverage positionIdx orderStatus
    cancelType rejectReason avgPrice leavesQty leavesValue cumExecQty cumExecValue cumExecFee timeInForce orderType
    stopOrderType orderIv triggerPrice takeProfit stopLoss tpTriggerBy slTriggerBy triggerDirection triggerBy
    lastPriceOnCreated reduceOnly closeOnTrigger smpType smpGroup smpOrderId tpslMode tpLimitPrice slLimitPrice
    placeType createdTime updatedTime slippageToleranceType slippageTolerance extraFees cumFeeDetail rpiTakerAccess
    rpiMatchedQty createType""".split()
)
ORDER_EVENT = ORDER | {"category", "closedPnl", "feeCurrency", "marketUnit"}
EXECUTION = set(
    """symbol orderType underlyingPrice orderLinkId side indexPrice orderId stopOrderType leavesQty execTime
    feeCurrency isMaker execFee feeRate execId tradeIv blockTradeId markPrice execPrice markIv orderQty orderPrice
    execValue execType execQty closedSize extraFees seq createType marketUnit""".split()
)
EXECUTION_EVENT = EXECUTION | {"category", "isLeverage", "execPnl"}
FAST_EXECUTION = set("category symbol execId execPrice execQty orderId isMaker orderLinkId side execTime seq".split())
POSITION = set(
    """positionIdx riskId riskLimitValue symbol side size avgPrice positionValue tradeMode positionStatus
    autoAddMargin adlRankIndicator leverage breakEvenPrice positionBalance markPrice liqPrice bustPrice positionMM
    positionMMByMp positionIM positionIMByMp tpslMode takeProfit stopLoss trailingStop unrealisedPnl curRealisedPnl
    cumRealisedPnl seq isReduceOnly leverageSysUpdatedTime sessionAvgPrice createdTime updatedTime
    mmrSysUpdatedTime""".split()
)
POSITION_EVENT = POSITION - {"avgPrice"} | {"entryPrice", "category"}
WALLET = set(
    """totalEquity accountIMRate accountIMRateByMp totalMarginBalance totalInitialMargin totalInitialMarginByMp
    accountType totalAvailableBalance accountMMRate accountMMRateByMp totalPerpUPL totalWalletBalance accountLTV
    totalMaintenanceMargin totalMaintenanceMarginByMp coin""".split()
)
COIN = set(
    """availableToBorrow bonus accruedInterest availableToWithdraw totalOrderIM equity totalPositionMM usdValue
    spotHedgingQty unrealisedPnl collateralSwitch borrowAmount totalPositionIM walletBalance cumRealisedPnl locked
    marginCollateral coin spotBorrow""".split()
)
CLOSED_PNL = set(
    """symbol orderType leverage updatedTime side orderId closedPnl avgEntryPrice qty cumEntryValue createdTime
    orderPrice closedSize avgExitPrice execType fillCount cumExitValue""".split()
)
INSTRUMENT = set(
    """symbol symbolId contractType status baseCoin quoteCoin launchTime deliveryTime deliveryFeeRate priceScale
    leverageFilter priceFilter lotSizeFilter unifiedMarginTrade fundingInterval settleCoin copyTrading
    upperFundingRate lowerFundingRate isPreListing preListingInfo riskParameters symbolType""".split()
)
TICKER_EVENT = set(
    """symbol tickDirection price24hPcnt lastPrice prevPrice24h highPrice24h lowPrice24h prevPrice1h markPrice
    indexPrice openInterest openInterestValue turnover24h volume24h fundingIntervalHour fundingCap nextFundingTime
    fundingRate bid1Price bid1Size ask1Price ask1Size preOpenPrice preQty curPreListingPhase""".split()
)
TICKER = TICKER_EVENT - {"tickDirection"} | set(
    "predictedDeliveryPrice basisRate deliveryFeeRate deliveryTime basis basisRateYear".split()
)
TRADE_EVENT = set("T s S v p L i BT RPI seq".split())
RECENT_TRADE = set("execId symbol price size side time isBlockTrade isRPITrade".split())
ACCOUNT = set(
    "marginMode updatedTime unifiedMarginStatus dcpStatus timeWindow smpGroup isMasterTrader spotHedgingStatus".split()
)


async def test_rest_rows(client: Client) -> None:
    flat = await client.position()
    assert set(flat) >= POSITION
    assert {flat[name] for name in ("avgPrice", "leverage", "markPrice", "side")} == {""}
    await client.market("Buy", "0.01", stopLoss="60000")
    await client.market("Sell", "0.01", reduceOnly=True)
    for path, query, keys in (
        ("/v5/order/history", "category=linear", ORDER),
        ("/v5/execution/list", "category=linear", EXECUTION),
        ("/v5/position/list", "category=linear&symbol=BTCUSDT", POSITION),
        ("/v5/position/closed-pnl", "category=linear", CLOSED_PNL),
        ("/v5/account/wallet-balance", "accountType=UNIFIED", WALLET),
        ("/v5/account/fee-rate", "category=linear", {"symbol", "takerFeeRate", "makerFeeRate"}),
        ("/v5/market/instruments-info", "category=linear", INSTRUMENT),
        ("/v5/market/tickers", "category=linear", TICKER),
    ):
        rows = await client.rows(path, query)
        assert rows, path
        for row in rows:
            assert not keys - set(row), path
    wallet = (await client.rows("/v5/account/wallet-balance", "accountType=UNIFIED"))[0]
    assert set(wallet["coin"][0]) >= COIN
    assert set((await client.get("/v5/account/info"))["result"]) >= ACCOUNT
    key = (await client.get("/v5/user/query-api"))["result"]
    assert (key["readOnly"], key["ips"], key["permissions"]["Wallet"]) == (0, ["*"], [])


async def test_public_frames(client: Client) -> None:
    socket = await client.public("tickers.BTCUSDT", "publicTrade.BTCUSDT", "orderbook.1.BTCUSDT")
    snapshot = await socket.until(lambda f: f.get("topic") == "tickers.BTCUSDT")
    assert set(snapshot["data"]) >= TICKER_EVENT
    await client.price("66000")
    trade = await socket.until(lambda f: f.get("topic") == "publicTrade.BTCUSDT")
    assert set(trade["data"][0]) >= TRADE_EVENT
    delta = await socket.until(lambda f: f.get("type") == "delta")
    assert {"symbol", "lastPrice"} <= set(delta["data"]) < TICKER_EVENT
    assert delta["cs"] > snapshot["cs"]
    assert set((await client.rows("/v5/market/recent-trade", "category=linear&symbol=BTCUSDT"))[0]) >= RECENT_TRADE
    await socket.link.close()


async def test_private_frames(client: Client) -> None:
    socket = await client.private("order", "execution", "position", "wallet", "execution.fast")
    await client.market("Buy", "0.01", stopLoss="60000")
    await socket.until(lambda f: f.get("topic") == "wallet")
    rows = {frame["topic"]: frame["data"][0] for frame in socket.seen if "topic" in frame}
    for topic, keys in (
        ("order", ORDER_EVENT),
        ("execution", EXECUTION_EVENT),
        ("execution.fast", FAST_EXECUTION),
        ("position", POSITION_EVENT),
        ("wallet", WALLET),
    ):
        assert not keys - set(rows[topic]), topic
    assert all(isinstance(f["creationTime"], int) for f in socket.seen if "topic" in f)
    await socket.link.close()

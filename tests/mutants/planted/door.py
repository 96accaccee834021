"""Bugs at the door: a stranger who gets in, a secret that stays in a table, a chart that runs wild."""

from tests.mutants.planted.bug import Bug

DOOR = (
    Bug(
        name="an overheard signature holds for ever",
        file="app/flows/door.py",
        old="    if abs(age_s) > TOLERANCE_S:\n",
        new="    if -age_s > TOLERANCE_S:\n",
        loses="whoever recorded a delivery sends it again at another price",
        tests="tests/api/test_signing.py -k wrong_signature",
    ),
    Bug(
        name="the secret makes a wrong signature good",
        file="app/flows/door.py",
        old="    if strategy is not None and delivery.signed is not None and keys:\n",
        new="    if strategy is not None and delivery.signed is not None and keys and delivery.path_secret is None:\n",
        loses="a body that was changed on its way is traded",
        tests="tests/api/test_signing.py -k wrong_signature",
    ),
    Bug(
        name="anybody says where he comes from",
        file="app/addresses.py",
        old="        if not among(last, proxies):\n            break\n",
        new="",
        loses="the list of addresses keeps nobody out",
        tests="tests/test_addresses.py",
    ),
    Bug(
        name="the sender's end of X-Forwarded-For is believed",
        file="app/addresses.py",
        old='    for text in reversed(",".join(forwarded).split(",")):\n',
        new='    for text in ",".join(forwarded).split(","):\n',
        loses="the list of addresses keeps nobody out behind a proxy",
        tests="tests/test_addresses.py",
    ),
    Bug(
        name="the certificate is anybody's word",
        file="app/api/proxies.py",
        old="    if header is None or not is_proxied(request):\n",
        new="    if header is None:\n",
        loses="a header that anybody can send stands for TradingView's certificate",
        tests="tests/api/test_sources.py -k certificate",
    ),
    Bug(
        name="a broken body is kept with its secrets",
        file="app/flows/rejected.py",
        old="cut(without_secrets(text), bodies.long_secrets(delivery.path_secret, *secrets_in(text)))",
        new="text",
        loses="whoever reads the database or the page may trade",
        tests="tests/api/test_rejected.py -k authenticated",
    ),
    Bug(
        name="a chart that runs wild is not held",
        file="app/flows/plan.py",
        old="        unfit=crowded or unfit,\n",
        new="        unfit=unfit,\n",
        loses="a script with a mistake opens an order a second",
        tests="tests/flows/test_alerts_per_minute.py -k beyond",
    ),
)

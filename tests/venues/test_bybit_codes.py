"""Every code that the exchange documents has a class, and what a class means for an order is fixed here."""

import pytest

from app.venues.bybit.codes import CODES, STATUSES, kind_of, kind_of_status
from app.venues.kinds import Kind

DOCUMENTED: dict[Kind, list[int]] = {
    Kind.RATE: [10006, 10018, 10403, 10429, 20003, 170005],
    Kind.CLOCK: [10002, -1],
    Kind.UNKNOWN: [10000, 10016, 429, 170001, 170007, 170032, 500000, 10019, 20006],
    Kind.BUSY: [110079, 40004],
    Kind.DUPLICATE: [110072, 10014],
    Kind.GONE: [110001, 110008, 110010, 110017],
    Kind.DONE: [110025, 110026, 110043, 34040],
    Kind.REFUSED: [
        *(10001, 110003, 110004, 110006, 110007, 110009, 110012, 110013, 110020, 110044, 110045, 110052),
        *(110066, 110074, 110090, 110092, 110093, 110094, 110099, 30228, 10029, 110024, 110028, 3400045),
    ],
    Kind.FATAL: [10003, 10004, 10005, 10007, 10008, 10009, 10010, 10017, 10404, 10024, 10027, 10028, 33004],
}


@pytest.mark.parametrize(("kind", "codes"), DOCUMENTED.items())
def test_documented_codes_have_their_class(kind: Kind, codes: list[int]) -> None:
    assert {code: kind_of(code) for code in codes} == dict.fromkeys(codes, kind)


def test_nothing_is_listed_that_is_not_documented() -> None:
    assert set(CODES) == {code for codes in DOCUMENTED.values() for code in codes}


def test_an_unlisted_code_says_nothing_about_the_request() -> None:
    assert kind_of(987654321) is Kind.UNKNOWN
    assert kind_of_status(502) is Kind.UNKNOWN


def test_every_code_has_a_meaning() -> None:
    assert all(code.meaning for code in [*CODES.values(), *STATUSES.values()])

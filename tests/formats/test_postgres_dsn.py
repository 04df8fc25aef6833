"""Connection strings of every form: where they lead, and that nobody sees their passwords."""

import pytest

from formats import postgres_dsn

SECRET = "pl4nted"
GOOD = {
    f"postgresql://u:{SECRET}@h:6432/db": "h:6432/db",
    f"postgres://u:{SECRET}@h/db?sslmode=require": "h:5432/db",
    f"postgresql+psycopg2://u:{SECRET}@h/db": "h:5432/db",
    f"postgresql://u@h/db?password={SECRET}": "h:5432/db",
    f"postgresql://u:{SECRET}%40%2F@a:1,b:2/db": "a:1,b:2/db",
    f"host=a,b port=7 user=u password='{SECRET} x' dbname=db": "a:7,b:7/db",
    f"host=h user=u sslpassword={SECRET}": "h:5432/u",
    f"postgresql://u:x?{SECRET}#x@h/db": "h:5432/db",
    f"service=books password={SECRET}": "service books",
    f"postgresql://u:{SECRET}@/db?host=/run/postgresql": "/run/postgresql:5432/db",
}
BAD = [
    f"postgresql://u:{SECRET}@@h:x:y/",
    f"postgresql://u:{SECRET}%zz@h/db",
    f"postgresql://u:x/{SECRET}@h/db",
    f"postgresql://u:9/{SECRET}@h/db",
    f"postgresql://u:x@{SECRET}@h/db",
    f"host=h password='{SECRET}",
    f"host=h password=a {SECRET}",
    f"u:{SECRET}@h/db",
    f"mysql://u:{SECRET}@h/db",
    f"dbname=postgresql://u:{SECRET}@h/db",
    f"postgresql://u:{SECRET}\x00@h/db",
]


@pytest.mark.parametrize("dsn", GOOD)
def test_where_a_dsn_leads_is_told_without_user_and_password(dsn: str) -> None:
    assert postgres_dsn.target(dsn) == GOOD[dsn]
    parts = postgres_dsn.parse(dsn)
    text = f"bad {dsn}, {parts.get('password')}, {parts.get('sslpassword')}"
    assert SECRET not in postgres_dsn.redact(text, dsn)
    assert postgres_dsn.redact("no such role", dsn) == "no such role"


@pytest.mark.parametrize("dsn", BAD)
def test_nothing_of_a_dsn_that_is_not_understood_is_shown(dsn: str) -> None:
    for ask in (postgres_dsn.parse, postgres_dsn.target):
        with pytest.raises(postgres_dsn.DsnError, match="cannot be parsed") as caught:
            ask(dsn)
        assert SECRET not in str(caught.value)
    assert SECRET not in postgres_dsn.redact(f"missing = after {dsn[10:]}", dsn)

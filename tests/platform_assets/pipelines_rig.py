"""Pipelines for tests: that of the README, its module, and a table with names of its own."""

import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from tests.conftest import CHECKOUT

DATES = ["2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04"]
SNAPSHOT, LEVELS = "lisbon/snapshot", "lisbon/levels"
TABLE = """
    create table anuncios (id_anuncio bigint, bairro text, preco numeric, dia date);
    insert into anuncios
        select n, 'bairro ' || n % 3, 20 + n + extract(day from day), day
        from generate_series(1, 40) as n,
             generate_series('2026-03-01', '2026-03-04', interval '1 day') as day;
"""


def examples(file: str, language: str) -> list[str]:
    """The examples of a language in one of the checkout's files."""
    text = (CHECKOUT / file).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def example(file: str, language: str) -> str:
    """The first of them."""
    return examples(file, language)[0]


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """A folder of pipelines: name → content of its file."""
    for name, content in files.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "defs.yaml").write_text(content)
    return folder


def execute(dsn: str, statements: str) -> list[tuple[Any, ...]]:
    """Run statements; the rows of the last one, if it has any."""
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statements)
            return cursor.fetchall() if cursor.description else []

"""Whether a user sees all rows that a statement is meant to read, as Postgres itself says.

Row-level security is refused by the server (`row_security = off`); here is what names its
policies, and what finds the filters of views that depend on who reads them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from psycopg2 import sql

from resources.postgres.query import Extract, select_rows

Fetch = Callable[[sql.Composable], list[tuple[Any, ...]]]

COLUMNS_OF_TABLE = """
    select a.attname, has_column_privilege(a.attrelid, a.attnum, 'select')
    from pg_attribute a
    where a.attrelid = to_regclass({table}) and a.attnum > 0 and not a.attisdropped
    order by a.attnum
"""
TYPES = "select oid, format_type(oid, null), typcategory from pg_type where oid = any({oids})"
# What this session holds a lock on, but had another file when its state of the database began.
REWRITTEN = """
    select c.relname from pg_locks l join pg_class c on c.oid = l.relation
    where l.locktype = 'relation' and l.pid = pg_backend_pid() and c.relkind in ('r', 'm')
      and c.relfilenode <> 0 and c.relfilenode <> pg_relation_filenode(c.oid)
"""
# Other servers of Postgres, of which row-level security would silently keep rows back.
_UNGUARDED_SERVERS = """
    select distinct s.srvname from pg_locks l
    join pg_foreign_table f on f.ftrelid = l.relation
    join pg_foreign_server s on s.oid = f.ftserver
    join pg_foreign_data_wrapper w on w.oid = s.srvfdw
    where l.locktype = 'relation' and l.pid = pg_backend_pid() and w.fdwname = 'postgres_fdw'
      and array_to_string(s.srvoptions, ' ') !~ 'row_security *= *off'
    order by 1
"""
# The server's message names one table; its words depend on the server's language.
_POLICIES = """
    select schemaname, tablename, policyname from pg_policies
    where strpos({message}, tablename) > 0 and cmd in ('ALL', 'SELECT')
    order by length(tablename) desc, 1, 2, 3
"""
# Functions, and those that they call, and so on; a name in capitals may be one without quotes.
_USER_FUNCTIONS = r"""
    with recursive called (name, oid, definition) as (
        select proname::text, oid, pg_get_functiondef(oid) from pg_proc
        where proname = any({names}) and prokind = 'f'
          and pronamespace <> 'pg_catalog'::regnamespace
        union
        select c.name, p.oid, pg_get_functiondef(p.oid)
        from called c
        cross join lateral regexp_matches(c.definition, '(\w+)"?\s*\(', 'g') as m(groups)
        join pg_proc p on p.proname in (m.groups[1], lower(m.groups[1]))
        where p.prokind = 'f' and p.pronamespace <> 'pg_catalog'::regnamespace
    )
    select distinct name from called where definition ~* {words}
"""
# SQL's names for the user who asks, and functions that depend on it, as EXPLAIN prints them.
_WORDS = "current_user|session_user|current_role|system_user|current_setting|pg_has_role"
_NAMES = re.compile(r"\b(?:CURRENT_USER|SESSION_USER|CURRENT_ROLE|SYSTEM_USER|USER)\b")
_CALLS = re.compile(
    r'"?\b(?:current_setting|current_user|session_user|pg_has_role|has_\w+_privilege'
    r'|row_security_active|inet_client_\w+)"?(?=\()'
)
_CALLED = re.compile(r'(\w+)"?\(')
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Reading:
    """How the rows of an extract are read.

    Attributes:
        hidden: Why some of them may not be seen, in a sentence that says what to do; None where
            all of them are.
        foreign: Whether some come from another server, whose state a second session of the same
            snapshot does not share.
    """

    hidden: str | None
    foreign: bool


def examine(fetch: Fetch, extract: Extract) -> Reading:
    """Plan the reading of an extract, without reading it.

    In plans, views are resolved, however deep they are nested.
    """
    # Pseudonyms are made of the session's settings, which decide over no rows.
    plain = select_rows(replace(extract, pseudonymised=frozenset()))
    explain = sql.SQL("explain (verbose, costs off, format json) {}").format(plain)
    ((plan,),) = fetch(explain)
    top = plan[0]["Plan"]
    nodes = list(_nodes(top, _plain(top.get("Output", []))))
    foreign = any(node["Node Type"] == "Foreign Scan" for node, _ in nodes)
    conditions = [text for node, passed in nodes for text in _conditions(node, passed)]
    words = {word for text in conditions for word in _words(text)}
    called = sorted({name for text in conditions for name in _CALLED.findall(text)})
    if called:
        query = sql.SQL(_USER_FUNCTIONS).format(
            names=sql.Literal(called), words=sql.Literal(rf"\m({_WORDS})\M")
        )
        words.update(f"{name}()" for (name,) in fetch(query))
    if words:
        return Reading(
            f"which rows it shows depends on who reads them ({', '.join(sorted(words))} in "
            "its definition), and a part is not published as the whole. Name a table "
            "or view that shows everybody all rows.",
            foreign,
        )
    unguarded = fetch(sql.SQL(_UNGUARDED_SERVERS)) if foreign else []
    if unguarded:
        ((server,), *_) = unguarded
        return Reading(
            f"its rows come from the server {server}, where policies may hide some of them without "
            f"an error. Have them refused: ALTER SERVER {server} OPTIONS "
            "(ADD options '-c row_security=off').",
            foreign,
        )
    return Reading(None, foreign)


def hidden_by_policies(fetch: Fetch, message: str) -> str:
    """Which policies of row-level security hide rows of the table that a message names."""
    ((user,),) = fetch(sql.SQL("select current_user"))
    policies = fetch(sql.SQL(_POLICIES).format(message=sql.Literal(message)))
    # The longest name is the table's; shorter ones may be a part of it.
    names = [
        f"{name} on {schema}.{table}" for schema, table, name in policies if table == policies[0][1]
    ]
    kind = "policies" if len(names) > 1 else "policy"
    by = f"{kind} {', '.join(names)}" if names else "it is enabled, and no policy shows any"
    return (
        f"row-level security lets {user} see a part of the rows only ({by}), and a part is not "
        "published as the whole. Read as a role with BYPASSRLS or as the table's owner, or name a "
        "table without policies."
    )


def _nodes(node: dict[str, Any], passed: Set[str]) -> Iterator[tuple[dict[str, Any], Set[str]]]:
    """A plan's nodes, each with those of its values that get to the reader as they are.

    The others may decide over rows further up, where only their names are seen: those of
    subqueries, and of what is planned by itself (`offset 0`, `materialized`).
    """
    if node.get("Parent Relationship") in ("InitPlan", "SubPlan", "Subquery"):
        passed = frozenset()
    passed = passed & _plain(node.get("Output", []))
    yield node, passed
    for below in node.get("Plans", []):
        yield from _nodes(below, passed)


def _plain(outputs: Iterable[str]) -> Set[str]:
    """Values without brackets: a node puts some around what it has from the one below."""
    return {re.sub("[()]", "", text) for text in outputs}


def _conditions(node: dict[str, Any], passed: Set[str]) -> list[str]:
    texts: list[str] = []
    for name, value in node.items():
        if name.endswith(("Cond", "Condition", "Filter")) or name == "Function Call":
            texts.append(str(value))
        elif name == "Function Name":
            texts.append(f"{value}(")
        elif name.endswith("Key"):
            texts.extend([value] if isinstance(value, str) else value)
        elif name == "Output":
            outputs: Sequence[str] = value
            texts.extend(text for text in outputs if not _plain([text]) <= passed)
    return [_LITERAL.sub("''", text) for text in texts]


def _words(condition: str) -> list[str]:
    calls = [f"{name.strip(chr(34))}()" for name in _CALLS.findall(condition)]
    return calls + _NAMES.findall(_QUOTED.sub('""', condition))

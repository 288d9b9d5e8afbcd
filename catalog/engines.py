"""The text index: FTS5 on SQLite, a stored tsvector and trigrams on PostgreSQL, behind the same four functions.

Both are given the same folded words, so a query finds the same works on either. `write` and `clear` keep the index,
`match` gives every matching work with its score, `near` the words of the catalogue that look like a misspelt one.
"""

from collections.abc import Iterable

from django.db import connection
from rapidfuzz import process
from rapidfuzz.distance import DamerauLevenshtein

from catalog.query import Query
from catalog.words import stem

COLUMNS = ("names", "people", "topics", "claims", "abstract", "forms", "stems")
WEIGHTS = (10.0, 5.0, 4.0, 1.0, 1.0, 6.0, 0.8)
# PostgreSQL knows four labels: A names and their forms, B people and topics, C claims and abstract, D stems.
LABELS = {"names": "A", "forms": "A", "people": "B", "topics": "B", "claims": "C", "abstract": "C", "stems": "D"}
RANKS = "{0.08, 0.12, 0.5, 1.0}"  # of D, C, B, A


def _sqlite() -> bool:
    return connection.vendor == "sqlite"


def create(schema_editor) -> None:
    """Make the index: called by a migration."""
    if schema_editor.connection.vendor == "sqlite":
        columns = ", ".join(COLUMNS)
        schema_editor.execute(
            f"CREATE VIRTUAL TABLE catalog_search USING fts5({columns}, prefix='1 2 3', tokenize='unicode61')"
        )
        return
    schema_editor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    schema_editor.execute("CREATE TABLE catalog_search (work_id bigint PRIMARY KEY, words tsvector NOT NULL)")
    schema_editor.execute("CREATE INDEX catalog_search_words ON catalog_search USING gin (words)")
    schema_editor.execute("CREATE INDEX catalog_searchword_like ON catalog_searchword USING gin (word gin_trgm_ops)")


def drop(schema_editor) -> None:
    """Undo `create`."""
    schema_editor.execute("DROP TABLE catalog_search")


def clear(pks: Iterable[int] | None = None) -> None:
    """Take works out of the index, or all of them."""
    key = "rowid" if _sqlite() else "work_id"
    with connection.cursor() as cursor:
        if pks is None:
            cursor.execute("DELETE FROM catalog_search")
        else:
            cursor.executemany(f"DELETE FROM catalog_search WHERE {key} = %s", [(pk,) for pk in pks])


def write(documents: Iterable[tuple[int, dict[str, str]]]) -> None:
    """Add works, each (primary key, {column: words}), that are not in the index."""
    if _sqlite():
        marks = ", ".join(["%s"] * (len(COLUMNS) + 1))
        sql = f"INSERT INTO catalog_search (rowid, {', '.join(COLUMNS)}) VALUES ({marks})"
    else:
        parts = " || ".join(f"setweight(to_tsvector('simple', %s), '{LABELS[column]}')" for column in COLUMNS)
        sql = f"INSERT INTO catalog_search (work_id, words) VALUES (%s, {parts})"
    with connection.cursor() as cursor:
        cursor.executemany(sql, [(pk, *(texts[column] for column in COLUMNS)) for pk, texts in documents])


def match(query: Query, any_word: bool = False) -> dict[int, float]:
    """{primary key: score, higher is better} of every work that holds what the query asks, or any one of its words."""
    with connection.cursor() as cursor:
        if _sqlite():
            asked = _fts5(query, any_word)
            weights = ", ".join(map(str, WEIGHTS))
            cursor.execute(
                f"SELECT rowid, -bm25(catalog_search, {weights}) FROM catalog_search WHERE catalog_search MATCH %s",
                [asked],
            )
        else:
            cursor.execute(
                "SELECT work_id, ts_rank(%s, words, asked, 1) FROM catalog_search, to_tsquery('simple', %s) AS asked"
                " WHERE words @@ asked",
                [RANKS, _tsquery(query, any_word)],
            )
        return dict(cursor.fetchall())


def _fts5(query: Query, any_word: bool) -> str:
    terms = []
    for i, word in enumerate(query.words):
        begun = f' OR "{word}"*' if query.open_end and i == len(query.words) - 1 else ""
        terms.append(f'("{word}"{begun} OR {{stems}} : "{stem(word)}")')
    terms += ['"' + " ".join(phrase) + '"' for phrase in query.phrases]
    without = "".join(' NOT "' + " ".join(words) + '"' for words in query.excluded)
    return f"({(' OR ' if any_word else ' AND ').join(terms)}){without}"


def _tsquery(query: Query, any_word: bool) -> str:
    terms = []
    for i, word in enumerate(query.words):
        begun = f" | {word}:*" if query.open_end and i == len(query.words) - 1 else ""
        terms.append(f"({word}{begun} | {stem(word)}:D)")
    terms += ["(" + " <-> ".join(phrase) + ")" for phrase in query.phrases]
    without = "".join(" & !(" + " <-> ".join(words) + ")" for words in query.excluded)
    return f"({(' | ' if any_word else ' & ').join(terms)}){without}"


def near(word: str, limit: int = 1) -> list[str]:
    """Words of the catalogue at most two slips from `word` (one below six letters), the likeliest first."""
    from catalog.models import SearchWord

    slips = 1 if len(word) < 6 else 2
    found = SearchWord.objects.all()
    if _sqlite():
        found = found.filter(length__range=(len(word) - slips, len(word) + slips))
    else:
        found = found.extra(where=["word %% %s"], params=[word])
    weights = dict(found.values_list("word", "works"))
    close = process.extract(word, weights.keys(), scorer=DamerauLevenshtein.distance, score_cutoff=slips, limit=None)
    ranked = sorted(close, key=lambda hit: (hit[1], hit[0][:1] != word[:1], -weights[hit[0]]))
    return [hit[0] for hit in ranked[:limit]]

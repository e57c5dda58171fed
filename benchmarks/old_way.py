"""How the live service fills a table: keyset pages of 5,000 over a join, then one INSERT a row.

Sampled over pages spread through the whole key range, and extrapolated to all pages.
"""

import time
from dataclasses import dataclass

import pymysql
import sqlalchemy as sa

PAGE_ROWS = 5_000
INSERTS_SAMPLED = 2_000  # of each page's rows; each is a statement of its own, committed by page


@dataclass(frozen=True)
class OldWay:
    """What a sample came to.

    Attributes:
        pages: how many pages the whole fill has.
        pages_sampled: how many of them were run.
        seconds: the whole fill, extrapolated.

    """

    pages: int
    pages_sampled: int
    seconds: float


# The page query of the live service, by table and body: distinct pairs after the last one seen.
PERSON_PAGE = """
    SELECT DISTINCT p.id AS record, po.{body} AS trust FROM Person p
    INNER JOIN Placement pl ON pl.traineeId = p.id
    INNER JOIN Post po ON po.id = pl.postId
    WHERE (p.id, po.{body}) > (%s, %s) AND po.{body} IS NOT NULL
    ORDER BY p.id ASC, po.{body} ASC LIMIT {rows}
"""
POST_PAGE = """
    SELECT DISTINCT po.id AS record, po.{body} AS trust FROM Post po
    WHERE (po.id, po.{body}) > (%s, %s) AND po.{body} IS NOT NULL
    ORDER BY po.id ASC, po.{body} ASC LIMIT {rows}
"""
PAGES = {"PersonTrust": PERSON_PAGE, "PostTrust": POST_PAGE}
RECORDS = {"PersonTrust": "personId", "PostTrust": "postId"}


def trust_job(engine: sa.Engine, table: str, body: str, pairs: int, samples: int) -> OldWay:
    """Sample the old way of filling a trust table for one body.

    Args:
        engine: MariaDB with the core tables filled; `table` is written to and emptied again.
        table: PersonTrust or PostTrust.
        body: employingBodyId or trainingBodyId.
        pairs: how many pairs the whole fill has: it decides the number of pages.
        samples: how many pages to run, spread evenly over the keys.

    """
    url = engine.url
    connection = pymysql.connect(
        host=url.host, port=url.port or 3306, user=url.username, password=url.password or "",
        database=url.database, charset="utf8mb4",
    )  # fmt: skip
    page = PAGES[table].format(body=body, rows=PAGE_ROWS)
    insert = f"INSERT INTO {table} ({RECORDS[table]}, trustId) VALUES (%s, %s)"
    pages = max(1, -(-pairs // PAGE_ROWS))
    samples = min(samples, pages)
    cursor = connection.cursor()
    cursor.execute(f"SELECT MAX(id) FROM {'Person' if table == 'PersonTrust' else 'Post'}")
    last = int(cursor.fetchone()[0])
    seconds = 0.0
    for number in range(samples):
        after = last * number // samples
        started = time.perf_counter()
        cursor.execute(page, (after, 0))
        rows = cursor.fetchall()
        queried = time.perf_counter() - started
        some = rows[:INSERTS_SAMPLED]
        started = time.perf_counter()
        for row in some:
            cursor.execute(insert, row)
        connection.commit()
        inserted = (time.perf_counter() - started) * len(rows) / max(1, len(some))
        seconds += queried + inserted
    cursor.execute(f"TRUNCATE TABLE {table}")
    connection.close()
    return OldWay(pages, samples, seconds / samples * pages)

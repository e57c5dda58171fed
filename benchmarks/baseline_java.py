"""The baseline: the Java service fills a table by keyset pages of a join, with one INSERT per row.

Some pages, spread over the whole key range, are measured and extrapolated to all pages.
"""

import time
from dataclasses import dataclass

import pymysql

from tis_sync.db.database import Database

PAGE_ROWS = 5_000
INSERTS_SAMPLED = 2_000  # rows inserted of each page, one statement each, one commit per page


@dataclass(frozen=True)
class Baseline:
    """What a sample measured.

    Attributes:
        pages: how many pages the whole fill has.
        pages_sampled: how many of them were measured.
        seconds: duration of the whole fill, extrapolated.

    """

    pages: int
    pages_sampled: int
    seconds: float


# The page query of the Java service, by table: distinct pairs after the last pair of a page.
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


def trust_job(database: Database, table: str, body: str, pairs: int, samples: int) -> Baseline:
    """Measure a sample of filling a trust table for one body.

    Args:
        database: MariaDB with filled core tables; `table` is filled and emptied again.
        table: PersonTrust or PostTrust.
        body: employingBodyId or trainingBodyId.
        pairs: how many pairs the whole fill has; they determine the number of pages.
        samples: how many pages to measure, spread evenly over the keys.

    """
    url = database.engine.url
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
        sample = rows[:INSERTS_SAMPLED]
        started = time.perf_counter()
        for row in sample:
            cursor.execute(insert, row)
        connection.commit()
        inserted = (time.perf_counter() - started) * len(rows) / max(1, len(sample))
        seconds += queried + inserted
    cursor.execute(f"TRUNCATE TABLE {table}")
    connection.close()
    return Baseline(pages, samples, seconds / samples * pages)

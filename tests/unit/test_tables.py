"""Our declaration of TCS matches the live schema."""

import csv
from pathlib import Path

from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from tis_sync.tcs import tables as t

COLUMNS = Path(__file__).parent.parent / "tcs_columns.csv"
SAME = {"int(11)": "integer", "bigint(20)": "bigint", "tinyint(1)": "bool"}


def test_every_column_is_declared_as_in_the_live_schema() -> None:
    with COLUMNS.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["table"] for row in rows} == set(t.metadata.tables)
    dialect = mysql.dialect()
    for row in rows:
        table = t.metadata.tables[row["table"]]
        column = table.c[row["column"]]
        live_type = SAME.get(row["type"], row["type"])
        assert column.type.compile(dialect).lower() == live_type.lower(), column
        assert column.nullable == (row["nullable"] == "YES"), column
        assert column.primary_key == (row["key"] == "PRI"), column
        assert bool(column.unique) == (row["key"] == "UNI"), column
    assert len(rows) == sum(len(table.columns) for table in t.metadata.tables.values())


def test_every_table_can_be_created_on_mysql() -> None:
    for table in t.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=mysql.dialect()))

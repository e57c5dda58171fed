"""Encode a frame of views as documents: their JSON, their hashes, and their search words."""

from dataclasses import dataclass

import polars as pl

from tis_sync.search.model import HASH_BITS, KEYS_PER_BUCKET, SYNC


@dataclass(frozen=True)
class DocumentForm:
    """How a view becomes a document.

    Attributes:
        key: the integer column by which partitions and buckets are cut.
        fields: the columns that become the JSON object, in this order.
        sorted_by: text columns by which results are sorted (then by id); they are also searched.
        searched: other text or number columns that are searched.

    """

    key: str
    fields: tuple[str, ...]
    sorted_by: tuple[str, ...]
    searched: tuple[str, ...]


def fingerprints(views: pl.DataFrame, form: DocumentForm) -> pl.DataFrame:
    """Encode views as documents without bodies, which is enough for a comparison.

    The hash covers the values of the fields. What is derived from them (words, sort key) only
    changes when this module changes; `ENCODING` must then be increased, which changes the version.

    Args:
        views: a row per document, with `documentId` (String) and the columns of the form.
        form: how a view becomes a document.

    Returns:
        A row per document: id (String), bucket (Int64), hash (Int64).

    """
    return views.select(
        id="documentId",
        bucket=pl.col(form.key) // KEYS_PER_BUCKET,
        hash=(pl.struct(*form.fields).hash(seed=0) % 2**HASH_BITS).cast(pl.Int64),
    )


def encode(views: pl.DataFrame, form: DocumentForm) -> pl.DataFrame:
    """Encode views as documents.

    Args:
        views: a row per document, with `documentId` (String) and the columns of the form.
        form: how a view becomes a document.

    Returns:
        A row per document: id (String), bucket (Int64), hash (Int64), body (String).

    """
    documents = fingerprints(views, form)
    words = pl.concat_str("sort", "others", separator=" ").str.strip_chars(" ")
    return documents.with_columns(
        views.select(
            fields=pl.struct(*form.fields).struct.json_encode().str.head(-1),
            sort=_words(form.sorted_by),
            others=_words(form.searched),
        ).with_columns(terms=words.str.replace_all(" ", '","', literal=True))
    ).select(
        "id",
        "bucket",
        "hash",
        body=pl.concat_str(
            "fields",
            pl.lit(f',"{SYNC}":{{"terms":["'),
            "terms",
            pl.lit('"],"sort":"'),
            "sort",
            pl.lit(" "),
            "id",
            pl.lit('","bucket":'),
            "bucket",
            pl.lit(',"hash":'),
            "hash",
            pl.lit("}}"),
        ),
    )


def _words(columns: tuple[str, ...]) -> pl.Expr:
    """The normalised words of the given columns, as one string."""
    texts = [pl.col(column).cast(pl.String) for column in columns]
    return normalised(pl.concat_str(texts, separator=" ", ignore_nulls=True))


def normalised(text: pl.Expr) -> pl.Expr:
    """Normalise words for search: lower case, no accents, single spaces.

    "O'Brien-Müller" becomes "o brien muller". The words of a query are normalised in the same way.
    """
    return (
        text.str.normalize("NFKD")
        .str.to_lowercase()
        .str.normalize("NFKD")
        .str.replace_all(r"\p{M}", "")
        .str.replace_all(r"[^\p{L}\p{N}]+", " ")
        .str.strip_chars(" ")
    )


def words_of(text: str) -> list[str]:
    """The normalised words of a query text."""
    words: str = pl.select(normalised(pl.lit(text))).item()
    return words.split()

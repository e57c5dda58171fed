"""From a frame of views to documents: encoded, hashed and findable, all in whole columns."""

from dataclasses import dataclass

import polars as pl

from tis_sync.search.model import HASH_BITS, KEYS_A_BUCKET, SYNC


@dataclass(frozen=True)
class DocumentForm:
    """How a view becomes a document.

    Attributes:
        key: the integer column that partitions and buckets are cut by.
        fields: the columns that become the JSON object, in this order.
        sorted_by: text columns that answers are sorted by; the id decides between equals. Their
            words can be searched.
        searched: other text or number columns whose words can be searched.

    """

    key: str
    fields: tuple[str, ...]
    sorted_by: tuple[str, ...]
    searched: tuple[str, ...]


def fingerprints(views: pl.DataFrame, form: DocumentForm) -> pl.DataFrame:
    """The documents of views without their bodies (id, bucket, hash): all a comparison needs.

    The hash is of the fields' values; what is derived from them (words, sort key) changes only
    with this module, and then so does `IndexSpec.version`.

    Args:
        views: a row a document; `documentId` (String) and the columns that the form names.
        form: how.

    """
    return views.select(
        id="documentId",
        bucket=pl.col(form.key) // KEYS_A_BUCKET,
        hash=(pl.struct(*form.fields).hash(seed=0) % 2**HASH_BITS).cast(pl.Int64),
    )


def encode(views: pl.DataFrame, form: DocumentForm) -> pl.DataFrame:
    """Encode views as documents (id, bucket, hash, body; see `tis_sync.search.model`)."""
    marks = fingerprints(views, form)
    words = pl.concat_str("sort", "others", separator=" ").str.strip_chars(" ")
    return marks.with_columns(
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
    """The words of some columns, as one text."""
    texts = [pl.col(column).cast(pl.String) for column in columns]
    return normalised(pl.concat_str(texts, separator=" ", ignore_nulls=True))


def normalised(text: pl.Expr) -> pl.Expr:
    """Words as they are searched: small letters and digits, without accents, one blank between.

    "O'Brien-Müller" is "o brien muller". Queries are normalised by the same function.
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
    """The normalised words of a query's text."""
    words: str = pl.select(normalised(pl.lit(text))).item()
    return words.split()

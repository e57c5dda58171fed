"""Speak to a search server past our own code, as TCS and administrators do."""

import json
from typing import Any
from urllib.request import Request, urlopen

HEADERS = {"content-type": "application/json"}


def send(address: str, method: str, path: str, body: object = None) -> Any:
    """Send a request, and return the decoded answer; a refusal is an HTTPError."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{address}{path}", data, HEADERS, method=method)) as reply:
        return json.load(reply)


def behind(address: str, alias: str) -> list[str]:
    """The indexes behind an alias."""
    return sorted(send(address, "GET", f"/{alias}"))


def tcs_saves_person(address: str, person: int, surname: str) -> None:
    """Save a person in the index `persons` as TCS does at every edit.

    It deletes the person's documents, and saves new ones with random ids and without our fields.
    """
    own = {"query": {"term": {"personId": person}}}
    path = "/persons/_delete_by_query?refresh=true&conflicts=proceed"
    send(address, "POST", path, own)
    document = {"personId": person, "surname": surname, "forenames": "Edited", "trusts": []}
    send(address, "POST", "/persons/_doc?refresh=true", document)

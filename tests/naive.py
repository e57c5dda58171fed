"""The desired states of the jobs in plain Python, record by record, for comparison."""

from collections import defaultdict
from datetime import date, timedelta
from typing import Any

from tests.world import Row, Rows


def by_id(rows: Rows, table: str, key: str = "id") -> dict[Any, Row]:
    return {row[key]: row for row in rows[table]}


def code(text: str | None) -> str | None:
    """A code as MySQL compares it."""
    return None if text is None else text.rstrip(" ").upper()


def same(a: str, b: str) -> bool:
    """Whether two keys are the same for MySQL."""
    return a.rstrip(" ").lower() == b.rstrip(" ").lower()


def is_current(start: date | None, end: date | None, today: date) -> bool:
    return start is not None and end is not None and start <= today <= end


def person_owner(rows: Rows, today: date) -> list[tuple[int, str | None, str | None]]:
    programmes, posts = by_id(rows, "Programme"), by_id(rows, "Post")
    result: list[tuple[int, str | None, str | None]] = []
    for person in rows["Person"]:
        memberships = [
            (
                m["programmeStartDate"],
                m["programmeEndDate"],
                m["uuid"].rstrip(" ").lower(),
                programmes[m["programmeId"]]["owner"],
            )
            for m in rows["ProgrammeMembership"]
            if m["personId"] == person["id"] and m["programmeId"] in programmes
        ]
        placements = [
            (p["dateFrom"], p["dateTo"], p["id"], posts[p["postId"]]["owner"])
            for p in rows["Placement"]
            if p["traineeId"] == person["id"] and p["postId"] in posts
        ]
        memberships = [m for m in memberships if m[3] is not None]
        placements = [p for p in placements if p[3] is not None]
        found: tuple[str | None, str | None] = (None, None)
        for rule, records, kind in (
            ("P1", memberships, "current"),
            ("P2", placements, "current"),
            ("P5", memberships, "future"),
            ("P6", placements, "future"),
            ("P7", memberships, "past"),
            ("P8", placements, "past"),
        ):
            if kind == "current":
                fitting = [r for r in records if is_current(r[0], r[1], today)]
                fitting.sort(key=lambda r: (r[0], r[2]))
            elif kind == "future":
                fitting = [r for r in records if r[0] is not None and r[0] > today]
                fitting.sort(key=lambda r: (r[0], r[2]))
            else:
                fitting = [r for r in records if r[1] is not None and r[1] < today]
                fitting.sort(key=lambda r: (-r[1].toordinal(), r[2]))
            if fitting:
                found = (fitting[0][3], rule)
                break
        result.append((person["id"], *found))
    return sorted(result, key=repr)


def person_trusts(rows: Rows, *bodies: str) -> list[tuple[int, int]]:
    posts = by_id(rows, "Post")
    pairs = set()
    for placement in rows["Placement"]:
        post = posts.get(placement["postId"])
        for body in bodies:
            if post and post[body] is not None and placement["traineeId"] is not None:
                pairs.add((placement["traineeId"], post[body]))
    return sorted(pairs, key=repr)


def post_trusts(rows: Rows, *bodies: str) -> list[tuple[int, int]]:
    pairs = {(p["id"], p[body]) for p in rows["Post"] for body in bodies if p[body] is not None}
    return sorted(pairs, key=repr)


def person_status(
    rows: Rows, today: date, days: list[date], *, every: bool = False
) -> list[tuple[int, str | None]]:
    result = []
    for person in rows["Person"]:
        own = [m for m in rows["ProgrammeMembership"] if m["personId"] == person["id"]]
        touched = any(
            m["programmeStartDate"] == day or m["programmeEndDate"] == day - timedelta(days=1)
            for m in own
            for day in days
        )
        status = person["status"]
        if own and (touched or every):
            training = any(
                is_current(m["programmeStartDate"], m["programmeEndDate"], today) for m in own
            )
            desired = "CURRENT" if training else "INACTIVE"
            if code(status) != desired:
                status = desired
        result.append((person["id"], status))
    return sorted(result, key=repr)


def post_funding(rows: Rows, days: list[date]) -> list[tuple[int, str]]:
    result = []
    for post in rows["Post"]:
        own = [f for f in rows["PostFunding"] if f["postId"] == post["id"]]
        status = post["fundingStatus"]
        for day in days:
            yesterday = day - timedelta(days=1)
            ended = any(f["startDate"] is not None and f["endDate"] == yesterday for f in own)
            over = all(f["endDate"] is not None and f["endDate"] <= yesterday for f in own)
            if ended and over and code(status) != "INACTIVE":
                status = "INACTIVE"
        result.append((post["id"], status))
    return sorted(result, key=repr)


def _membership_status(start: date | None, end: date | None, today: date) -> str:
    if start is None or end is None:
        return "PAST"
    if start <= today <= end:
        return "CURRENT"
    return "FUTURE" if start > today else "PAST"


def person_views(rows: Rows, today: date) -> dict[str, Row]:
    contact, gmc, gdc = (
        by_id(rows, name) for name in ("ContactDetails", "GmcDetails", "GdcDetails")
    )
    owners, specialties, programmes = (
        by_id(rows, name) for name in ("PersonOwner", "Specialty", "Programme")
    )
    documents: dict[str, Row] = {}
    for person in rows["Person"]:
        key = person["id"]
        if key not in contact:
            continue
        names = [contact[key]["forenames"], contact[key]["surname"]]
        memberships = [
            {
                "id": c["id"],
                "personId": key,
                "programmeId": m["programmeId"],
                "programmeName": programmes.get(m["programmeId"], {}).get("programmeName"),
                "programmeNumber": programmes.get(m["programmeId"], {}).get("programmeNumber"),
                "programmeMembershipStatus": _membership_status(
                    m["programmeStartDate"], m["programmeEndDate"], today
                ),
            }
            for c in rows["CurriculumMembership"]
            for m in rows["ProgrammeMembership"]
            if same(c["programmeMembershipUuid"], m["uuid"]) and m["personId"] == key
        ]
        trusts = {r["trustId"] for r in rows["PersonTrust"] if r["personId"] == key}
        base = {
            "personId": key,
            "intrepidId": person["intrepidId"],
            "surname": names[1],
            "forenames": names[0],
            "fullName": " ".join(n for n in names if n is not None)
            if any(n is not None for n in names)
            else None,
            "gmcNumber": gmc.get(key, {}).get("gmcNumber"),
            "gdcNumber": gdc.get(key, {}).get("gdcNumber"),
            "publicHealthNumber": person["publicHealthNumber"],
            "role": person["role"],
            "status": code(person["status"]),
            "currentOwner": owners.get(key, {}).get("owner"),
            "currentOwnerRule": owners.get(key, {}).get("rule"),
            "trusts": [{"personId": key, "trustId": trust} for trust in sorted(trusts)],
            "programmeMemberships": sorted(memberships, key=lambda m: m["id"]),
        }
        placements = [
            p
            for p in rows["Placement"]
            if p["traineeId"] == key and is_current(p["dateFrom"], p["dateTo"], today)
        ]
        fields = ("gradeId", "gradeAbbreviation", "siteId", "siteCode", "placementType")
        unplaced: list[Row | None] = [None]
        for placement in [*placements] or unplaced:
            primary = sorted(
                s["specialtyId"]
                for s in rows["PlacementSpecialty"]
                if placement
                and s["placementId"] == placement["id"]
                and code(s["placementSpecialtyType"]) == "PRIMARY"
            )
            specialty = specialties.get(primary[0], {}).get("name") if primary else None
            placed = {f: placement[f] if placement else None for f in fields}
            identity = f"{key}-{placement['id']}" if placement else str(key)
            documents[identity] = base | placed | {"specialty": specialty}
    return documents


def post_views(rows: Rows, today: date) -> dict[str, Row]:
    contact, specialties = by_id(rows, "ContactDetails"), by_id(rows, "Specialty")
    programmes = by_id(rows, "Programme")
    links: dict[tuple[str, int], list[int]] = defaultdict(list)
    for table, value, kind_column, kind in (
        ("PostSite", "siteId", "postSiteType", "PRIMARY"),
        ("PostGrade", "gradeId", "postGradeType", "APPROVED"),
        ("PostSpecialty", "specialtyId", "postSpecialtyType", "PRIMARY"),
    ):
        for row in rows[table]:
            if code(row[kind_column]) == kind and row[value] is not None:
                links[table, row["postId"]].append(row[value])
    documents: dict[str, Row] = {}
    for post in rows["Post"]:
        key = post["id"]
        trainees = sorted(
            {
                p["traineeId"]
                for p in rows["Placement"]
                if p["postId"] == key
                and p["traineeId"] in contact
                and is_current(p["dateFrom"], p["dateTo"], today)
            }
        )
        surnames = [s for i in trainees if (s := contact[i]["surname"]) is not None]
        forenames = [f for i in trainees if (f := contact[i]["forenames"]) is not None]
        specialty = min(links["PostSpecialty", key], default=None)
        chosen_specialty = specialties.get(specialty, {})
        owned = sorted(
            {
                r["programmeId"]
                for r in rows["ProgrammePost"]
                if r["postId"] == key and r["programmeId"] in programmes
            }
        )
        documents[str(key)] = {
            "id": key,
            "currentTraineeSurnames": ", ".join(surnames) if surnames else None,
            "currentTraineeForenames": ", ".join(forenames) if forenames else None,
            "nationalPostNumber": post["nationalPostNumber"],
            "primarySiteId": min(links["PostSite", key], default=None),
            "approvedGradeId": min(links["PostGrade", key], default=None),
            "primarySpecialtyId": specialty,
            "primarySpecialtyCode": chosen_specialty.get("specialtyCode"),
            "primarySpecialtyName": chosen_specialty.get("name"),
            "programmeNames": [programmes[p]["programmeName"] for p in owned],
            "programmeIds": owned,
            "fundingTypes": sorted(
                {
                    f["fundingType"]
                    for f in rows["PostFunding"]
                    if f["postId"] == key
                    and f["fundingType"] is not None
                    and (f["endDate"] is None or is_current(f["startDate"], f["endDate"], today))
                }
            ),
            "status": code(post["fundingStatus"]),
            "owner": post["owner"],
            "trustIds": sorted({r["trustId"] for r in rows["PostTrust"] if r["postId"] == key}),
        }
    return documents

"""The message contract: the JSON that we receive and send. Field names are in camel case."""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tis_sync.esr.deaneries import DEANERIES
from tis_sync.iso_day import IsoDay

PING = "tis-sync.ping"  # type of the empty messages that the consumer sends to itself


def _blank_to_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _normalise_code(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


Text = Annotated[str | None, BeforeValidator(_blank_to_none)]
Id = Annotated[int, Field(ge=0, lt=2**63)]
Day = Annotated[IsoDay | None, BeforeValidator(_blank_to_none)]
Deanery = Annotated[Literal[DEANERIES], BeforeValidator(_normalise_code)]  # type: ignore[valid-type]


class Message(BaseModel):
    """What all messages have in common. Unknown fields are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, str_strip_whitespace=True
    )


class Address(Message):
    """The address of an applicant."""

    address1: Text = None
    address2: Text = None
    address3: Text = None
    address4: Text = None
    town: Text = None
    county: Text = None
    postcode: Text = None
    country: Text = None


class ProfessionalBody(Message):
    """A registration with a professional body."""

    body: Literal["General Medical Council", "General Dental Council"]
    reg_number: str
    expiry_date: Day = None


class ContactPerson(Message):
    """The person to contact about an applicant."""

    name: Text = None
    tel: Text = None


class AppRecord(Message):
    """A record that another system derived: one placement at one position.

    Only the key and the start date are required. If anything else that ESR requires is missing, the
    record is INVALID_DATA, with every reason, until it is sent again.
    """

    placement_id: Id
    position_id: Id
    position_number: Id
    post_id: Id | None = Field(
        None, description="If missing, the records of a position count as records of one post."
    )
    post_number: Text = Field(None, description="The nationalPostNumber of the post.")
    deanery: Text = Field(
        None,
        description="If missing, the header `deanery` applies; without it, the post number.",
    )
    projected_hire_date: IsoDay = Field(description="The start of the placement.")
    projected_end_date: Day = None
    effective_date: Day = Field(None, description="If missing, the start of the placement.")
    last_name: Text = None
    first_name: Text = None
    middle_names: Text = None
    title: Text = None
    previous_last_name: Text = None
    dob: Day = None
    gender: Text = None
    applicant_email_address: Text = None
    home_tel: Text = None
    mobile_tel: Text = None
    address: Address = Address()
    ethnic_origin_code: Text = None
    nationality: Text = None
    country_of_birth: Text = None
    marital_status: Text = None
    sexual_orientation: Text = None
    religious_belief: Text = None
    disability: Text = None
    professional_bodies: tuple[ProfessionalBody, ...] = ()
    national_training_number: Text = None
    uk_nino: Text = None
    contact_person: ContactPerson = ContactPerson()


class AppFileCommand(Message):
    """Export the applicants of a deanery (`appfilegenerationcommand`)."""

    deanery: Deanery = Field(description="The code of the deanery.")
    day: IsoDay | None = Field(
        None, alias="date", description="The day of the file. If missing, the day of the message."
    )
    new: bool = Field(False, description="Take a new number even if the day already has a file.")


class NotificationFileCommand(AppFileCommand):
    """Export the notifications of a deanery."""

    full: bool = Field(
        False, description="Export all notifications (DNF), not only the unsent ones (DNC)."
    )


class RecordExported(Message):
    """A record is EXPORTED: its file was delivered, and its export was reported to TCS."""

    record_id: str = Field(description="placement-position-number.")
    placement_id: int
    position_id: int
    position_number: int
    post_number: str | None
    deanery: str
    file_name: str
    exported_at: datetime


class FileGenerated(Message):
    """A file is at its destination, and its export was reported to TCS."""

    file_name: str
    file_type: str
    deanery: str
    day: date = Field(alias="date")
    number: int
    records: int
    size: int = Field(description="Bytes.")
    sha256: str
    written_at: datetime

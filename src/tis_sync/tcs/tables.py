"""The tables of TCS that we read or write, as SQLAlchemy Core.

TCS is the system of record, and not ours. We use these declarations to build statements, to check
that a database has what we need (`tis_sync.tcs.schema`), and to create the synthetic database of
the demo. Names, types, nullability and keys are those of the live MySQL schema; `info` says which
texts are compared as keys and which as codes (`tis_sync.tcs.columns`). We write only the
targets of jobs, `PlacementEsrEvent`, `EsrNotification`, and `shedlock` while the Java service is in
use.
"""

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql

from tis_sync.tcs.columns import CODE, KEY

metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s"})

# SQLite only generates keys for a column whose type is exactly INTEGER.
Big = BigInteger().with_variant(Integer(), "sqlite")
Text255 = String(255)
Millis = DateTime().with_variant(mysql.DATETIME(fsp=3), "mysql", "mariadb")
MillisStamp = DateTime().with_variant(mysql.TIMESTAMP(fsp=3), "mysql", "mariadb")
Bit = Boolean().with_variant(mysql.BIT(1), "mysql", "mariadb")
Lifecycle = Enum("DRAFT", "APPROVED", name="lifecycleState")

ContactDetails = Table(
    "ContactDetails",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("surname", Text255),
    Column("forenames", Text255),
    Column("knownAs", Text255),
    Column("maidenName", Text255),
    Column("initials", Text255),
    Column("title", Text255),
    Column("telephoneNumber", Text255),
    Column("mobileNumber", Text255),
    Column("email", Text255),
    Column("workEmail", Text255),
    Column("postCode", Text255),
    Column("legalSurname", Text255),
    Column("legalForenames", Text255),
    Column("address1", Text255),
    Column("address2", Text255),
    Column("address3", Text255),
    Column("address4", Text255),
    Column("country", Text255),
    Column("amendedDate", Millis, nullable=False),
)
CurriculumMembership = Table(
    "CurriculumMembership",
    metadata,
    Column("id", Big, primary_key=True),
    Column("curriculumStartDate", Date),
    Column("curriculumEndDate", Date),
    Column("periodOfGrace", Integer),
    Column("curriculumCompletionDate", Date),
    Column("curriculumId", Big, nullable=False, index=True),
    Column("intrepidId", Text255),
    Column("amendedDate", Millis, nullable=False),
    Column("programmeMembershipUuid", String(36), nullable=False, index=True, info=KEY),
)
EsrNotification = Table(
    "EsrNotification",
    metadata,
    Column("id", Big, primary_key=True),
    Column("notificationTitleCode", Text255, info=CODE),
    Column("deaneryBody", Text255),
    Column("deaneryPostNumber", Text255),
    Column("managingDeaneryBodyCode", Text255, info=CODE),
    Column("occupationCode", Text255),
    Column("hostLeadEmployerStatus", Text255),
    Column("newTrainingPositionLocation", Text255),
    Column("currentTraineeLastName", Text255),
    Column("currentTraineeFirstName", Text255),
    Column("currentTraineeGmcNumber", Text255),
    Column("currentTraineeProjectedEndDate", Date),
    Column("currentTraineeVpdForNextPlacement", Text255),
    Column("currentTraineeWorkingHoursIndicator", Text255),
    Column("nextAppointmentTraineeLastName", Text255),
    Column("nextAppointmentTraineeFirstName", Text255),
    Column("nextAppointmentTraineeGmcNumber", Text255),
    Column("nextAppointmentCurrentPlacementVpd", Text255),
    Column("nextAppointmentProjectedStartDate", Date),
    Column("nextAppointmentTraineeEmailAddress", Text255),
    Column("nextAppointmentTraineeGrade", Text255),
    Column("withdrawnTraineeLastName", Text255),
    Column("withdrawnTraineeFirstName", Text255),
    Column("withdrawnTraineeGmcNumber", Text255),
    Column("withdrawalReason", Text255),
    Column("replacementTraineeLastName", Text255),
    Column("replacementTraineeFirstName", Text255),
    Column("replacementTraineeGmcNumber", Text255),
    Column("replacementTraineeCurrentPlacementVpd", Text255),
    Column("replacementTraineeProjectedHireDate", Date),
    Column("changeOfProjectedHireDate", Date),
    Column("changeOfProjectedEndDate", Date),
    Column("postSpeciality", Text255),
    Column("workingHourIndicator", Text255),
    Column("postVacantAtNextRotation", Text255),
    Column("medicalRotationPostDeleteIndicator", Text255),
    Column("createdDate", TIMESTAMP),
)
GdcDetails = Table(
    "GdcDetails",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("gdcNumber", Text255),
    Column("gdcStatus", Text255),
    Column("gdcStartDate", Date),
    Column("gdcEndDate", Date),
    Column("amendedDate", Millis, nullable=False),
)
GmcDetails = Table(
    "GmcDetails",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("gmcNumber", Text255),
    Column("gmcStatus", Text255),
    Column("gmcStartDate", Date),
    Column("gmcEndDate", Date),
    Column("amendedDate", Millis, nullable=False),
)
Person = Table(
    "Person",
    metadata,
    Column("id", Big, primary_key=True),
    Column("intrepidId", Text255, unique=True),
    Column("addedDate", DateTime, nullable=False),
    Column("amendedDate", Millis, nullable=False),
    Column("role", Text),
    Column("status", Text255, index=True, info=CODE),
    Column("comments", Text),
    Column("inactiveDate", DateTime),
    Column("inactiveNotes", Text),
    Column("publicHealthNumber", Text255),
    Column("regulator", Text255),
)
PersonalDetails = Table(
    "PersonalDetails",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("maritalStatus", Text255),
    Column("dateOfBirth", Date),
    Column("gender", Text255),
    Column("nationality", Text255),
    Column("dualNationality", Text255),
    Column("sexualOrientation", Text255),
    Column("religiousBelief", Text255),
    Column("ethnicOrigin", Text255),
    Column("disability", Text255),
    Column("disabilityDetails", Text),
    Column("nationalInsuranceNumber", Text255),
    Column("amendedDate", Millis, nullable=False),
)
PersonOwner = Table(
    "PersonOwner",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("owner", Text255, index=True),
    Column("rule", Text255),
)
PersonTrust = Table(
    "PersonTrust",
    metadata,
    Column("id", Big, primary_key=True),
    Column("personId", Big, nullable=False, index=True),
    Column("trustId", Big, nullable=False),
    Column("trustCode", Text255),
    Column("trustName", Text255),
)
Placement = Table(
    "Placement",
    metadata,
    Column("id", Big, primary_key=True),
    Column("specialty", Text255),
    Column("dateFrom", Date),
    Column("dateTo", Date),
    Column("placementWholeTimeEquivalent", Float),
    Column("intrepidId", Text255, unique=True),
    Column("traineeId", Big, index=True),
    Column("postId", Big, index=True),
    Column("localPostNumber", Text255),
    Column("siteCode", Text255),
    Column("gradeAbbreviation", Text255),
    Column("placementType", Text255),
    Column("status", Text255),
    Column("trainingDescription", Text),
    Column("siteId", Big),
    Column("gradeId", Big),
    Column("placementAddedDate", DateTime),
    Column("placementAmendedDate", DateTime),
    Column("lifecycleState", Lifecycle, nullable=False, info=CODE),
)
PlacementEsrEvent = Table(
    "PlacementEsrEvent",
    metadata,
    Column("id", Big, primary_key=True),
    Column("placementId", Big, nullable=False, index=True),
    Column("eventDateTime", DateTime, nullable=False),
    Column("filename", Text255, nullable=False),
    Column("positionNumber", Big, nullable=False),
    Column("positionId", Big, nullable=False),
    Column("status", Text255, nullable=False, info=CODE),
)
PlacementSpecialty = Table(
    "PlacementSpecialty",
    metadata,
    Column("placementId", Big, primary_key=True, autoincrement=False),
    Column("specialtyId", Big, primary_key=True, autoincrement=False),
    Column("placementSpecialtyType", Text255, nullable=False, info=CODE),
)
Post = Table(
    "Post",
    metadata,
    Column("id", Big, primary_key=True),
    Column("nationalPostNumber", Text255, index=True),
    Column("status", Text255),
    Column("employingBodyId", Big),
    Column("trainingBodyId", Big),
    Column("oldPostId", Big, index=True),
    Column("newPostId", Big, index=True),
    Column("suffix", Text255),
    Column("owner", Text255),
    Column("postFamily", Text255),
    Column("localPostNumber", Text255),
    Column("trainingDescription", Text),
    Column("intrepidId", Text255, unique=True),
    Column("legacy", Bit, nullable=False),
    Column("bypassNPNGeneration", Bit),
    Column("fundingStatus", Text255, nullable=False, info=CODE),
)
PostEsrEvent = Table(
    "PostEsrEvent",
    metadata,
    Column("id", Big, primary_key=True),
    Column("postId", Big, nullable=False, index=True),
    Column("eventDateTime", DateTime, nullable=False),
    Column("filename", Text255),
    Column("positionNumber", Big, nullable=False),
    Column("positionId", Big, nullable=False, index=True),
    Column("status", Text255, nullable=False, info=CODE),
)
PostFunding = Table(
    "PostFunding",
    metadata,
    Column("id", Big, primary_key=True),
    Column("startDate", Date),
    Column("endDate", Date),
    Column("intrepidId", Text255),
    Column("postId", Big, nullable=False, index=True),
    Column("fundingType", Text255),
    Column("info", Text255),
    Column("fundingBodyId", Text255),
    Column("fundingSubTypeId", String(36)),
    Column("fundingReasonId", String(36)),
)
PostGrade = Table(
    "PostGrade",
    metadata,
    Column("id", Big, primary_key=True),
    Column("postId", Big, nullable=False, index=True),
    Column("gradeId", Big),
    Column("postGradeType", Text255, nullable=False, info=CODE),
)
PostSite = Table(
    "PostSite",
    metadata,
    Column("id", Big, primary_key=True),
    Column("postId", Big, nullable=False, index=True),
    Column("siteId", Big),
    Column("postSiteType", Text255, nullable=False, info=CODE),
)
PostSpecialty = Table(
    "PostSpecialty",
    metadata,
    Column("id", Big, primary_key=True),
    Column("postId", Big, nullable=False, index=True),
    Column("specialtyId", Big, nullable=False, index=True),
    Column("postSpecialtyType", Text255, nullable=False, info=CODE),
)
PostTrust = Table(
    "PostTrust",
    metadata,
    Column("id", Big, primary_key=True),
    Column("postId", Big, nullable=False, index=True),
    Column("trustId", Big, nullable=False),
    Column("trustCode", Text255),
    Column("trustName", Text255),
)
Programme = Table(
    "Programme",
    metadata,
    Column("id", Big, primary_key=True),
    Column("status", Text255),
    Column("owner", Text255),
    Column("programmeName", Text255),
    Column("programmeNumber", Text255),
    Column("intrepidId", Text255, unique=True),
)
ProgrammeMembership = Table(
    "ProgrammeMembership",
    metadata,
    Column("uuid", String(36), primary_key=True, info=KEY),
    Column("programmeMembershipType", Text255),
    Column("programmeStartDate", Date),
    Column("programmeEndDate", Date),
    Column("programmeId", Big, nullable=False, index=True),
    Column("trainingNumberId", Big, index=True),
    Column("personId", Big, nullable=False, index=True),
    Column("rotation", Text255),
    Column("rotationId", Big, index=True),
    Column("trainingPathway", Text255),
    Column("leavingReason", Text255),
    Column("leavingDestination", Text255),
    Column("amendedDate", Millis, nullable=False),
)
ProgrammePost = Table(
    "ProgrammePost",
    metadata,
    Column("programmeId", Big, primary_key=True, autoincrement=False),
    Column("postId", Big, primary_key=True, autoincrement=False),
    Column("addedDate", DateTime, nullable=False),
)
Shedlock = Table(
    "shedlock",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("lock_until", MillisStamp),
    Column("locked_at", MillisStamp),
    Column("locked_by", Text255),
)
Specialty = Table(
    "Specialty",
    metadata,
    Column("id", Big, primary_key=True),
    Column("status", Text255),
    Column("college", Text255),
    Column("specialtyCode", Text255),
    Column("specialtyGroupId", Big, index=True),
    Column("intrepidId", Text255, unique=True),
    Column("name", Text255),
    Column("uuid", String(36), unique=True),
    Column("blockIndemnity", Boolean),
)
TrainingNumber = Table(
    "TrainingNumber",
    metadata,
    Column("id", Big, primary_key=True),
    Column("trainingNumberType", Text255),
    Column("number", Integer),
    Column("appointmentYear", Integer),
    Column("typeOfContract", Text255),
    Column("suffix", Text255),
    Column("programmeId", Big, index=True),
    Column("trainingNumber", String(25)),
    Column("intrepidId", Text255),
)

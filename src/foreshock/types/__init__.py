"""The vocabulary: frozen types, no I/O, no clock."""

from foreshock.types.alert import Alert, AlertKind, digest, fingerprint, rfc3339
from foreshock.types.batch import Batch, Decoded, Dictionary, Samples
from foreshock.types.calls import CALL, Calls
from foreshock.types.columns import Columns, Intake, Presence
from foreshock.types.control import Control, ControlKind
from foreshock.types.frame import WIDTHS, Frame, Rows, Status
from foreshock.types.record import Record
from foreshock.types.series import Kind, Labels, Series, label_text, labels
from foreshock.types.verdict import Scores, Verdict, leading

__all__ = [
    "CALL",
    "WIDTHS",
    "Alert",
    "AlertKind",
    "Batch",
    "Calls",
    "Columns",
    "Control",
    "ControlKind",
    "Decoded",
    "Dictionary",
    "Frame",
    "Intake",
    "Kind",
    "Labels",
    "Presence",
    "Record",
    "Rows",
    "Samples",
    "Scores",
    "Series",
    "Status",
    "Verdict",
    "digest",
    "fingerprint",
    "label_text",
    "labels",
    "leading",
    "rfc3339",
]

"""What the API answers, as types: the schemas of the OpenAPI document are made of these.

Numbers that are not known are null. Times with `_unix_seconds` are Unix seconds; others RFC 3339 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Number = float | None
StatusName = Literal["scored", "warming_up", "missing", "stale", "excluded"]


class Problem(Struct):
    """An error, as RFC 9457 describes them."""

    type: str
    title: str
    status: int
    detail: str
    reason: str | UnsetType = UNSET
    reasons: list[str] | UnsetType = UNSET


class Alive(Struct):
    """The process lives."""

    status: str
    version: str
    uptime_seconds: float


class Ready(Struct):
    """It takes in data and keeps up."""

    status: str


class ActuatorHealth(Struct):
    """Health in the words of Spring Boot."""

    status: Literal["UP", "DOWN"]


class AlertMore(Struct):
    """What Foreshock adds to Alertmanager's alert.

    `entity` and `feature` name the series it is about, as `/api/v1/series` writes them, where it is in view; `label` is
    the last opinion on it.
    """

    episode: str
    kind: Literal["anomaly", "threshold", "silence", "change", "watchdog"]
    strength: float
    notified: bool | None
    group: str
    decidedAt: str
    entity: str | UnsetType = UNSET
    feature: str | UnsetType = UNSET
    label: str | UnsetType = UNSET


class AlertState(Struct):
    """One episode, in Alertmanager's v2 JSON."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str]
    startsAt: str
    endsAt: str
    generatorURL: str
    fingerprint: str
    foreshock: AlertMore


class Alerts(Struct):
    """A page of episodes; `next` is the cursor of the following one."""

    alerts: list[AlertState]
    next: str | None


class EntityState(Struct):
    """How an entity stands: its last row, and the greatest strength in it, ln(score / bar).

    `p_value` is of all primary detectors and features together: it ranks entities.
    """

    entity: str
    labels: dict[str, str]
    last_seen: str
    status: StatusName
    series: int
    strength: Number
    p_value: Number


class Entities(Struct):
    """A page of entities."""

    entities: list[EntityState]
    next_offset: int | None


class Points(Struct):
    """Parallel lists, oldest first."""

    time_unix_seconds: list[float]
    value: list[Number]
    expected: list[Number]
    low: list[Number]
    high: list[Number]
    score: list[Number]
    p_value: list[Number]
    strength: list[Number]
    anomalous: list[bool]
    status: list[StatusName]


class LastVerdict(Struct):
    """The last thing that one detector said of a series."""

    role: Literal["primary", "shadow"]
    time_unix_seconds: float
    expected: Number
    low: Number
    high: Number
    score: Number
    p_value: Number
    strength: Number
    anomalous: bool
    status: StatusName


class SeriesState(Struct):
    """A series; its points, and the last verdict of each detector, when they are asked for."""

    entity: str
    feature: str
    name: str
    attributes: dict[str, str]
    unit: str
    kind: Literal["gauge", "counter"]
    points: Points | UnsetType = UNSET
    detectors: dict[str, LastVerdict] | UnsetType = UNSET


class SeriesPage(Struct):
    """A page of series; `not_viewed` are judged, but not shown."""

    series: list[SeriesState]
    next_offset: int | None
    not_viewed: int


class Share(Struct):
    """A feature's share of a score."""

    feature: str
    share: float


class Finding(Struct):
    """What a detector found anomalous, and what would have been normal, as a sentence.

    `feature` is empty where it judges entities as a whole. `ratio` = score ÷ bar, `strength` its logarithm.
    """

    time: str
    time_unix_nano: int
    entity: str
    feature: str
    detector: str
    role: Literal["primary", "shadow"]
    value: Number
    score: Number
    p_value: Number
    strength: Number
    expected: Number
    low: Number
    high: Number
    unit: str
    ratio: Number
    contributions: list[Share]
    normal: str


class Findings(Struct):
    """What was found, the newest first; `more` = there are earlier ones."""

    verdicts: list[Finding]
    more: bool


class ChartPoints(Struct):
    """Parallel lists, oldest first. Of a bucket, `value` is the mean, `least` and `most` bound it."""

    time_unix_seconds: list[float]
    value: list[Number]
    least: list[Number]
    most: list[Number]
    expected: list[Number]
    low: list[Number]
    high: list[Number]
    anomalous: list[bool]
    status: list[StatusName]


class Opinion(Struct):
    """What one detector says of each point: how many times its bar the score is, and the p-value.

    `whole` = it judges the entity, not the series alone. Null = it did not judge.
    """

    detector: str
    whole: bool
    ratio: list[Number]
    p_value: list[Number]


class ChartPart(Struct):
    """From this time on the answer is made of points (`kept_seconds` 0) or of buckets of so many seconds."""

    from_unix_seconds: float
    kept_seconds: float


class Chart(Struct):
    """A series as a chart shows it: `raw` points one by one, else in buckets.

    `bucket_seconds` = length of the buckets that it was thinned to, 0 = it was not; `parts` says of what it was made.
    `oldest_unix_seconds` = when what is known begins, told where `since` is given.
    """

    entity: str
    feature: str
    title: str
    unit: str
    kind: Literal["gauge", "counter"]
    raw: bool
    bucket_seconds: float
    oldest_unix_seconds: Number
    parts: list[ChartPart]
    points: ChartPoints
    detectors: list[Opinion]


class StripRow(Struct):
    """An entity over the last minutes.

    `ratio` = the greatest score ÷ bar of each minute, `status` of each minute (null = nothing came), `alarmed` =
    minutes (places in the lists) over the level of an alarm.
    """

    entity: str
    labels: dict[str, str]
    status: StatusName
    ratio: list[Number]
    minutes: list[StatusName | None]
    alarmed: list[int]


class StripView(Struct):
    """All entities over the last minutes; the last column is the minute that begins at `last_unix_seconds`."""

    last_unix_seconds: float
    minutes: int
    rows: list[StripRow]


class MapNode(Struct):
    """A service, by its last fingerprint; `outside` = it calls, and nobody calls it."""

    name: str
    entity: str | None
    outside: bool
    status: StatusName
    rate: Number
    error_ratio: Number
    p95_seconds: Number


class MapEdge(Struct):
    """Calls from one service to another, by the last fingerprint."""

    client: str
    server: str
    entity: str
    rate: Number
    error_ratio: Number
    p95_seconds: Number


class ServiceMap(Struct):
    """Who calls whom."""

    nodes: list[MapNode]
    edges: list[MapEdge]


class DetectorState(Struct):
    """A detector: what it is, how many it judges now, what it spent of its budget, and how right it was.

    `model` is its name among the metrics. `achieved_per_day` and `budget_per_day` are notifications a series (or
    entity) and day, `achieved_ratio` their quotient; null = no scored day yet, or no budget. `episodes` it found, how
    many of them are `open` now, and how many labels confirm and deny. A step took `latency_seconds` on average since
    the start; half of the last 1,024 took `latency_p50_seconds` at most, 99 of 100 `latency_p99_seconds`, at
    `rows_per_second` while it worked.
    """

    name: str
    model: str
    type: str
    version: int
    kind: Literal["univariate", "multivariate"]
    role: Literal["primary", "shadow"]
    warm_up_rows: int
    warm_up_seconds: Number
    judging: int
    of: int
    budget_per_day: Number
    achieved_per_day: Number
    achieved_ratio: Number
    anomalies: int
    episodes: int
    open: int
    true_positives: int
    false_positives: int
    latency_seconds: Number
    latency_p50_seconds: Number
    latency_p99_seconds: Number
    rows_per_second: Number


class Detectors(Struct):
    """All detectors, in the order of the settings."""

    detectors: list[DetectorState]


class DroppedOfSource(Struct):
    """Samples of one source that were not used since the start, and why."""

    reason: str
    count: int


class SourceState(Struct):
    """A source: what it brings, how late, and what of it was not used.

    `behind_seconds` = how old its newest sample is, `silent_seconds` since it last sent; half of its last 256 records
    were `delay_p50_seconds` late at most, 99 of 100 `delay_p99_seconds`, from the time of their oldest sample to their
    receipt; samples that come more than `lateness_seconds` behind newer ones are too late. `pace` = samples in each
    minute of the last hour, the last one going on now.
    """

    name: str
    type: str
    state: Literal["live", "late", "silent", "waiting", "ended"]
    problem: str
    lateness_seconds: float
    records: int
    samples: int
    samples_per_second: float
    behind_seconds: Number
    silent_seconds: Number
    delay_p50_seconds: Number
    delay_p99_seconds: Number
    last_received: str | None
    pace: list[int]
    dropped: list[DroppedOfSource]


class DroppedFrom(Struct):
    """How many of these samples were a source's."""

    source: str
    count: int


class Dropped(Struct):
    """Samples that were not used since the start, why, and whose they were; the most first."""

    reason: str
    count: int
    says: str
    sources: list[DroppedFrom]


class Sources(Struct):
    """All sources, what was dropped of all together, and entities that have fallen silent."""

    sources: list[SourceState]
    dropped: list[Dropped]


class Day(Struct):
    """What was announced on one UTC day, by label."""

    day: str
    notified: int
    true_alerts: int
    false_alerts: int
    held_back: int


class BudgetView(Struct):
    """Notifications against the budget; `achieved_ratio` = achieved ÷ budget, by level."""

    environment_per_day: float
    entity_per_day: float
    achieved_ratio: dict[str, float]
    notified_today: int
    held_back_today: int
    days: list[Day]


class Setting(Struct):
    """A setting that counts: its path, its value as YAML, and where it came from."""

    key: str
    value: str
    origin: str


class Settings(Struct):
    """The resolved settings; secrets are `***`."""

    settings: list[Setting]


class ControlRecord(Struct):
    """A control record as it was logged."""

    kind: Literal["maintenance", "deploy", "silence", "expected", "label", "forget"]
    id: str
    effective_unix_nano: int
    until_unix_nano: int = 0
    matchers: dict[str, str] = {}
    episode: str = ""
    label: str = ""
    comment: str = ""
    author: str = ""


class Controls(Struct):
    """Control records, the latest first."""

    controls: list[ControlRecord]


class Me(Struct):
    """Who asks: the name of the token, empty without tokens, and what its role lets it do."""

    name: str
    role: Literal["viewer", "ingest", "operator", "admin"]
    may: list[Literal["read", "ingest", "control"]]


class LabelRequest(Struct, forbid_unknown_fields=True):
    """An opinion on an episode; `none` takes it back, `expected` also makes what is seen now the new normal."""

    label: Literal["true", "false", "expected", "none"]
    comment: Annotated[str, Meta(max_length=2000)] = ""


class FaultKindState(Struct):
    """A kind of fault, and the services that can have it."""

    kind: str
    words: str
    feature: str
    services: list[str]
    usual: list[str]
    duration_seconds: float


class FaultState(Struct):
    """What was broken: `[start, end)`; where it was noticed, when, and by which alert."""

    kind: str
    service: str
    magnitude: Literal["small", "large"]
    start: str
    end: str
    running: bool
    noticed: bool
    delay_seconds: Number
    found_service: str | None
    episode: str | None


class Faults(Struct):
    """The shop of the demo: what can break, and what did; the latest first."""

    kinds: list[FaultKindState]
    services: list[str]
    faults: list[FaultState]


class FaultRequest(Struct, forbid_unknown_fields=True):
    """Something to break now; `duration_seconds` 0 = as is usual for its kind."""

    kind: str
    service: str
    magnitude: Literal["small", "large"] = "large"
    duration_seconds: float = 0.0


class Healed(Struct):
    """How many faults were ended."""

    ended: int


class Accepted(Struct):
    """What became of a body: samples taken, dropped by reason, and what was guessed."""

    accepted: int
    dropped: dict[str, int]
    notes: list[str]


class Runtime(Struct):
    """The runtime in numbers; further keys may stand beside these."""

    version: str
    time: str
    not_ready: list[str]
    views: dict[str, int]
    sources: list[dict[str, Any]]

//! What the four kinds of operation have in common: when they run, and how they are doing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When an operation runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Policy {
    /// Once, as soon as what it runs after is complete.
    #[default]
    Once,
    /// At the times of `schedule`.
    Cron,
    /// When one of the events `on` happens to its Dataset.
    OnEvent,
}

/// What can happen to a Dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Event {
    /// Its stores hold another version than when the operation was first seen, or than the last that it ran on. Where none
    /// was known then, as of a new Dataset, the first that becomes known counts.
    NewVersion,
    /// Nobody has read it for `retention.idleSeconds`; also where that was so before the operation was made.
    DatasetIdle,
    /// A node has joined the cluster since the operation was made; for a DataLoad, one that may hold it, once it has it on a mount.
    NodeAdded,
}

/// The kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationKind {
    DataLoad,
    DataMigrate,
    DataBackup,
    DataProcess,
}

impl OperationKind {
    pub const ALL: [Self; 4] = [Self::DataLoad, Self::DataMigrate, Self::DataBackup, Self::DataProcess];

    pub fn name(self) -> &'static str {
        match self {
            Self::DataLoad => "DataLoad",
            Self::DataMigrate => "DataMigrate",
            Self::DataBackup => "DataBackup",
            Self::DataProcess => "DataProcess",
        }
    }
}

/// Another operation of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationRef {
    /// DataLoad, DataMigrate, DataBackup or DataProcess.
    pub kind: OperationKind,
    /// Name of the operation.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// When an operation runs, after which others, and how often it is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.policy) && self.policy == 'Cron') == has(self.schedule)").message("schedule goes with policy: Cron, and only with it"),
    validation = Rule::new("has(self.schedule) || !has(self.timeZone)").message("timeZone goes with schedule"),
    validation = Rule::new("(has(self.policy) && self.policy == 'OnEvent') == (has(self.on) && self.on.size() > 0)").message("on goes with policy: OnEvent, and only with it: NewVersion, DatasetIdle or NodeAdded"),
)]
pub struct Timing {
    /// `Once` (the default), `Cron` or `OnEvent`.
    #[serde(default)]
    pub policy: Policy,
    /// Minute, hour, day, month and weekday, as in crontab, such as `0 3 * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128))]
    pub schedule: Option<String>,
    /// Name of the time zone that `schedule` is meant in, such as `Europe/Berlin`. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// The events it runs on: `NewVersion` (the stores hold another version than when the operation was first seen, or than
    /// the last it ran on; where none was known then, the first that is), `DatasetIdle` (nobody has read it for
    /// `retention.idleSeconds`, also where that was so before), `NodeAdded` (a node came after the operation was made).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub on: Vec<Event>,
    /// Operations of this namespace that must have ended well since this one last began; of one that runs once, at all.
    /// Circles are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub run_after: Vec<OperationRef>,
    /// Seconds after which a finished operation is deleted, with its Jobs; later where another one runs after it and has
    /// not begun, or runs again and again. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<i64>,
    /// How often a failed run is tried again, each time after twice the wait, from 10 seconds up to 6
    /// minutes. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit: Option<i32>,
    /// Seconds after which a run that has not ended counts as failed. Absent: one day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub active_deadline_seconds: Option<i64>,
    /// Start nothing new. What runs, runs on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// The state of an operation in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationPhase {
    /// Waits: for what it runs after, its time, an event, or the next try.
    #[default]
    Pending,
    /// Runs.
    Executing,
    /// Done. Cron and OnEvent operations go back to Pending instead.
    Complete,
    /// Given up; conditions say why.
    Failed,
}

impl OperationPhase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Executing => "Executing",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
        }
    }

    pub fn is_over(self) -> bool {
        matches!(self, Self::Complete | Self::Failed)
    }
}

/// How far a run is. What nobody knows is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// In words, such as `45%`, or `Unknown`.
    #[schemars(length(max = 32))]
    pub percentage: String,
    /// Bytes done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_done: Option<i64>,
    /// Bytes to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<i64>,
    /// What whoever did the work wants known although it ended well, such as a mount that a backup could not list, or
    /// nodes that a load left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub note: Option<String>,
}

/// Types of an operation's conditions.
pub mod condition {
    /// The last run ended well.
    pub const COMPLETE: &str = "Complete";
    /// Given up.
    pub const FAILED: &str = "Failed";
    /// It cannot start; the message says what it waits for.
    pub const WAITING: &str = "Waiting";
}

/// How an operation is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// The generation of the spec that the run was begun with, or that it waits with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The state in one word.
    #[serde(default)]
    pub phase: OperationPhase,
    /// The state with reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How far the run is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How long the last run took, such as `2m10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub duration: Option<String>,
    /// Number of the run under way or last ended, from 1.
    #[serde(default)]
    pub run: i64,
    /// Failed tries of this run so far.
    #[serde(default)]
    pub failures: i32,
    /// When the run began; to the microsecond, as what it runs after often ends in the same second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// When the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// The scheduled time that was served last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When a run last ended well; to the microsecond, as what runs after it often begins in the same second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<MicroTime>,
    /// What the last run on an event answered, such as `NewVersion 3f2a…`: the same event is not served twice. Before the
    /// first such run of `NewVersion` it is the version that was there when the operation was first seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub served_events: Vec<ServedEvent>,
    /// The Job that does the work; absent for DataLoad, which agents do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub job_name: Option<String>,
}

/// The last event of a kind that was answered by a run, or is no news to the operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedEvent {
    /// The event.
    pub event: Event,
    /// Which one: the version (`Unknown` where none was known yet), `idle`, the newest node's time.
    #[schemars(length(max = 128))]
    pub mark: String,
}

//! What became of a task, as the operator and people read it. Pure.
//!
//! It goes into the pod's termination message, which holds 4,096 bytes; the operator takes numbers and the sentence
//! from there into the operation's status.

use serde::{Deserialize, Serialize};

/// The version of this document.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`].
    pub result: u32,
    pub done: bool,
    /// Of the whole task.
    pub files_total: u64,
    pub bytes_total: u64,
    /// Copied by this try, and read back.
    pub files: u64,
    pub bytes: u64,
    /// Of these, copied by an earlier try that did not bring the file to its end.
    #[serde(default)]
    pub bytes_kept: u64,
    /// There already, read and found as they should be.
    pub files_there: u64,
    pub bytes_there: u64,
    /// Copied again because what was there, or was sent, read otherwise.
    pub files_again: u64,
    /// Links, special files and marks of empty folders.
    pub left_out: u64,
    pub files_failed: u64,
    /// SHA-256 over names and digests of all files, or of the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What a person should know although it went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Report {
    pub fn new() -> Self {
        Self { result: VERSION, ..Self::default() }
    }

    pub fn failed(error: String) -> Self {
        Self { error: Some(error), ..Self::new() }
    }

    /// The message; sentences are cut before the whole is too long for the kubelet to take.
    pub fn message(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// For the log.
    pub fn words(&self) -> String {
        let Self {
            files,
            bytes,
            bytes_kept,
            files_there,
            bytes_there,
            files_again,
            left_out,
            files_total,
            bytes_total,
            ..
        } = self;
        format!(
            "{files} files ({bytes} bytes, {bytes_kept} of them by an earlier try) copied and read back, {files_again} \
             of them again; {files_there} \
             ({bytes_there} bytes) were there; {left_out} links and special files left out; of {files_total} files \
             ({bytes_total} bytes)"
        )
    }
}

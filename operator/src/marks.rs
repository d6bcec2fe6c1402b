//! How objects that the operator makes are marked: labels, finalizer, names.
//!
//! A mark names the Dataset or operation by uid, so that what an earlier object of the same name left behind
//! is never taken for this one's.

/// The one field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "headrace-operator";

/// On every object the operator makes; watches select by it.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "headrace-operator");

/// The selector of [`MANAGED_BY`].
pub const SELECTOR: &str = "app.kubernetes.io/managed-by=headrace-operator";

/// Uid of the Dataset that a volume or claim is made for, or that something was learned of in another namespace.
pub const DATASET_UID: &str = "headrace.io/dataset-uid";
/// Name and namespace of that Dataset.
pub const DATASET_NAME: &str = "headrace.io/dataset";
pub const DATASET_NAMESPACE: &str = "headrace.io/dataset-namespace";

/// Uid of the operation that a Job works for.
pub const OPERATION_UID: &str = "headrace.io/operation-uid";

/// Keeps a Dataset until its claims are gone.
pub const FINALIZER: &str = "headrace.io/volumes";

/// The CSI driver that volumes name.
pub const DRIVER: &str = "csi.headrace.io";

/// Name of the volume for a claim of a Dataset: the same in every process, and no other Dataset's.
pub fn volume(dataset_uid: &str, namespace: &str, claim: &str) -> String {
    // FNV-1a: the name must outlive every version of every hasher in a library.
    let bytes = namespace.bytes().chain([0]).chain(claim.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("headrace-{dataset_uid}-{hash:08x}")
}

/// Name of the Job for a try of a run: short enough for its pods' labels, and no other operation's.
pub fn job(name: &str, uid: &str, run: i64, attempt: i32) -> String {
    let uid: String = uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let end = format!("-{uid}-{run}-{attempt}");
    let room = 63_usize.saturating_sub(end.len());
    let name: String = name.chars().map(|c| if c == '.' { '-' } else { c }).take(room).collect();
    format!("{}{end}", name.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let long = "a".repeat(200);
        let name = job(&long, "0123-4567-89ab", 12, 3);
        assert_eq!(name.len(), 63);
        assert!(name.ends_with("-01234567-12-3"), "{name}");
        assert_ne!(job("x", "u", 1, 11), job("x", "u", 11, 1));
        assert_ne!(volume("u", "a", "bc"), volume("u", "ab", "c"));
    }
}

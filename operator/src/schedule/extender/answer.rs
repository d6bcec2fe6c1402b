//! The extender's answers, written as bytes at once: no object and no allocation for each node.

use serde_json::value::RawValue;

/// `HostPriorityList`. A node that is not in it has no points, so only those with some are written: at 5,000
/// nodes the scheduler decodes some hundred bytes instead of 150 KiB.
pub fn priorities<'a>(scored: impl Iterator<Item = (&'a str, u8)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 10);
    out.push(b'[');
    for (name, score) in scored.filter(|(_, score)| *score > 0) {
        separate(&mut out, b'[');
        out.extend_from_slice(br#"{"Host":""#);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(br#"","Score":"#);
        // 10 is the greatest score.
        if score >= 10 {
            out.push(b'1');
        }
        out.push(b'0' + score % 10);
        out.push(b'}');
    }
    out.push(b']');
    out
}

/// `ExtenderFilterResult` with names.
pub fn names<'a>(kept: impl Iterator<Item = &'a str>, failed: &[(&str, &str)], roughly: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(roughly + 256);
    out.extend_from_slice(br#"{"Nodes":null,"NodeNames":["#);
    for name in kept {
        separate(&mut out, b'[');
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
    }
    out.push(b']');
    finish(out, failed)
}

/// `ExtenderFilterResult` with nodes as they were sent.
pub fn nodes<'a>(
    kept: impl Iterator<Item = &'a RawValue>,
    failed: &[(&str, &str)],
    roughly: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(roughly + 256);
    out.extend_from_slice(br#"{"Nodes":{"metadata":{},"items":["#);
    for node in kept {
        separate(&mut out, b'[');
        out.extend_from_slice(node.get().as_bytes());
    }
    out.extend_from_slice(br#"]},"NodeNames":null"#);
    finish(out, failed)
}

fn finish(mut out: Vec<u8>, failed: &[(&str, &str)]) -> Vec<u8> {
    out.extend_from_slice(br#","FailedNodes":{},"FailedAndUnresolvableNodes":{"#);
    for (name, reason) in failed {
        separate(&mut out, b'{');
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(br#"":"#);
        out.extend_from_slice(serde_json::json!(reason).to_string().as_bytes());
    }
    out.extend_from_slice(br#"},"Error":""}"#);
    out
}

fn separate(out: &mut Vec<u8>, opening: u8) {
    if out.last() != Some(&opening) {
        out.push(b',');
    }
}

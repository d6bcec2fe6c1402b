//! How much a document becomes once it is taken apart, judged before it is.
//!
//! Two bytes, `{}`, may become a volume of 3.1 KiB, and three a list's entry: what is allowed in bytes bounds no
//! memory. Counted are the signs that begin an object or a list, or go before another value. Those within texts count
//! too: the bounds are so far above what people write that a look at each quote is not worth its time.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Volume};

/// Objects and lists of one document. A pod with all that the API server writes into it has some hundred.
pub const OBJECTS: usize = 20_000;

/// Values of one document: fields, and entries of lists.
pub const VALUES: usize = 200_000;

/// Bytes of the largest that an object of a document can become. With [`OBJECTS`] it makes 63 MiB, and less than twice
/// that while a list grows. A value that is no object takes some 128 bytes at most, as a map's entry: 25 MiB. So 150 MiB
/// bound what a document is taken apart into, and a Dataset or pod as people write them takes less than one.
const LARGEST_OBJECT: usize = 3_300;

const _: () = assert!(
    size_of::<Container>() <= LARGEST_OBJECT
        && size_of::<EphemeralContainer>() <= LARGEST_OBJECT
        && size_of::<Volume>() <= LARGEST_OBJECT
);

/// A document that nobody wrote by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has more than {OBJECTS} objects and lists, or more than {VALUES} values: no more are read at once; take out \
     what is not needed"
)]
pub struct Bulky;

/// Says whether the document may be taken apart.
pub fn check(json: &str) -> Result<(), Bulky> {
    let objects = json.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    let commas = json.bytes().filter(|byte| *byte == b',').count();
    // Each value but the document itself stands behind one of these, or behind a key that does.
    if objects > OBJECTS || objects + commas > VALUES { Err(Bulky) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_grow_out_of_few_bytes_is_told_before_it_does() {
        let list = |entry: &str, count: usize| format!("[{}]", vec![entry; count].join(","));
        for (entry, most) in [
            ("{}", OBJECTS - 1),
            ("[]", OBJECTS - 1),
            (r#"{"":0}"#, OBJECTS - 1),
            ("\"\"", VALUES),
            ("0", VALUES),
        ] {
            assert_eq!(check(&list(entry, most)), Ok(()), "{entry}");
            assert_eq!(check(&list(entry, most + 1)), Err(Bulky), "{entry}");
        }
        let map: Vec<String> = (0..=VALUES).map(|key| format!("\"{key}\":0")).collect();
        assert_eq!(check(&format!("{{{}}}", map.join(","))), Err(Bulky));
    }
}

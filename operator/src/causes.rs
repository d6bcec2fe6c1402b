//! An error with its causes, on one line for a log.

use std::error::Error;

/// What each cause adds; those that repeat what lies above them add nothing.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Because(&'static str, #[source] Option<Box<Because>>);

    #[test]
    fn each_cause_is_said_once() {
        let deepest = Because("no route", None);
        let middle = Because("cannot connect: no route", Some(Box::new(deepest)));
        let error = Because("the lease was not read", Some(Box::new(middle)));
        assert_eq!(chain(&error), "the lease was not read: cannot connect: no route");
    }
}

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

    #[derive(Debug)]
    struct Because(&'static str, Option<Box<Because>>);

    impl std::fmt::Display for Because {
        fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            out.write_str(self.0)
        }
    }

    impl Error for Because {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &dyn Error)
        }
    }

    #[test]
    fn each_cause_is_said_once() {
        let deepest = Because("no route", None);
        let middle = Because("cannot connect: no route", Some(Box::new(deepest)));
        let error = Because("the lease was not read", Some(Box::new(middle)));
        assert_eq!(chain(&error), "the lease was not read: cannot connect: no route");
    }
}

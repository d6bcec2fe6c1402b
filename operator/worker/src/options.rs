//! What the options of a store mean: names as Headrace, Fluid and its runtimes have them, onto what S3 needs.

use std::collections::BTreeMap;

use crate::hush::Hush;

/// What speaks S3 needs to know beside bucket and folder. What is absent comes from the pod's own surroundings
/// (AWS_… variables, a web identity), as every client of S3 has it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub access_key: Option<String>,
    pub secret_key: Option<String>,
    pub token: Option<String>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
    /// The bucket is part of the host, not of the path.
    pub virtual_hosted: bool,
    /// Ask without signing.
    pub anonymous: bool,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { access_key, secret_key, token, region, endpoint: _, virtual_hosted, anonymous } = self;
        f.debug_struct("Settings")
            .field("keys", &(access_key.is_some(), secret_key.is_some(), token.is_some()))
            .field("region", region)
            .field("virtual_hosted", virtual_hosted)
            .field("anonymous", anonymous)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error(
        "option {name} is not known to S3; known are access_key_id, secret_access_key, session_token, region, \
         endpoint, virtual_hosted_style and anonymous"
    )]
    Unknown { name: String },
    #[error("option {name} is given twice, under two names")]
    Twice { name: String },
    #[error("option {name} must be true or false")]
    Flag { name: String },
    #[error("option {name} is empty, or holds a character that no such value has")]
    Value { name: String },
    #[error("endpoint must be a URL such as https://s3.example.com, without user, query or fragment")]
    Endpoint,
    #[error("access_key_id and secret_access_key go together: give both, or neither")]
    Half,
}

/// Options by name and value.
pub fn settings(options: &BTreeMap<String, String>) -> Result<Settings, OptionError> {
    let mut found = Settings::default();
    let (mut hosted, mut anonymous) = (None, None);
    for (name, value) in options {
        let shown = || crate::name::shown(name.as_bytes());
        // A Secret that was made from a file ends with a newline.
        let value = value.trim();
        if value.is_empty() || value.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(OptionError::Value { name: shown() });
        }
        let field = match plain(name) {
            Some("accesskeyid" | "accesskey" | "accessid") => &mut found.access_key,
            Some("secretaccesskey" | "secretkey" | "accesskeysecret") => &mut found.secret_key,
            Some("sessiontoken" | "securitytoken") => &mut found.token,
            Some("region" | "defaultregion") => &mut found.region,
            Some("endpoint" | "endpointurl") => &mut found.endpoint,
            Some("virtualhostedstyle" | "virtualhostedstylerequest") => &mut hosted,
            Some("anonymous" | "skipsignature" | "nosignrequest") => &mut anonymous,
            _ => return Err(OptionError::Unknown { name: shown() }),
        };
        if field.replace(value.to_owned()).is_some() {
            return Err(OptionError::Twice { name: shown() });
        }
    }
    let flag = |name: &str, value: Option<String>| match value.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(OptionError::Flag { name: name.into() }),
    };
    found.virtual_hosted = flag("virtual_hosted_style", hosted)?;
    found.anonymous = flag("anonymous", anonymous)?;
    if found.access_key.is_some() != found.secret_key.is_some() {
        return Err(OptionError::Half);
    }
    if found.endpoint.as_deref().is_some_and(|endpoint| !is_endpoint(endpoint)) {
        return Err(OptionError::Endpoint);
    }
    Ok(found)
}

fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['@', '?', '#']))
}

/// What other programs put before a name, in the letters of [`plain`].
const PREFIXES: [&str; 7] = ["", "aws", "s3", "s3a", "fss3a", "alluxiounderfss3", "minio"];

const NAMES: [&str; 17] = [
    "accesskeyid",
    "accesskey",
    "accessid",
    "secretaccesskey",
    "secretkey",
    "accesskeysecret",
    "sessiontoken",
    "securitytoken",
    "region",
    "defaultregion",
    "endpoint",
    "endpointurl",
    "virtualhostedstyle",
    "virtualhostedstylerequest",
    "anonymous",
    "skipsignature",
    "nosignrequest",
];

/// `aws.accessKeyId`, `fs.s3a.access.key` and `AWS_ACCESS_KEY_ID` are one name.
fn plain(name: &str) -> Option<&'static str> {
    let letters = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase());
    let letters: String = letters.collect();
    NAMES
        .into_iter()
        .find(|known| letters.strip_suffix(known).is_some_and(|before| PREFIXES.contains(&before)))
}

/// Whether an option is meant for S3 here, or may say which server it is: the rest is other clients' tuning.
pub fn concerns(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    plain(name).is_some() || lower.contains("endpoint") || lower.contains("region")
}

impl Settings {
    /// Whether a bucket's name means one bucket to both, as far as they say. Without an endpoint the name is the whole
    /// of AWS's, but in regions that are a world of their own (China's, GovCloud's).
    pub fn one_server(&self, other: &Self) -> bool {
        let host = |settings: &Self| {
            settings.endpoint.as_ref().map(|endpoint| endpoint.trim_end_matches('/').to_ascii_lowercase())
        };
        let apart = |one: &String| other.region.as_ref().is_some_and(|region| region != one);
        host(self) == host(other) && (self.endpoint.is_some() || !self.region.as_ref().is_some_and(apart))
    }

    /// What must stand in no sentence.
    pub fn hush(&self) -> Hush {
        Hush::new([&self.access_key, &self.secret_key, &self.token].into_iter().flatten().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Settings, OptionError> {
        settings(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn names_of_several_worlds_mean_the_same() {
        let plain = of(&[("access_key_id", "id"), ("secret_access_key", "secret\n")]).unwrap();
        for (id, secret) in [
            ("aws.accessKeyId", "aws.secretKey"),
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            ("access-key", "secret-key"),
            ("fs.s3a.access.key", "fs.s3a.secret.key"),
            ("s3.access-key-id", "s3.secret-access-key"),
        ] {
            assert_eq!(of(&[(id, "id"), (secret, "secret")]).unwrap(), plain, "{id}");
        }
        let all =
            of(&[("region", "r"), ("alluxio.underfs.s3.endpoint", "http://h:1"), ("anonymous", "true")]);
        let all = all.unwrap();
        assert_eq!((all.endpoint.as_deref(), all.anonymous), (Some("http://h:1"), true));
        assert!(!format!("{plain:?}").contains("secret\""));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value() {
        assert!(matches!(of(&[("colour", "x")]), Err(OptionError::Unknown { .. })));
        assert!(matches!(of(&[("access_key_id", "geheim")]), Err(OptionError::Half)));
        assert!(matches!(of(&[("region", "a"), ("aws_region", "b")]), Err(OptionError::Twice { .. })));
        assert!(matches!(of(&[("anonymous", "maybe")]), Err(OptionError::Flag { .. })));
        for bad in ["ftp://x", "https://", "https://user:geheim@host", "https://h?x", "host:9000"] {
            let error = of(&[("endpoint", bad)]).unwrap_err();
            assert_eq!(error, OptionError::Endpoint, "{bad}");
            assert!(!error.to_string().contains("geheim"));
        }
        assert!(matches!(
            of(&[("access_key_id", "a b"), ("secret_key", "c")]),
            Err(OptionError::Value { .. })
        ));
    }
}

//! Which options hold secrets, as far as names and values tell. Pure.
//!
//! Everybody who may read a Dataset reads its options. Names are those of s3fs, mount-s3, goofys, JuiceFS, Alluxio, Curve,
//! CubeFS, JindoFS, EFC and Hadoop's connectors; a name that says where a secret is, or whose, is none.

/// Why an option's value is not for everybody to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    ByName,
    /// The value is a URL with a password in it, as JuiceFS's metaurl may be.
    Password,
}

/// Letters and digits that stand in the names of secrets. An "access key" is an identifier to S3 and the secret to Azure, and
/// no name tells which; with an "id" behind it, it is an identifier to all.
const HOLDS: [&str; 16] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "privatekey",
    "credential",
    "accesskey",
    "accountkey",
    "sharedkey",
    "apikey",
    "clientkey",
    "customerkey",
    "encryptionkey",
    "encryptkey",
    "signingkey",
    "authkey",
];

/// Whole words that are secrets: Curve's `s3.sk`, Azure's `fs.azure.sas.…`, mount.cifs's `pass`.
const WORDS: [&str; 5] = ["sk", "sas", "pass", "pwd", "psk"];

/// At the end of a name: what `token_path`, `passwd_file`, `accessKeyId` and `credentials.provider` name is no secret.
const HARMLESS: [&str; 24] = [
    "path",
    "file",
    "dir",
    "folder",
    "id",
    "name",
    "type",
    "provider",
    "class",
    "endpoint",
    "url",
    "uri",
    "host",
    "port",
    "ttl",
    "timeout",
    "interval",
    "expiry",
    "expiration",
    "enabled",
    "mode",
    "size",
    "length",
    "algorithm",
];

/// Google's variable, whose value is a path.
const PATHS: [&str; 1] = ["applicationcredentials"];

/// What a switch may be set to: `use_session_token=1` is no token.
const SWITCH: [&str; 9] = ["", "true", "false", "yes", "no", "on", "off", "0", "1"];

pub fn found(name: &str, value: &str) -> Option<Secret> {
    let letters: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    if password(letters == "metaurl", value) {
        return Some(Secret::Password);
    }
    if SWITCH.contains(&value.trim().to_ascii_lowercase().as_str()) {
        return None;
    }
    // The second of two: JuiceFS's `secret-key2`.
    let letters = letters.trim_end_matches(|c: char| c.is_ascii_digit());
    if HARMLESS.iter().chain(&PATHS).any(|end| letters.ends_with(end)) {
        return None;
    }
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase);
    // goofys's `sse-c` is the key itself.
    let by_name = HOLDS.iter().any(|word| letters.contains(word))
        || letters.ends_with("token")
        || letters == "ssec"
        || words.any(|word| WORDS.contains(&&*word));
    by_name.then_some(Secret::ByName)
}

/// Whether it is a URL with `user:password@`. What a metadata engine takes for the password may hold any sign.
fn password(is_metaurl: bool, value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = if is_metaurl { rest } else { rest.split(['/', '?', '#']).next().unwrap_or(rest) };
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "secret",
            "aws.secretKey",
            "AWS_SECRET_ACCESS_KEY",
            "secret-key2",
            "fs.oss.accessKeySecret",
            "fs.s3a.secret.key",
            "jindo.s3.access.secret",
            "fs.azure.account.oauth2.client.secret",
            "efc.nas.accessKeySecret",
            "access_key",
            "access-key",
            "fs.azure.account.key.acct.blob.core.windows.net",
            "fs.azure.sas.container.acct",
            "s3.sk",
            "s3_sk",
            "token",
            "session_token",
            "session-token",
            "aws.sessionToken",
            "fs.oss.securityToken",
            "credential",
            "credentials",
            "fs.adl.oauth2.credential",
            "passphrase",
            "password",
            "passwd",
            "pass",
            "private_key",
            "privateKey",
            "clientKey",
            "sse-c",
            "sse_customer_key",
            "api-key",
        ] {
            assert_eq!(found(name, "hunter2"), Some(Secret::ByName), "{name}");
        }
    }

    #[test]
    fn harmless_names_are_let_be() {
        for name in [
            "aws.accessKeyId",
            "AWS_ACCESS_KEY_ID",
            "fs.oss.accessKeyId",
            "fs.azure.account.oauth2.client.id",
            "s3.ak",
            "token_path",
            "token-file",
            "passwd_file",
            "secretfile",
            "key_file",
            "keyring",
            "private_key_path",
            "encrypt-rsa-key",
            "ssh_dir",
            "fs.gcs.credential.path",
            "fs.oss.credentials.provider",
            "fs.azure.sas.token.provider.type",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "secret_name",
            "token_ttl",
            "endpoint",
            "region",
            "profile",
            "bucket",
            "storage",
            "cache-dir",
            "vers",
            "sec",
            "nconnect",
            "max_tokens",
            "task",
            "bypass",
            "compass.mode",
        ] {
            assert_eq!(found(name, "hunter2"), None, "{name}");
        }
        for value in ["", "1", "true", "False", "off"] {
            assert_eq!(found("use_session_token", value), None, "{value}");
        }
    }

    #[test]
    fn a_url_with_a_password_is_a_secret_whatever_its_name() {
        for (name, value) in [
            ("metaurl", "redis://:hunter2@host:6379/1"),
            ("metaurl", "mysql://user:hun/ter2@(host:3306)/juicefs"),
            ("meta-url", "postgres://user:p@ss@host/db"),
            ("endpoint", "http://user:hunter2@minio:9000"),
        ] {
            assert_eq!(found(name, value), Some(Secret::Password), "{value}");
        }
        for (name, value) in [
            ("metaurl", "redis://host:6379/1"),
            ("metaurl", "redis://user@host:6379/1"),
            ("metaurl", "redis://:@host/1"),
            ("metaurl", "sqlite3:///var/lib/meta.db"),
            ("metaurl", "tikv://a:2379,b:2379/jfs"),
            ("endpoint", "http://minio:9000/a:b@c"),
            ("note", "user:password@host"),
        ] {
            assert_eq!(found(name, value), None, "{value}");
        }
    }
}

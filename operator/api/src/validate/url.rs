//! URLs of stores.
//!
//! A mount of the node that an agent watches is named by its source in mountinfo: `nfs://nas/export` is
//! `nas:/export`, `juicefs://data` is `JuiceFS:data`, and anything else is `mounted://SOURCE/folder` with what
//! is not allowed in a host percent-encoded.

/// What a store speaks, as far as the name goes.
const SCHEMES: [&str; 22] = [
    "s3", "gs", "gcs", "az", "abfs", "abfss", "wasbs", "oss", "cos", "cosn", "obs", "hdfs", "webhdfs",
    "http", "https", "nfs", "juicefs", "lustre", "cephfs", "pvc", "local", "mounted",
];

/// Those whose URLs are `abfss://container@account.dfs.core.windows.net/folder`: no user's name stands before the '@'.
const AZURE: [&str; 3] = ["abfs", "abfss", "wasbs"];

/// A store's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    pub scheme: String,
    /// Host and port, bucket, claim or source; empty for `local`.
    pub authority: String,
    /// Without slashes at either end; empty: all of it.
    pub path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("it has no scheme: write it like s3://bucket/folder")]
    Shape,
    #[error(
        "{scheme}:// is no store that is known; what a node mounts by a name of its own, such as a ThinRuntime's, is \
         mounted://SOURCE/folder with the SOURCE of /proc/mounts, a slash in it as %2F; known are {}",
        SCHEMES.join(", ")
    )]
    Scheme { scheme: String },
    #[error(
        "it is Fluid's reference to another Dataset, which is a grant here: have that one's owner name this namespace in \
         its spec.sharing.grants, and use the claim that is then made here"
    )]
    Reference,
    #[error(
        "it does not say which JuiceFS: Fluid takes the name from a Secret, and nodes know a mount by it alone; write \
         juicefs://NAME/folder where /proc/mounts has JuiceFS:NAME"
    )]
    Juicefs,
    #[error("it holds a user name or password: name the Secret in encryptOptions instead")]
    Credentials,
    #[error("it names no {what}: write it like {example}")]
    Authority { what: &'static str, example: &'static str },
    #[error("it holds '..', a control character or a space: write the path out")]
    Path,
    #[error("it has a query or fragment ('?', '#'): put options into options")]
    Query,
    #[error("the percent-encoding in it is broken: write %25 for a percent sign")]
    Encoding,
    #[error(
        "its host and port cannot be told: write nfs://host/export, nfs://host:2049/export or nfs://[fd00::1]/export"
    )]
    Host,
}

impl StoreUrl {
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Shape)?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "dataset" {
            return Err(UrlError::Reference);
        }
        if !SCHEMES.contains(&scheme.as_str()) {
            return Err(UrlError::Scheme { scheme: scheme.chars().take(32).collect() });
        }
        if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(UrlError::Path);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let container = AZURE.contains(&scheme.as_str()) && authority.split_once('@').is_some_and(container);
        if authority.contains('@') && !container {
            return Err(UrlError::Credentials);
        }
        if rest.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        if path.split('/').any(|part| part == "..") {
            return Err(UrlError::Path);
        }
        let wanted = match scheme.as_str() {
            "local" => None,
            "pvc" => Some(("claim", "pvc://claim/folder")),
            "mounted" => Some(("mount source", "mounted://nas:%2Fexport/folder")),
            "juicefs" if authority.is_empty() => return Err(UrlError::Juicefs),
            "juicefs" => Some(("file system", "juicefs://data/folder")),
            "http" | "https" | "nfs" | "lustre" | "cephfs" | "hdfs" | "webhdfs" => {
                Some(("host", "https://host/folder"))
            }
            _ => Some(("bucket", "s3://bucket/folder")),
        };
        match wanted {
            Some((what, example)) if authority.is_empty() || authority.starts_with(':') => {
                return Err(UrlError::Authority { what, example });
            }
            None if !authority.is_empty() || path.is_empty() => {
                return Err(UrlError::Authority { what: "absolute folder", example: "local:///mnt/data" });
            }
            _ => {}
        }
        if scheme == "mounted" {
            decode(authority)?;
        }
        let mut path = path.trim_matches('/').to_owned();
        if scheme == "nfs" {
            if !is_host(authority) {
                return Err(UrlError::Host);
            }
            // As the kernel will write it in mountinfo.
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            path = parts.join("/");
        }
        Ok(Self { scheme, authority: authority.into(), path })
    }

    /// The mount of a node that this names, as (source in mountinfo, folder below its root); none where the
    /// store is reached over its own protocol only.
    pub fn mounted(&self) -> Option<(String, String)> {
        match self.scheme.as_str() {
            // Mountinfo names the server without its port: two on one host are one to it.
            "nfs" => {
                let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
                let host = self.authority.rsplit_once(':').filter(|(_, end)| port(end));
                let host = host.map_or(&*self.authority, |(host, _)| host);
                Some((format!("{host}:/{}", self.path), String::new()))
            }
            "juicefs" => Some((format!("JuiceFS:{}", self.authority), self.path.clone())),
            "mounted" => Some((decode(&self.authority).ok()?, self.path.clone())),
            _ => None,
        }
    }
}

/// Whether it is a host, or an IPv6 address in brackets, and perhaps a port.
fn is_host(authority: &str) -> bool {
    let (good, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            let address = host.split_once('%').map_or(host, |(address, _)| address);
            (address.parse::<std::net::Ipv6Addr>().is_ok(), rest)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            (!host.is_empty() && !host.starts_with('-') && host.bytes().all(plain), port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) => {
            port.parse::<u16>().is_ok_and(|port| port > 0) && port.bytes().all(|b| b.is_ascii_digit())
        }
        None => port.is_empty(),
    };
    good && port
}

/// Whether what stands on both sides of an '@' can be a container and an account's host.
fn container((name, host): (&str, &str)) -> bool {
    !name.is_empty() && !name.contains(':') && !host.is_empty() && !host.contains('@')
}

fn decode(text: &str) -> Result<String, UrlError> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let hex = text.get(at + 1..at + 3).ok_or(UrlError::Encoding)?;
            let value = u8::from_str_radix(hex, 16).map_err(|_| UrlError::Encoding)?;
            if hex.starts_with('+') || value == 0 {
                return Err(UrlError::Encoding);
            }
            out.push(value);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8(out).map_err(|_| UrlError::Encoding)
}

//! URLs of the stores that the worker speaks, and paths in them, taken apart. Pure.

use crate::name::{Name, NameError, decoded, shown};

/// A path below a folder: slashes at its ends mean nothing.
pub fn relative(path: &str) -> Result<Option<Name>, NameError> {
    let path = path.trim_matches('/');
    if path.is_empty() { Ok(None) } else { Name::parse(path.as_bytes()).map(Some) }
}

/// Server and file of a web URL; none where it is none.
pub fn web(uri: &str) -> Option<Result<(String, Name), String>> {
    let (scheme, rest) = uri.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if !["http", "https"].contains(&scheme.as_str()) {
        return None;
    }
    Some(on_web(&scheme, rest))
}

fn on_web(scheme: &str, rest: &str) -> Result<(String, Name), String> {
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let space = rest.chars().any(|c| c.is_control() || c.is_whitespace());
    if space || host.is_empty() || rest.contains(['@', '?', '#', '\\']) {
        let why = "it has no host, or a user, query, fragment or space, which could not be kept out of logs";
        return Err(why.into());
    }
    if path.ends_with('/') {
        return Err("it names a folder, and a web server does not tell what is in one: name a file".into());
    }
    // What is written in percent is one byte of the file's name.
    let file = decoded(path).ok_or("it names no file: write it like https://host/folder/file")?;
    Ok((format!("{scheme}://{host}"), file))
}

/// The bucket and folder of `s3://bucket/folder`.
pub fn bucket(uri: &str) -> Result<(String, Option<Name>), String> {
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
    if !scheme.eq_ignore_ascii_case("s3") {
        return Err(format!(
            "the worker copies between s3:// and folders (Datasets, pvc://), and from http:// and https://, and not \
             {}://; mount that store as a Dataset, or set spec.image to one that speaks it",
            shown(scheme.as_bytes())
        ));
    }
    if rest.contains(['@', '?', '#']) || rest.chars().any(char::is_control) {
        return Err("it holds a user, query, fragment or control character".into());
    }
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if bucket.is_empty() || bucket.len() > 63 || bucket.starts_with('.') || !bucket.chars().all(good) {
        return Err("it names no bucket: write it like s3://bucket/folder".into());
    }
    let prefix = relative(path).map_err(|why| why.to_string())?;
    Ok((bucket.to_owned(), prefix))
}

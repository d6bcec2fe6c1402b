//! Stores and networks at their worst: errors, broken answers, altered bytes, names that lead out, silence.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::server::{Server, put};
use super::spoiler::{Rule, Spoiler, Trouble};
use super::worker::{bucket, folder, migrate, run};

fn rule(begins: &str, trouble: Trouble, times: usize) -> Rule {
    Rule { begins: begins.into(), trouble, times }
}

#[test]
fn what_passes_is_outlasted() {
    let server = Server::start();
    let (from, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let large: Vec<u8> = (0..12_000_000u32).map(|at| (at / 3) as u8).collect();
    put(from.path(), "large", &large);
    let spoiler = Spoiler::start(
        server.at,
        vec![
            rule("PUT ", Trouble::status("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"), 2),
            rule("GET /bucket/copy/large", Trouble::Cut(5_000_000), 1),
            rule("GET ", Trouble::status("500 Internal Server Error", ""), 1),
        ],
    );
    run(&migrate(&folder(&from), &bucket("TO", "s3://bucket/copy", spoiler.at))).well();
    assert_eq!(spoiler.spoiled.load(Ordering::Relaxed), 4);
    let spoiler = Spoiler::start(server.at, vec![rule("GET /bucket/copy/large", Trouble::Cut(3_000_000), 3)]);
    run(&migrate(&bucket("FROM", "s3://bucket/copy", spoiler.at), &folder(&back))).well();
    assert_eq!(std::fs::read(back.path().join("large")).unwrap(), large);
    assert!(spoiler.spoiled.load(Ordering::Relaxed) >= 2);
}

#[test]
fn bytes_that_come_back_altered_do_not_count() {
    let server = Server::start();
    let from = tempfile::tempdir().unwrap();
    put(from.path(), "a", &[3; 100_000]);
    let flip = |times| vec![rule("GET /bucket/copy/a", Trouble::Flip(60_000), times)];
    let spoiler = Spoiler::start(server.at, flip(1));
    let once = run(&migrate(&folder(&from), &bucket("TO", "s3://bucket/copy", spoiler.at))).well();
    assert_eq!((once.number("files"), once.number("filesAgain")), (1, 1), "{}", once.report);

    let spoiler = Spoiler::start(server.at, flip(100));
    put(from.path(), "a", &[4; 100_000]);
    let ever = run(&migrate(&folder(&from), &bucket("TO", "s3://bucket/copy", spoiler.at)));
    assert_eq!(ever.code, Some(1));
    assert!(ever.error().contains("checksums differ"), "{}", ever.error());
    assert!(!server.bucket().join("copy/a").exists(), "a copy that nobody could read is not left");
}

#[test]
fn names_that_lead_out_stay_in() {
    let key = |key: &str| {
        format!(
            "<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;e&quot;</ETag></Contents>"
        )
    };
    for bad in ["../../escaped", "a/../../escaped", "/tmp/escaped", "a//escaped", "a/./escaped"] {
        let list = format!("<ListBucketResult>{}</ListBucketResult>", key(bad));
        let spoiler = Spoiler::start(
            "127.0.0.1:9".parse().unwrap(),
            vec![
                rule("GET /bucket?", Trouble::status("200 OK", &list), 99),
                rule(
                    "GET /bucket/",
                    Trouble::status(
                        "200 OK\r\netag: \"e\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT",
                        "x",
                    ),
                    99,
                ),
                rule(
                    "HEAD ",
                    Trouble::status(
                        "200 OK\r\netag: \"e\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT",
                        "",
                    ),
                    99,
                ),
            ],
        );
        let home = tempfile::tempdir().unwrap();
        let to = serde_json::json!({"folder": home.path().join("target")});
        std::fs::create_dir(home.path().join("target")).unwrap();
        let refused = run(&migrate(&bucket("FROM", "s3://bucket", spoiler.at), &to));
        let inside = bad.starts_with("/tmp");
        assert!(inside || refused.code == Some(2), "{bad}: {} {}", refused.report, refused.log);
        assert!(
            !home.path().join("escaped").exists() && !std::path::Path::new("/tmp/escaped").exists(),
            "{bad}"
        );
    }
}

#[test]
fn a_store_that_is_gone_is_told_in_bounded_time() {
    let from = tempfile::tempdir().unwrap();
    put(from.path(), "a", b"a");
    let gone = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let began = Instant::now();
    let failed = run(&migrate(&folder(&from), &bucket("TO", "s3://bucket/copy", gone)));
    assert_eq!(failed.code, Some(1));
    assert!(failed.error().contains("does not answer"), "{}", failed.error());
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}

//! Sources that are written while they are copied: noticed, said, and nothing of it left at the target.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use worker::copy::{self, CopyError, Done, Ground, MEMORY};
use worker::entry::Entry;
use worker::name::Name;
use worker::place::folder::Folder;
use worker::place::{Place, PlaceError};
use worker::plan::Item;
use worker::stop::Stop;

use super::server::{Server, put};
use super::spoiler::{Rule, Spoiler, Trouble};
use super::worker::{bucket, folder, migrate, run};

fn ground(from: &Path, to: &Path) -> Ground {
    let open = |at: &Path| Place::Folder(Folder::open(at, None, false).unwrap());
    Ground {
        from: open(from),
        to: open(to),
        home: Name::parse(b".headrace-worker/x").unwrap(),
        process: 1,
        memory: Arc::new(Semaphore::new(MEMORY as usize)),
        interval: Duration::ZERO,
        stop: Stop::new().1,
    }
}

async fn item(ground: &Ground, name: &str) -> Item {
    let name = Name::parse(name.as_bytes()).unwrap();
    let seen = ground.from.look(&name).await.unwrap().unwrap();
    Item { entry: Entry { name: name.clone(), seen }, target: name, record: None }
}

#[tokio::test]
async fn what_is_another_file_than_was_listed_is_not_copied() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ground = ground(from.path(), to.path());
    for name in ["grown", "same size", "gone", "empty and gone"] {
        put(from.path(), name, if name.starts_with("empty") { b"" } else { b"before" });
    }
    let mut items = Vec::new();
    for name in ["grown", "same size", "gone", "empty and gone"] {
        items.push(item(&ground, name).await);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    put(from.path(), "grown", b"before and after");
    put(from.path(), "same size", b"after!");
    std::fs::remove_file(from.path().join("gone")).unwrap();
    std::fs::remove_file(from.path().join("empty and gone")).unwrap();
    for (number, item) in items.iter().enumerate() {
        let result = copy::file(&ground, item, number).await;
        assert_eq!(result, Err(CopyError::Changed), "{}", item.target);
        assert_eq!(ground.to.look(&item.target).await, Ok(None));
    }
    put(from.path(), "folder/x", b"x");
    let mut turned = item(&ground, "folder/x").await;
    std::fs::remove_dir_all(from.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("/etc", from.path().join("folder")).unwrap();
    turned.entry.name = Name::parse(b"folder/passwd").unwrap();
    let result = copy::file(&ground, &turned, 9).await;
    assert_eq!(result, Err(CopyError::Read(PlaceError::InTheWay("folder"))));
}

#[tokio::test]
async fn what_grows_under_the_copy_is_noticed_or_whole() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ground = ground(from.path(), to.path());
    put(from.path(), "log", &vec![1; 32 << 20]);
    let item = item(&ground, "log").await;
    let path = from.path().join("log");
    let writer = std::thread::spawn(move || {
        let mut file = std::fs::File::options().append(true).open(path).unwrap();
        for _ in 0..400 {
            std::io::Write::write_all(&mut file, b"another line\n").unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let result = copy::file(&ground, &item, 0).await;
    let there = std::fs::read(to.path().join("log"));
    match result {
        Err(CopyError::Changed) => assert!(there.is_err(), "nothing of it is left"),
        // It was done before the first line came.
        Ok(Done::Copied { .. }) => assert_eq!(there.unwrap(), vec![1; 32 << 20]),
        other => panic!("{other:?}"),
    }
    writer.join().unwrap();
}

/// An object that is written anew between the list and the read, and one that is between read and last look.
#[test]
fn objects_that_change_fail_the_try() {
    let server = Server::start();
    put(&server.bucket(), "from/a", b"first");
    let to = tempfile::tempdir().unwrap();
    let head = "HTTP/1.1 200 OK\r\netag: \"another\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                content-length: 5\r\nconnection: close\r\n\r\n";
    let after = |begins: &str, body: &str| Rule {
        begins: begins.into(),
        trouble: Trouble::Answer(format!("{head}{body}").into_bytes()),
        times: 1,
    };
    for rule in [after("GET /bucket/from/a ", "other"), after("HEAD /bucket/from/a ", "")] {
        let spoiler = Spoiler::start(server.at, vec![rule]);
        let task = migrate(&bucket("FROM", "s3://bucket/from", spoiler.at), &folder(&to));
        let changed = run(&task);
        assert_eq!(changed.code, Some(1), "{}", changed.report);
        assert!(changed.error().starts_with("from/a: it changed, or went"), "{}", changed.error());
        assert!(!to.path().join("a").exists());
        // The next try finds it quiet.
        let next = run(&task).well();
        assert_eq!(next.number("files"), 1);
        std::fs::remove_file(to.path().join("a")).unwrap();
    }
}

/// As consoles make folders: an empty object whose key ends with a slash.
#[test]
fn marks_of_empty_folders_are_left_out() {
    let key = |key: &str, size: u8| {
        format!(
            "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;e&quot;</ETag></Contents>"
        )
    };
    let list =
        |keys: &str| Trouble::status("200 OK", &format!("<ListBucketResult>{keys}</ListBucketResult>"));
    let whole =
        [key("x/", 0), key("x/a", 1), key("x/none/", 0), key("x/full/", 0), key("x/full/b", 1)].concat();
    let object = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\netag: \"e\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                    content-length: 1\r\nconnection: close\r\n\r\n";
        Trouble::Answer(format!("{head}{body}").into_bytes())
    };
    let rules = [
        ("GET /bucket?list-type=2&prefix=x%2Fnone%2F", list(&key("x/none/", 0))),
        ("GET /bucket?list-type=2&prefix=x%2F", list(&whole)),
        ("GET /bucket/x/a ", object("a")),
        ("GET /bucket/x/full/b ", object("b")),
        ("HEAD /bucket/x/", object("")),
        ("GET ", Trouble::status("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>")),
    ];
    let rules = rules.map(|(begins, trouble)| Rule { begins: begins.into(), trouble, times: 99 });
    let spoiler = Spoiler::start("127.0.0.1:9".parse().unwrap(), rules.into());
    let to = tempfile::tempdir().unwrap();
    let copied = run(&migrate(&bucket("FROM", "s3://bucket/x", spoiler.at), &folder(&to))).well();
    assert_eq!(
        (copied.number("files"), copied.number("filesTotal")),
        (2, 2),
        "{} {}",
        copied.report,
        copied.log
    );
    assert_eq!(copied.number("leftOut"), 3, "{}", copied.report);
    assert_eq!(std::fs::read(to.path().join("full/b")).unwrap(), b"b");
}

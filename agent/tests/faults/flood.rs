//! More reads than the ring buffer holds: counted, told, survived.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::process::Signal;

use crate::fixture::{Disk, Home, Reader, kill, until};

const FILE: u64 = 128 << 20;

/// Reads random pages with four threads while `meanwhile` runs; returns how many. What it evicts now and
/// then comes back a page at a time, which the kernel side tells apart from a mere hit.
fn flood(file: &File, meanwhile: impl FnOnce()) -> u64 {
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for seed in 1..=4u64 {
            let (stop, reads) = (&stop, &reads);
            scope.spawn(move || {
                let (mut x, mut page) = (seed, [0; 4096]);
                while !stop.load(Ordering::Relaxed) {
                    x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    file.read_exact_at(&mut page, (x >> 33) % (FILE / 4096) * 4096).unwrap();
                    if reads.fetch_add(1, Ordering::Relaxed).is_multiple_of(50_000) {
                        fadvise(file, 0, None, Advice::DontNeed).unwrap();
                    }
                }
            });
        }
        meanwhile();
        stop.store(true, Ordering::Relaxed);
    });
    reads.into_inner()
}

#[test]
fn a_flood_is_counted_and_survived() {
    let home = Home::new();
    let disk = Disk::new(256 << 20);
    let path = disk.path.join("large");
    fs::write(&path, vec![b'h'; FILE as usize]).unwrap();
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    // The kernel's own read-ahead would bring all of it in at once.
    fadvise(&file, 0, None, Advice::Random).unwrap();
    let mut agent = home.agent(&disk.path);

    // It answers in the midst of one.
    let begin = Instant::now();
    let reads = flood(&file, || {
        while begin.elapsed() < Duration::from_secs(3) {
            home.ask("node");
        }
    });
    until("the flood is seen", || home.number("reads") > 0);
    println!("{reads} reads, {} told, {} records lost", home.number("reads"), home.number("lost_records"));

    // It cannot run while the next one comes: the ring fills, and what finds no room is counted.
    kill(agent.id(), Signal::STOP);
    let begin = Instant::now();
    let reads = flood(&file, || std::thread::sleep(Duration::from_secs(3).saturating_sub(begin.elapsed())));
    kill(agent.id(), Signal::CONT);
    until("the loss is told", || home.number("lost_records") > 0);
    println!("{reads} reads unseen, {} records lost", home.number("lost_records"));
    let node = home.ask("node");
    let per_cpu: u64 = node["drops_per_cpu"].as_array().unwrap().iter().filter_map(|n| n.as_u64()).sum();
    assert!(per_cpu >= node["lost_records"].as_u64().unwrap(), "{node}");
    assert_eq!(home.check("losses").unwrap()["state"], "warn");

    // And sees again afterwards.
    let small = disk.path.join("small");
    fs::write(&small, vec![b'h'; 40_000]).unwrap();
    Reader::start(std::slice::from_ref(&small)).wait();
    until("a file read afterwards is known", || {
        let files = home.ask("files")["files"].as_array().unwrap().clone();
        files.iter().any(|file| file["path"] == small.to_str().unwrap())
    });
    assert!(agent.stop(Signal::TERM).success());
    home.assert_calm();
}

//! When things are fetched, how many at a time, and what a store that is slow or dead does to that.

use std::time::{Duration, Instant};

use agent_core::{FileKey, Nanos, Order, OrderId, Outcome};

use crate::Remote;
use crate::fixture::{MOUNT, answers, ask, cpu, fetch, list, start, told, whole};
use crate::store::Store;

#[test]
fn earlier_deadlines_go_first_and_like_orders_are_one() {
    let remote = Remote::new(Store::default());
    let prefetch = start(remote.point(), |_| {});
    let depth = |fetches| prefetch.submit(Order::Depth { mount: MOUNT, fetches });
    depth(0);
    for id in [5, 3, 8, 1, 9, 2] {
        prefetch.submit(fetch(id, format!("f{id:05}"), whole()));
    }
    // The like of 9, and needed first; 8 is not needed any more.
    let mut twin = fetch(20, "f00009", whole());
    if let Order::Fetch { deadline, .. } = &mut twin {
        *deadline = Nanos(0);
    }
    prefetch.submit(twin);
    prefetch.submit(Order::Cancel { id: OrderId(8) });
    assert_eq!(told(&answers(&prefetch, 1)[0]), (8, Outcome::Dropped, 0));
    assert_eq!(prefetch.statistics().queued, 5);
    depth(1);
    let given: Vec<_> = answers(&prefetch, 6).iter().map(told).collect();
    let done = |id| (id, Outcome::Done, 40 << 10);
    assert_eq!(given, vec![done(9), (20, Outcome::Done, 0), done(1), done(2), done(3), done(5)]);
    prefetch.submit(Order::Cancel { id: OrderId(8) });
    prefetch.submit(Order::Detail { file: FileKey { dev: 0, ino: 0 }, wanted: true });
    assert_eq!(told(&ask(&prefetch, list(30, "", 1000))).1, Outcome::Done);
}

#[test]
fn a_full_queue_turns_orders_away() {
    let remote = Remote::new(Store::default());
    let prefetch = start(remote.point(), |config| config.orders = 3);
    prefetch.submit(Order::Depth { mount: MOUNT, fetches: 0 });
    for id in 0..5 {
        prefetch.submit(fetch(id, format!("f{id:05}"), whole()));
    }
    let given: Vec<_> = answers(&prefetch, 2).iter().map(told).collect();
    assert_eq!(given, vec![(3, Outcome::Dropped, 0), (4, Outcome::Dropped, 0)]);
    prefetch.forget(MOUNT);
    assert!(answers(&prefetch, 3).iter().all(|answer| told(answer).1 == Outcome::Dropped));
}

#[test]
fn a_running_fetch_stops_when_cancelled() {
    // 64 MiB at 20 MB/s: far from done when the cancel comes.
    let remote = Remote::new(Store { size: 64 << 20, bandwidth: 20_000_000, ..Store::default() });
    let prefetch = start(remote.point(), |_| {});
    prefetch.submit(fetch(1, "f00001", whole()));
    while prefetch.statistics().in_flight == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    prefetch.submit(Order::Cancel { id: OrderId(1) });
    let (_, outcome, bytes) = told(&answers(&prefetch, 1)[0]);
    assert_eq!(outcome, Outcome::Dropped);
    assert!(bytes < 32 << 20, "{bytes} bytes were asked for");
}

#[test]
fn a_dead_store_costs_its_own_orders_only() {
    let remote = Remote::new(Store::default());
    let prefetch = start(remote.point(), |config| {
        config.life = Duration::from_millis(500);
        config.stuck = 4;
    });
    for id in 0..3 {
        prefetch.submit(fetch(id, format!("stuck{id}"), whole()));
    }
    assert!(answers(&prefetch, 3).iter().all(|answer| told(answer).1 == Outcome::Failed));
    assert_eq!((prefetch.statistics().stuck, prefetch.statistics().in_flight), (3, 0));
    // Others of the mount still go.
    assert_eq!(told(&ask(&prefetch, fetch(10, "f00001", whole()))).1, Outcome::Done);
    for id in 20..24 {
        prefetch.submit(fetch(id, format!("stuck{id}"), whole()));
    }
    assert!(answers(&prefetch, 4).iter().all(|answer| told(answer).1 == Outcome::Failed));
    // Too many: the mount is left alone, at once.
    assert_eq!(told(&ask(&prefetch, fetch(30, "f00002", whole()))).1, Outcome::Failed);
    let (gone, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(prefetch);
        let _ = gone.send(());
    });
    wait.recv_timeout(Duration::from_secs(10)).expect("shutdown hangs in a dead store");
}

#[test]
fn a_long_fetch_that_goes_on_is_let_live() {
    // 40 MiB at 20 MB/s: four times its life each, and the second shares the link.
    let remote = Remote::new(Store { size: 40 << 20, bandwidth: 20_000_000, ..Store::default() });
    let prefetch = start(remote.point(), |config| {
        config.life = Duration::from_millis(500);
        config.stuck = 0;
        config.window = 1 << 20;
    });
    prefetch.submit(fetch(1, "f00001", whole()));
    prefetch.submit(fetch(2, "f00002", whole()));
    let mut given: Vec<_> = answers(&prefetch, 2).iter().map(told).collect();
    given.sort_by_key(|(id, ..)| *id);
    assert_eq!(given, vec![(1, Outcome::Done, 40 << 20), (2, Outcome::Done, 40 << 20)]);
    // What does not go on is given up still.
    assert_eq!(told(&ask(&prefetch, fetch(3, "stuck1", whole()))).1, Outcome::Failed);
    assert_eq!(prefetch.statistics().stuck, 1);
}

#[test]
fn many_small_files_fill_the_link() {
    const FILES: u64 = 4000;
    const LINK: u64 = 60_000_000;
    let remote = Remote::new(Store { files: FILES + 20, bandwidth: LINK, ..Store::default() });
    let prefetch = start(remote.point(), |_| {});
    let timed = |depth, names: std::ops::Range<u64>| {
        prefetch.submit(Order::Depth { mount: MOUNT, fetches: depth });
        let count = names.end - names.start;
        let (begin, before) = (Instant::now(), cpu());
        for id in names {
            prefetch.submit(fetch(id, format!("f{id:05}"), whole()));
        }
        assert!(answers(&prefetch, count as usize).iter().all(|answer| told(answer).1 == Outcome::Done));
        let (took, used) = (begin.elapsed().as_secs_f64(), cpu() - before);
        // The link, or a look-up and a read for each with `depth` of them at a time.
        let link = (count * (40 << 10)) as f64 / LINK as f64 + 0.010;
        let ideal = link.max(count as f64 * 0.010 / f64::from(depth));
        println!(
            "depth {depth:3}: {count} files in {took:.3} s, {:.2} of what link and latency allow, {:.0} µs of processor a file, {} threads",
            ideal / took,
            used * 1e6 / count as f64,
            prefetch.statistics().threads,
        );
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        println!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default());
        took / count as f64
    };
    let one = timed(1, FILES..FILES + 20);
    let many = timed(64, 0..FILES / 2);
    let more = timed(128, FILES / 2..FILES);
    assert!(many * 4.0 < one && more * 4.0 < one, "64 and 128 at a time are not 4 times faster than one");
}

#[test]
fn one_large_file_fills_the_link() {
    let remote = Remote::new(Store { size: 256 << 20, bandwidth: 200_000_000, ..Store::default() });
    let prefetch = start(remote.point(), |_| {});
    let (begin, before) = (Instant::now(), cpu());
    assert_eq!(told(&ask(&prefetch, fetch(1, "f00001", whole()))), (1, Outcome::Done, 256 << 20));
    let (took, used) = (begin.elapsed().as_secs_f64(), cpu() - before);
    let ideal = (256 << 20) as f64 / 200e6 + 0.010;
    println!("256 MiB in {took:.3} s, {:.2} of the link, {:.0} ms of processor", ideal / took, used * 1e3);
    // Which of so many pages are still there now is up to the machine: reclaim, DAMON, others' drop_caches.
}

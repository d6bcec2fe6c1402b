//! What watching costs a reader: cached preads bare, attached on an unwatched device, attached and
//! watched, interleaved, in CPU time of the reading thread. Prints ratios and asserts none: the figures
//! are `cargo xtask bench overhead`'s; this one tells the engineer at once what a change to a BPF
//! program did.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use agent::probe::{Plan, Probe, ProbeConfig, ReadEvent};
use agent_core::units::Nanos;

const FILE: usize = 1 << 20;

fn cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds a read, over `reads` reads of `len` bytes at random pages.
fn measure(file: &File, len: usize, reads: u32, buffer: &mut [u8]) -> f64 {
    let places = ((FILE - len) / 4096 + 1) as u64;
    let fd = file.as_raw_fd();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let begin = cpu_time();
    for _ in 0..reads {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let offset = (seed % places * 4096) as i64;
        // SAFETY: the buffer is at least `len` bytes long.
        let read = unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), len, offset) };
        assert_eq!(read, len as isize);
    }
    (cpu_time() - begin) as f64 / f64::from(reads)
}

/// The best of a few short runs: the machine is shared, and what others do only ever adds.
fn best(file: &File, (len, reads): (usize, u32), buffer: &mut [u8]) -> f64 {
    let times = (0..6).map(|_| measure(file, len, reads, buffer));
    times.fold(f64::INFINITY, f64::min)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const LENGTHS: [(usize, u32); 3] = [(4096, 3000), (65_536, 700), (FILE, 50)];
const STATES: [&str; 3] = ["unwatched", "watched", "watched without details"];

#[test]
fn overhead_of_cached_reads() {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a folder below /var/tmp");
    let path = dir.path().join("file");
    std::fs::write(&path, vec![1_u8; FILE]).expect("writing a file");
    let file = File::open(&path).expect("opening it");
    let dev = file.metadata().expect("its metadata").dev();
    let dev = rustix::fs::major(dev) << 20 | rustix::fs::minor(dev);
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let mut buffer = vec![0; FILE];
    for plan in [Plan::BtfTracepoint, Plan::RawTracepoint] {
        // By length: nanoseconds bare, then ratios by state.
        let mut bare = vec![Vec::new(); LENGTHS.len()];
        let mut ratios = vec![vec![Vec::new(); STATES.len()]; LENGTHS.len()];
        let mut bests = vec![vec![f64::INFINITY; STATES.len()]; LENGTHS.len()];
        for _ in 0..rounds {
            let before: Vec<f64> = LENGTHS.iter().map(|length| best(&file, *length, &mut buffer)).collect();
            let config = ProbeConfig { plan: Some(plan), own_tgid: Some(1), ..ProbeConfig::default() };
            let (mut probe, _) = Probe::start(config).unwrap_or_else(|error| panic!("{error}"));
            let mut attached = Vec::new();
            let mut key = None;
            for state in 0..STATES.len() {
                if state == 1 {
                    probe.watch(dev).expect("watching");
                    // The first reads are told one by one, as long as the allowance lasts.
                    measure(&file, 4096, 20_000, &mut buffer);
                    probe.drain(Nanos(0), usize::MAX, |event| {
                        if let ReadEvent::Access { file, .. } = event {
                            key.get_or_insert(file);
                        }
                    });
                }
                if let (2, Some(key)) = (state, key) {
                    probe.detail(key, false).expect("switching");
                }
                let times = LENGTHS.iter().map(|length| best(&file, *length, &mut buffer));
                attached.push(times.collect::<Vec<f64>>());
                probe.drain(Nanos(0), usize::MAX, |_| {});
            }
            assert_eq!(probe.lost(), 0);
            drop(probe);
            for (number, length) in LENGTHS.iter().enumerate() {
                let reference = before[number].min(best(&file, *length, &mut buffer));
                bare[number].push(reference);
                for (state, times) in attached.iter().enumerate() {
                    ratios[number][state].push(times[number] / reference);
                    bests[number][state] = bests[number][state].min(times[number]);
                }
            }
        }
        println!("{}", plan.name());
        for (number, (len, _)) in LENGTHS.into_iter().enumerate() {
            let middle = median(&mut bare[number]);
            let least = bare[number][0];
            print!("  {len:>8} bytes: bare {middle:.0} ns, at best {least:.0}");
            for (state, name) in STATES.iter().enumerate() {
                let values = &mut ratios[number][state];
                let middle = median(values);
                print!(", {name} {middle:.3} (at best {:.3})", bests[number][state] / least);
            }
            println!();
        }
    }
}

/// What listening costs the agent: 50,000 reads a second of which every tenth jumps, so that 5,000
/// records come; drained every millisecond.
#[test]
fn cost_of_listening() {
    const SECONDS: u64 = 2;
    let dir = tempfile::tempdir_in("/var/tmp").expect("a folder below /var/tmp");
    let path = dir.path().join("file");
    std::fs::write(&path, vec![1_u8; FILE]).expect("writing a file");
    let file = File::open(&path).expect("opening it");
    let dev = file.metadata().expect("its metadata").dev();
    let dev = rustix::fs::major(dev) << 20 | rustix::fs::minor(dev);
    let config = ProbeConfig { own_tgid: Some(1), ..ProbeConfig::default() };
    let (mut probe, _) = Probe::start(config).unwrap_or_else(|error| panic!("{error}"));
    probe.watch(dev).expect("watching");
    let reader = std::thread::spawn(move || {
        let begin = Instant::now();
        for round in 0..SECONDS * 1000 {
            for read in 0..50 {
                let page = (round * 37 + read / 10 * 41 + read % 10) % 240;
                let mut byte = [0];
                std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, page * 4096).expect("reading");
            }
            let next = begin + Duration::from_millis(round + 1);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        begin.elapsed()
    });
    let (begin, mut records, mut reads, mut rounds) = (cpu_time(), 0, 0, 0_u64);
    while !reader.is_finished() {
        std::thread::sleep(Duration::from_millis(1));
        rounds += 1;
        let now = Nanos(rounds * 1_000_000);
        let mut sink = |event: ReadEvent| {
            if let ReadEvent::Access { count, .. } = event {
                reads += u64::from(count);
            }
        };
        records += probe.drain(now, 4096, &mut sink);
        if rounds.is_multiple_of(100) {
            probe.flush(now, &mut sink);
        }
    }
    let share = (cpu_time() - begin) as f64 / reader.join().expect("reading").as_nanos() as f64;
    println!("{reads} reads in {records} records: {:.2} % of a core", share * 100.0);
    assert_eq!(probe.lost(), 0);
}

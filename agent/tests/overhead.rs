//! What watching costs a reader: cached preads bare, attached on an unwatched device, attached and
//! watched, interleaved, in CPU time of the reading thread. Prints ratios and asserts none: the figures
//! are `cargo xtask bench overhead`'s; this one tells the engineer at once what a change to a BPF
//! program did.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

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

/// The lower decile: the machine is shared, and what others do only ever adds.
fn quiet(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 10]
}

#[test]
fn overhead_of_cached_reads() {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a folder below /var/tmp");
    let path = dir.path().join("file");
    std::fs::write(&path, vec![1_u8; FILE]).expect("writing a file");
    let file = File::open(&path).expect("opening it");
    let dev = file.metadata().expect("its metadata").dev();
    let dev = rustix::fs::major(dev) << 20 | rustix::fs::minor(dev);
    let mut buffer = vec![0; FILE];
    for plan in [Plan::BtfTracepoint, Plan::RawTracepoint] {
        // [length][state]: bare, unwatched, watched, watched without details.
        let mut times = vec![vec![Vec::new(); 4]; 3];
        let lengths = [(4096, 4_000), (65_536, 1_000), (FILE, 70)];
        let mut records = 0_u64;
        for _ in 0..6 {
            for (number, (len, reads)) in lengths.into_iter().enumerate() {
                for _ in 0..20 {
                    times[number][0].push(measure(&file, len, reads, &mut buffer));
                }
            }
            let config = ProbeConfig {
                plan: Some(plan),
                own_tgid: Some(1),
                ..ProbeConfig::default()
            };
            let (mut probe, _) = Probe::start(config).unwrap_or_else(|error| panic!("{error}"));
            let mut key = None;
            for _ in 0..20 {
                for state in 1..4 {
                    if state > 1 {
                        probe.watch(dev).expect("watching");
                    }
                    for (number, (len, reads)) in lengths.into_iter().enumerate() {
                        measure(&file, len, reads / 10, &mut buffer);
                        probe.drain(Nanos(0), 1 << 20, |event| {
                            if let ReadEvent::Access { file, .. } = event {
                                key.get_or_insert(file);
                            }
                        });
                        if let (3, Some(key)) = (state, key) {
                            probe.detail(key, false).expect("switching");
                        }
                        times[number][state].push(measure(&file, len, reads, &mut buffer));
                        records += probe.drain(Nanos(0), 1 << 20, |_| {}) as u64;
                        if let (3, Some(key)) = (state, key) {
                            probe.detail(key, true).expect("switching");
                        }
                    }
                    probe.unwatch(dev).expect("unwatching");
                }
            }
        }
        println!("{} ({records} records)", plan.name());
        for (number, (len, _)) in lengths.into_iter().enumerate() {
            let quiets: Vec<f64> = times[number].iter_mut().map(|values| quiet(values)).collect();
            println!(
                "  {len:>8} bytes: bare {:.0} ns, unwatched {:.3}, watched {:.3}, watched without details {:.3}",
                quiets[0],
                quiets[1] / quiets[0],
                quiets[2] / quiets[0],
                quiets[3] / quiets[0]
            );
        }
    }
}

//! wip
use agent::probe::*;
use agent_core::units::Nanos;
use std::os::unix::fs::FileExt;

#[test]
fn smoke() {
    let _ = tracing_subscriber::fmt().with_env_filter("agent=debug").with_test_writer().try_init();
    for plan in [Plan::BtfTracepoint, Plan::RawTracepoint] {
        let (mut probe, report) = Probe::start(ProbeConfig { plan: Some(plan), own_tgid: Some(1), ..Default::default() }).unwrap_or_else(|e| panic!("{e}"));
        println!("{report:?}");
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![1u8; 100_000]).unwrap();
        use std::os::unix::fs::MetadataExt;
        let dev = std::fs::metadata(&path).unwrap().dev();
        let dev = ((rustix::fs::major(dev)) << 20) | rustix::fs::minor(dev);
        println!("{dev:#x}");
        probe.watch(dev).unwrap();
        let f = std::fs::File::open(&path).unwrap();
        let mut b = vec![0; 8192];
        f.read_at(&mut b, 0).unwrap();
        f.read_at(&mut b, 8192).unwrap();
        f.read_at(&mut b, 65536).unwrap();
        probe.drain(Nanos(0), 1000, |e| println!("{e:?}"));
        probe.flush(Nanos(u64::MAX), |e| println!("flush {e:?}"));
    }
}

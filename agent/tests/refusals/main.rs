//! Kernels that lack something, or refuse it: each plan that falls out says why, the next one goes on, and
//! with none left the probe says that there is none.
#![expect(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod damage;

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::probe::{Outcome, Plan, PlanReport, Probe, ProbeConfig, ProbeError, ReadEvent};
use agent_core::units::Nanos;

/// The programs that this test's agent carries.
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/headrace-ebpf"));

/// `bpf_probe_read_kernel`, and one that no tracing program may call, in include/uapi/linux/bpf.h.
const PROBE_READ_KERNEL: u32 = 113;
const SKB_STORE_BYTES: u32 = 9;

/// One probe at a time: descriptors are counted.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Links of this process's descriptors that speak of BPF.
fn bpf_descriptors() -> Vec<String> {
    let links = std::fs::read_dir("/proc/self/fd").expect("/proc").filter_map(Result::ok);
    let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    let texts = targets.map(|target| target.to_string_lossy().into_owned());
    texts.filter(|target| target.contains("bpf")).collect()
}

/// ext4 on a loop device.
struct Disk {
    root: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    fn make() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder below /var/tmp");
        let (image, root) = (folder.path().join("image"), folder.path().join("mnt"));
        std::fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("an image");
        std::fs::create_dir(&root).expect("a mount point");
        let run = |command: &mut Command| {
            let done = command.output().expect("e2fsprogs and mount");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&root));
        Self { root, _folder: folder }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.root).output();
    }
}

/// Reads a file, and gives the pages of it that the probe told.
fn told(probe: &mut Probe, path: &Path) -> BTreeSet<u64> {
    let metadata = std::fs::metadata(path).expect("metadata");
    let dev = rustix::fs::major(metadata.dev()) << 20 | rustix::fs::minor(metadata.dev());
    probe.watch(dev).unwrap_or_else(|error| panic!("{error}"));
    std::fs::read(path).expect("reading");
    let mut pages = BTreeSet::new();
    let mut take = |event| {
        if let ReadEvent::Access { file, pages: range, .. } = event
            && (file.dev, file.ino) == (dev, metadata.ino())
        {
            pages.extend(range);
        }
    };
    while probe.drain(Nanos(10_000_000_000), 4096, &mut take) > 0 {}
    probe.flush(Nanos(20_000_000_000), &mut take);
    pages
}

fn kernel_btf() -> Vec<u8> {
    std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y")
}

fn why(report: &PlanReport, plan: Plan) -> &str {
    let outcome = report.plans.iter().find(|(of, _)| *of == plan).map(|(_, outcome)| outcome);
    match outcome {
        Some(Outcome::FellOut(reason)) => reason,
        other => panic!("{} did not fall out: {other:?}", plan.name()),
    }
}

#[test]
fn a_field_of_one_plan_takes_that_plan_out() {
    let _alone = alone();
    let config = |plan| ProbeConfig {
        plan,
        btf: Some(damage::renamed(&kernel_btf(), b"ki_pos")),
        ..ProbeConfig::default()
    };
    let (_, report) = Probe::start(config(None)).unwrap_or_else(|error| panic!("{error}"));
    assert!(why(&report, Plan::Function).contains("kiocb.ki_pos"), "{report}");
    assert_eq!(report.chosen(), Some(Plan::BtfTracepoint));
    let error = Probe::start(config(Some(Plan::Kprobe))).expect_err("a position without its field");
    assert!(error.to_string().contains("kiocb.ki_pos"), "{error}");
}

/// What was logged, debug lines included.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn of<T>(work: impl FnOnce() -> T) -> (T, String) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let result = tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(log.0.lock().expect("one thread").clone()).expect("UTF-8");
        (result, text)
    }
}

/// With the host of a mapping said to lie beyond the mapping, the verifier refuses the direct loads of the
/// BTF tracepoints. Probe reads find the host by the inode around it, so the next plan sees all the same.
#[test]
fn a_plan_that_the_verifier_refuses_gives_way_to_the_next() {
    let _alone = alone();
    let config = ProbeConfig {
        btf: Some(damage::moved(&kernel_btf(), b"address_space", b"host", 0x4000)),
        own_tgid: Some(1),
        ..ProbeConfig::default()
    };
    let (started, log) = Log::of(|| Probe::start(config.clone()));
    let (probe, report) = started.unwrap_or_else(|error| panic!("{error}"));
    drop(probe);
    assert_eq!(report.chosen(), Some(Plan::RawTracepoint), "{report}");
    let reason = why(&report, Plan::BtfTracepoint);
    assert!(reason.contains("its verifier does not accept the program"), "{reason}");
    assert!(reason.contains("address_space") && reason.contains("16384"), "{reason}");
    let (_, last) = log.split_once("the verifier's last lines:").expect("they are in the debug log");
    assert!(last.contains("address_space") && last.contains("processed "), "{log}");

    let disk = Disk::make();
    let path = disk.root.join("seen");
    std::fs::write(&path, [7; 3 * 4096]).expect("writing");
    let (mut probe, _) = Probe::start(config).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(told(&mut probe, &path), (0..3).collect());
}

/// The object with every call of one helper turned into a call of another.
fn without_helper(from: u32, to: u32) -> Vec<u8> {
    let call = |helper: u32| [&[0x85, 0, 0, 0][..], &helper.to_le_bytes()].concat();
    let mut object = OBJECT.to_vec();
    let mut changed = 0;
    for instruction in object.chunks_exact_mut(8).filter(|bytes| **bytes == *call(from)) {
        instruction.copy_from_slice(&call(to));
        changed += 1;
    }
    assert!(changed > 10, "every plan reads kernel memory");
    object
}

/// What lockdown mode "confidentiality" does is to hide `bpf_probe_read_kernel`; here the programs call a
/// helper that is hidden from them always. All plans need it for names.
#[test]
fn a_helper_that_the_kernel_hides_leaves_no_plan() {
    let _alone = alone();
    let config = ProbeConfig {
        object: Some(without_helper(PROBE_READ_KERNEL, SKB_STORE_BYTES)),
        ..ProbeConfig::default()
    };
    let (started, log) = Log::of(|| Probe::start(config));
    let error = started.expect_err("a helper of packets was taken");
    let ProbeError::NothingAttachable { report } = &error else { panic!("{error}") };
    for plan in [Plan::BtfTracepoint, Plan::RawTracepoint] {
        let reason = why(report, plan);
        assert!(reason.contains("bpf_skb_store_bytes#9"), "{reason}");
    }
    // Refused for that, or not taken by this kernel at all.
    assert!(Plan::ALL.iter().all(|plan| why(report, *plan).len() > 20), "{report}");
    assert!(error.to_string().contains("blind"), "{error}");
    assert!(log.matches("the verifier's last lines:").count() >= 2, "{log}");
    assert_eq!(bpf_descriptors(), Vec::<String>::new(), "descriptors left after no plan was taken");
}

#[test]
fn an_object_that_is_none_is_told() {
    let _alone = alone();
    let config = ProbeConfig { object: Some(b"no object".to_vec()), ..ProbeConfig::default() };
    let error = Probe::start(config).expect_err("nine letters were loaded");
    assert!(matches!(&error, ProbeError::Object { .. }), "{error}");
    assert_eq!(bpf_descriptors(), Vec::<String>::new());
}

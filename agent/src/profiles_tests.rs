//! Real folders: restarts, damage, bounds and a full disk.

use std::ffi::CString;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_remount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;

fn store() -> (tempfile::TempDir, ProfileStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ProfileStore::open(&dir.path().join("state/profiles")).unwrap();
    (dir, store)
}

fn reopen(store: &ProfileStore) -> ProfileStore {
    ProfileStore::open(&store.dir).unwrap()
}

#[test]
fn what_was_saved_is_there_after_a_restart() {
    let (_dir, mut store) = store();
    store.save("host exe=/a", "nas:/x", b"one").unwrap();
    store.save("host exe=/a", "nas:/x", b"two").unwrap();
    store.save("host exe=/a", "nas:/y", b"").unwrap();
    let mut store = reopen(&store);
    assert_eq!(store.load("host exe=/a", "nas:/x").unwrap(), b"two");
    assert_eq!(store.load("host exe=/a", "nas:/y").unwrap(), b"");
    assert_eq!(store.load("host exe=/b", "nas:/x"), None);
    let all: Vec<_> = store.iter().map(|profile| profile.source).collect();
    assert_eq!(all, ["nas:/y".into(), "nas:/x".into()]);
    assert_eq!(store.counts().files, 2);
}

#[test]
fn a_folder_that_others_use_is_left_as_it_is_and_not_used_where_they_may_write() {
    let dir = tempfile::tempdir().unwrap();
    let mode = || fs::metadata(dir.path()).unwrap().mode() & 0o7777;
    let open = |mode| {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        ProfileStore::open(dir.path())
    };
    // As an emptyDir is.
    open(0o777).unwrap().save("w", "s", b"one").unwrap();
    assert_eq!(mode(), 0o700);
    assert_eq!(open(0o755).unwrap().load("w", "s").unwrap(), b"one");
    assert_eq!(mode(), 0o700);
    fs::write(dir.path().join("another's"), b"").unwrap();
    for (of, used) in [(0o755, true), (0o1777, false), (0o770, false)] {
        assert_eq!(open(of).is_ok(), used, "{of:o}");
        assert_eq!(mode(), of);
    }
}

#[test]
fn only_root_can_look_and_names_say_nothing() {
    let (_dir, mut store) = store();
    store.save("secret-project", "nas:/customer", b"one").unwrap();
    assert_eq!(fs::metadata(&store.dir).unwrap().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&store.dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(is_named(entry.file_name().to_str().unwrap(), ".profile"));
    }
    // Fixed for ever: a changed hash would lose what was learned.
    assert_eq!(file_name("host exe=/a", "nas:/x"), "f82ed48bc524fb38d2a2c77cd8a616d4.profile");
    assert_ne!(hash("ab", "c"), hash("a", "bc"));
}

#[test]
fn damage_is_set_aside_and_counted() {
    let (_dir, mut store) = store();
    for n in 0..20u8 {
        let workload = format!("w{n}");
        store.save(&workload, "s", &[n; 100]).unwrap();
        let path = store.dir.join(file_name(&workload, "s"));
        let mut content = fs::read(&path).unwrap();
        if n % 2 == 0 {
            content[60] ^= 1;
        } else {
            content.truncate(usize::from(n) * 5);
        }
        fs::write(&path, content).unwrap();
        assert_eq!(store.load(&workload, "s"), None);
        assert_eq!(store.counts().damaged, u64::from(n) + 1);
    }
    let bad = fs::read_dir(&store.dir).unwrap().flatten();
    assert_eq!(bad.filter(|entry| is_named(entry.file_name().to_str().unwrap(), ".bad")).count(), MAX_BAD);
    store.save("w0", "s", b"anew").unwrap();
    assert_eq!(store.load("w0", "s").unwrap(), b"anew");
}

#[test]
fn another_ones_profile_and_a_newer_format_are_not_used() {
    let (_dir, mut store) = store();
    store.save("other", "s", b"other").unwrap();
    let mine = store.dir.join(file_name("mine", "s"));
    fs::rename(store.dir.join(file_name("other", "s")), &mine).unwrap();
    assert_eq!(store.load("mine", "s"), None);
    let mut content = fs::read(&mine).unwrap();
    content[8] = 9;
    let crc = crc32fast::hash(&[&content[..HEADER - 4], &content[HEADER..]].concat());
    content[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
    fs::write(&mine, content).unwrap();
    assert_eq!(store.load("mine", "s"), None);
    assert!(mine.exists(), "a newer agent may still want it");
    assert_eq!(store.counts().damaged, 0);
}

#[test]
fn the_oldest_goes_first() {
    let (_dir, mut store) = store();
    let large = vec![7; MAX_PROFILE as usize];
    for n in 0..20 {
        store.save(&format!("w{n}"), "s", &large).unwrap();
    }
    assert!(store.counts().bytes <= MAX_TOTAL);
    assert_eq!(store.load("w0", "s"), None);
    assert!(store.load("w19", "s").is_some());
    let oldest = store.dir.join(file_name("w19", "s"));
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::open(&oldest).unwrap().set_modified(hour_ago).unwrap();
    let mut store = reopen(&store);
    store.save("more", "s", &large).unwrap();
    assert!(!oldest.exists());
    let too_large = vec![7; MAX_PROFILE as usize + 1];
    assert!(matches!(store.save("w", "s", &too_large), Err(ProfileError::TooLarge { .. })));
}

#[test]
fn a_killed_save_leaves_the_old_profile() {
    let (_dir, mut store) = store();
    store.save("w", "s", b"old").unwrap();
    let new = store.dir.join(file_name("w", "s")).with_extension("new");
    fs::write(&new, b"half").unwrap();
    let mut store = reopen(&store);
    assert!(!new.exists());
    assert_eq!(store.load("w", "s").unwrap(), b"old");
}

#[test]
fn a_full_disk_is_said_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let body = || {
        // SAFETY: NEWNS and FS touch no memory and no descriptor; only this thread's view of the mounts.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
            .expect("unshare: this test needs root; run it with sudo");
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        let options = CString::new("size=256k").unwrap();
        mount("headrace-test", dir.path(), "tmpfs", MountFlags::empty(), Some(options.as_c_str())).unwrap();
        let mut store = ProfileStore::open(dir.path()).unwrap();
        store.save("w", "s", &[1; 50_000]).unwrap();
        let error = store.save("w", "s", &[2; 1_000_000]).unwrap_err();
        assert!(matches!(error, ProfileError::Full { .. }), "{error}");
        assert_eq!(store.load("w", "s").unwrap(), [1; 50_000]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no half file is left");
        store.save("w", "s", &[3; 60_000]).unwrap();
        assert_eq!(store.load("w", "s").unwrap(), [3; 60_000]);
        // Where nothing can be written, what was learned before is still used.
        mount_remount(dir.path(), MountFlags::RDONLY, c"").unwrap();
        let mut store = ProfileStore::open(dir.path()).unwrap();
        assert_eq!(store.load("w", "s").unwrap(), [3; 60_000]);
        assert!(matches!(store.save("w", "s", b"new"), Err(ProfileError::Save { .. })));
    };
    std::thread::scope(|scope| scope.spawn(body).join().unwrap());
}

#[test]
fn a_folder_that_is_none_is_said() {
    let error = ProfileStore::open(Path::new("/proc/version/x")).unwrap_err();
    assert!(error.to_string().contains("/proc/version/x"));
}

proptest! {
    #[test]
    fn any_bytes_unpack(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(unpack(&bytes).is_err());
    }

    #[test]
    fn any_flip_is_found(workload in ".{0,20}", source in ".{0,20}", bytes in proptest::collection::vec(any::<u8>(), 0..50), flip in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut content = pack(&workload, &source, &bytes);
        prop_assert!(unpack(&content).is_ok_and(|profile| profile.bytes == bytes && *profile.workload == workload));
        let flip = flip.index(content.len());
        content[flip] ^= 1 << bit;
        prop_assert!(unpack(&content).is_err());
    }
}

//! Round trips, cuts, flips and arbitrary bytes through the codec.

use proptest::collection::vec;
use proptest::prelude::*;

use super::frame::{FILE_HEADER, Kind, next_block, put_block, put_header};
use super::{Decoder, Encoder, MAX_BLOCK, TraceError};
use crate::observation::{Actor, Entry, EntryKind, Observation, OrderId, Outcome, Via};
use crate::units::{FileKey, MountId, Nanos, Pages, Reader};

fn encode(stream: &[(Nanos, Observation)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new();
    for (at, observation) in stream {
        encoder.push(*at, observation, &mut out).unwrap();
    }
    encoder.finish(&mut out);
    out
}

/// Everything readable, and every damage, in order.
fn read(bytes: &[u8]) -> (Vec<(Nanos, Observation)>, Vec<TraceError>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    match Decoder::new(bytes) {
        Ok(decoder) => decoder.for_each(|item| match item {
            Ok(record) => good.push(record),
            Err(error) => bad.push(error),
        }),
        Err(error) => bad.push(error),
    }
    (good, bad)
}

fn reader() -> impl Strategy<Value = Reader> {
    prop_oneof![
        (1..5u32, 0..3u32).prop_map(|(tgid, n)| Reader { tgid, tid: tgid + n }),
        any::<(u32, u32)>().prop_map(|(tgid, tid)| Reader { tgid, tid }),
    ]
}

fn file() -> impl Strategy<Value = FileKey> {
    prop_oneof![
        (0..40u64).prop_map(|n| FileKey { dev: 0x2a, ino: 1000 + n }),
        any::<(u32, u64)>().prop_map(|(dev, ino)| FileKey { dev, ino }),
    ]
}

fn pages() -> impl Strategy<Value = Pages> {
    prop_oneof![
        (0..1000u64, 0..64u64).prop_map(|(start, len)| start..start + len),
        any::<(u64, u64)>().prop_map(|(start, end)| start..end),
    ]
}

fn path() -> impl Strategy<Value = Box<[u8]>> {
    prop_oneof![
        "(data|train)/[a-c]{1,3}/img_[0-9]{5}\\.jpg".prop_map(|p| p.into_bytes().into_boxed_slice()),
        vec(any::<u8>(), 0..300).prop_map(Vec::into_boxed_slice),
    ]
}

fn text() -> impl Strategy<Value = Box<str>> {
    prop_oneof!["[a-z]{0,3}", ".{0,40}"].prop_map(String::into_boxed_str)
}

fn actor() -> impl Strategy<Value = Actor> {
    prop_oneof![Just(Actor::Agent), Just(Actor::Reclaim), reader().prop_map(Actor::Thread)]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop::sample::select(vec![
        Outcome::Done,
        Outcome::Absent,
        Outcome::Refused,
        Outcome::Failed,
        Outcome::Dropped,
    ])
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop::sample::select(vec![EntryKind::File, EntryKind::Directory, EntryKind::Other]);
    (path(), kind, any::<u64>()).prop_map(|(name, kind, ino)| Entry { name, kind, ino })
}

fn observation() -> impl Strategy<Value = Observation> {
    let via = prop::sample::select(vec![Via::Read, Via::Fault, Via::Mapped, Via::Direct]);
    prop_oneof![
        any::<(u32, u32, u64)>().prop_flat_map(|ids| (Just(ids), text(), text())).prop_map(
            |((mount, dev, read_ahead_bytes), source, fstype)| Observation::Mount {
                mount: MountId(mount),
                dev,
                source,
                fstype,
                read_ahead_bytes,
            }
        ),
        any::<u32>().prop_map(|mount| Observation::Unmount { mount: MountId(mount) }),
        (text(), text(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(workload, source, bytes)| {
            Observation::Profile { workload, source, bytes: bytes.into() }
        }),
        (any::<u32>(), text(), text()).prop_map(|(tgid, workload, label)| Observation::Process {
            tgid,
            workload,
            label
        }),
        any::<u32>().prop_map(|tgid| Observation::Exit { tgid }),
        (file(), any::<u32>(), path(), any::<u64>(), any::<i64>()).prop_map(
            |(file, mount, path, size, mtime)| Observation::Sight {
                file,
                mount: MountId(mount),
                path,
                size,
                mtime
            }
        ),
        (file(), reader(), pages(), via, 0..3u32, 0..3u64).prop_map(
            |(file, reader, pages, via, count, size)| Observation::Access {
                file,
                reader,
                pages,
                via,
                count,
                size
            }
        ),
        (file(), pages(), actor()).prop_map(|(file, pages, by)| Observation::Added { file, pages, by }),
        (file(), pages(), actor()).prop_map(|(file, pages, by)| Observation::Removed { file, pages, by }),
        (file(), vec(pages(), 0..8)).prop_map(|(file, pages)| Observation::Resident { file, pages }),
        (file(), any::<u64>(), any::<u64>()).prop_map(|(file, latency, bytes)| Observation::Miss {
            file,
            latency: Nanos(latency),
            bytes
        }),
        (any::<(u64, u32, bool)>(), path(), outcome(), vec(entry(), 0..20)).prop_map(
            |((id, mount, complete), dir, outcome, entries)| Observation::Listing {
                id: OrderId(id),
                mount: MountId(mount),
                dir,
                outcome,
                complete,
                entries
            }
        ),
        (any::<(u64, u64, u64, u64)>(), outcome(), prop::option::of(file())).prop_map(
            |((id, size, bytes, took), outcome, file)| Observation::Fetched {
                id: OrderId(id),
                outcome,
                file,
                size,
                bytes,
                took: Nanos(took)
            }
        ),
        any::<(u64, u64, u32)>().prop_map(|(available, total, psi)| Observation::Memory {
            available,
            total,
            psi
        }),
        any::<u64>().prop_map(|records| Observation::Lost { records }),
        Just(Observation::Tick),
    ]
}

fn stream(len: usize) -> impl Strategy<Value = Vec<(Nanos, Observation)>> {
    vec((prop_oneof![0..1_000_000u64, any::<u64>()].prop_map(Nanos), observation()), 0..len)
}

/// What the small-file case looks like: look-ups and reads of 10-page files by four workers.
fn epoch(files: u64) -> Vec<(Nanos, Observation)> {
    let mut stream = Vec::new();
    for n in 0..files {
        let at = Nanos(1_000_000_000 + n * 12_200_000);
        let file = FileKey { dev: 0x2a, ino: 1000 + (n * 7919) % files };
        let path = format!("folder_{:02}/file_{:04}.bin", n % 40, n);
        let tgid = 4242 + (n % 4) as u32;
        stream.push((
            at,
            Observation::Sight {
                file,
                mount: MountId(0),
                path: path.into_bytes().into(),
                size: 40_000,
                mtime: 1_700_000_000,
            },
        ));
        stream.push((
            at.plus(Nanos(4_500_321)),
            Observation::Access {
                file,
                reader: Reader { tgid, tid: tgid },
                pages: 0..10,
                via: Via::Read,
                count: 1,
                size: 40_000,
            },
        ));
    }
    stream
}

fn sequential(reads: u64) -> Vec<(Nanos, Observation)> {
    let access = |n: u64| Observation::Access {
        file: FileKey { dev: 0x2a, ino: 77 },
        reader: Reader { tgid: 9, tid: 9 },
        pages: n * 32..n * 32 + 32,
        via: Via::Read,
        count: 1,
        size: 1 << 30,
    };
    (0..reads).map(|n| (Nanos(5_000_000_000 + n * 640_123), access(n))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_went_in_comes_out(stream in stream(200)) {
        let (good, bad) = read(&encode(&stream));
        prop_assert_eq!(bad, vec![]);
        prop_assert_eq!(good, stream);
    }

    #[test]
    fn any_cut_keeps_what_is_before_it(stream in stream(60), flush in 1..9usize, cut in any::<prop::sample::Index>()) {
        let mut out = Vec::new();
        let mut encoder = Encoder::new();
        for (n, (at, observation)) in stream.iter().enumerate() {
            encoder.push(*at, observation, &mut out).unwrap();
            if n % flush == 0 {
                encoder.flush(&mut out);
            }
        }
        encoder.finish(&mut out);
        let cut = cut.index(out.len());
        let (good, bad) = read(&out[..cut]);
        prop_assert_eq!(bad.len(), 1, "a cut is told once: {:?}", bad);
        prop_assert_eq!(&good[..], &stream[..good.len()]);
    }

    #[test]
    fn any_flip_costs_its_block_only(flip in any::<prop::sample::Index>(), bit in 0..8u8) {
        let stream = sequential(600);
        let mut out = Vec::new();
        let mut encoder = Encoder::new();
        for (n, (at, observation)) in stream.iter().enumerate() {
            encoder.push(*at, observation, &mut out).unwrap();
            if n % 100 == 99 {
                encoder.flush(&mut out);
            }
        }
        encoder.finish(&mut out);
        let flip = flip.index(out.len());
        out[flip] ^= 1 << bit;
        let (good, bad) = read(&out);
        prop_assert_eq!(bad.len(), 1, "{:?}", bad);
        prop_assert!(good.len() >= 500);
        let mut rest = stream.iter();
        prop_assert!(good.iter().all(|record| rest.any(|original| original == record)));
        if let TraceError::Damaged { good: before, lost, .. } = &bad[0] {
            prop_assert_eq!(&good[..*before as usize], &stream[..*before as usize]);
            prop_assert!(lost.is_none_or(|lost| lost as usize + good.len() == stream.len()));
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..2000)) {
        let (good, bad) = read(&bytes);
        prop_assert!(good.is_empty() && bad.len() == 1);
    }

    #[test]
    fn any_body_with_a_good_checksum_is_read_without_panic(
        bodies in vec((vec(prop_oneof![any::<u8>(), 0..16u8], 0..400), 0..5u8, any::<u32>()), 0..6),
    ) {
        let mut bytes = Vec::new();
        put_header(&mut bytes);
        for (body, kind, count) in &bodies {
            let kind = [Kind::Whole, Kind::First, Kind::Middle, Kind::Last, Kind::End][usize::from(*kind)];
            put_block(&mut bytes, kind, *count, body);
        }
        let (good, _) = read(&bytes);
        prop_assert!(good.len() <= bytes.len());
    }

    #[test]
    fn mangled_recordings_are_read_without_panic(
        stream in stream(40),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = encode(&stream);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read(&bytes);
    }
}

#[test]
fn an_access_takes_six_to_ten_bytes() {
    let stream = sequential(20_000);
    let bytes = encode(&stream).len() as f64 / stream.len() as f64;
    assert!(bytes <= 10.0, "{bytes} bytes an access of a sequential read");
    let stream = epoch(4000);
    let bytes = encode(&stream).len() as f64 / stream.len() as f64;
    // Each path names another folder than the one before, so that little of it is shared.
    assert!(bytes <= 22.0, "{bytes} bytes an observation of an epoch, sights with their paths included");
}

#[test]
fn blocks_stay_within_their_bound_and_stand_alone() {
    let stream = sequential(30_000);
    let bytes = encode(&stream);
    let mut starts = vec![FILE_HEADER];
    while let Some(next) = next_block(&bytes, starts[starts.len() - 1] + 1) {
        starts.push(next);
    }
    assert!(starts.len() > 2);
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] <= MAX_BLOCK));
    // The second block alone, with a header before it.
    let mut alone = Vec::new();
    put_header(&mut alone);
    alone.extend_from_slice(&bytes[starts[1]..starts[2]]);
    let (good, bad) = read(&alone);
    assert!(matches!(bad[..], [TraceError::Unfinished { .. }]));
    assert!(stream.windows(good.len()).any(|window| window == good));
}

fn listing(names: u64) -> (Nanos, Observation) {
    let entry = |n: u64| Entry {
        name: format!("{n:06}-{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes().into(),
        kind: EntryKind::File,
        ino: 1 << 33 | n,
    };
    let listing = Observation::Listing {
        id: OrderId(7),
        mount: MountId(1),
        dir: (*b"big").into(),
        outcome: Outcome::Done,
        complete: true,
        entries: (0..names).map(entry).collect(),
    };
    (Nanos(1), listing)
}

#[test]
fn an_observation_larger_than_a_block_is_spread() {
    let mut stream = sequential(10);
    stream.push(listing(100_000));
    stream.extend(sequential(10));
    let bytes = encode(&stream);
    let (good, bad) = read(&bytes);
    assert_eq!(bad, []);
    assert_eq!(good, stream);

    // A flip in any part of the chain costs that one observation.
    for part in 0..4 {
        let mut bytes = bytes.clone();
        bytes[FILE_HEADER + 1000 + part * MAX_BLOCK] ^= 0x10;
        let (good, bad) = read(&bytes);
        assert_eq!(good.len(), 20, "part {part}");
        assert_eq!(bad.iter().map(TraceError::lost).sum::<u64>(), 1, "{bad:?}");
    }
}

#[test]
fn what_is_too_large_is_refused_and_the_rest_goes_on() {
    let mut out = Vec::new();
    let mut encoder = Encoder::new();
    let pages = vec![0..1; 5_000_000];
    let file = FileKey { dev: 1, ino: 1 };
    let huge = Observation::Resident { file, pages };
    encoder.push(Nanos(1), &Observation::Tick, &mut out).unwrap();
    assert!(encoder.push(Nanos(2), &huge, &mut out).is_err());
    encoder.push(Nanos(3), &Observation::Tick, &mut out).unwrap();
    encoder.finish(&mut out);
    let (good, bad) = read(&out);
    assert_eq!(bad, []);
    assert_eq!(good, [(Nanos(1), Observation::Tick), (Nanos(3), Observation::Tick)]);
}

#[test]
fn another_version_and_a_foreign_file_are_told_apart() {
    let mut bytes = encode(&sequential(3));
    bytes[8] = 9;
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(read(&bytes).1, [TraceError::Version { found: 9 }]);
    assert!(read(&bytes).1[0].to_string().contains("format 9"));
    assert_eq!(read(b"").1, [TraceError::Foreign]);
    assert_eq!(read(&[0; 4096]).1, [TraceError::Foreign]);
}

#[test]
fn a_crafted_listing_cannot_unfold_without_bound() {
    // 250-byte names told by three bytes each: a megabyte would unfold to 90 MB.
    let mut body = vec![super::encode::tag::LISTING, 0, 0, 0, 0, 0];
    super::varint::put(&mut body, 1 << 40);
    super::varint::put(&mut body, 0);
    super::varint::put_bytes(&mut body, &[b'x'; 255]);
    body.push(0);
    for _ in 0..400_000 {
        super::varint::put(&mut body, 255 << 2);
        body.extend_from_slice(&[0, 0]);
    }
    let mut bytes = Vec::new();
    put_header(&mut bytes);
    let parts: Vec<_> = body.chunks(60_000).collect();
    for (n, part) in parts.iter().enumerate() {
        let kind = match n {
            0 => Kind::First,
            n if n + 1 == parts.len() => Kind::Last,
            _ => Kind::Middle,
        };
        put_block(&mut bytes, kind, u32::from(kind == Kind::Last), part);
    }
    put_block(&mut bytes, Kind::End, 0, &[]);
    let (good, bad) = read(&bytes);
    assert!(good.is_empty());
    assert!(matches!(bad[..], [TraceError::Damaged { cause: "an observation is too large", .. }]), "{bad:?}");
}

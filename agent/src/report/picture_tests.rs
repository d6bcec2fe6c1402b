//! Files into chunks, instructions into pieces.

use super::*;
use crate::api::query::Seen;
use crate::mounts::Spot;
use crate::report::manifest::{CHUNK, Found};

fn speaker() -> Speaker {
    let mut speaker = Speaker::new("n", 1);
    let welcome = wire::Welcome { version: 1, ..wire::Welcome::default() };
    speaker.welcome(&wire::Down { kind: Some(wire::down::Kind::Welcome(welcome)) }).unwrap();
    speaker
}

fn spot() -> Spot {
    let (point, root) = (b"/mnt/x"[..].into(), b"/"[..].into());
    Spot { id: 45, dev: 7, point, root, source: "nas:/x".into() }
}

fn bound(picture: &mut Picture, speaker: &mut Speaker) {
    let mounted = Mounted {
        mount: MountId(3),
        source: "nas:/x".into(),
        fstype: "nfs4".into(),
        dev: 7,
        seen: vec![Seen { point: b"/mnt/x"[..].into(), root: b"/"[..].into(), spot: Some(spot()) }],
    };
    assert!(picture.mounted(vec![mounted]));
    let binding = wire::Binding {
        dataset: 9,
        name: "a/b".into(),
        source: 3,
        path: b"data"[..].into(),
        prefix: b"in"[..].into(),
        folders: 1,
    };
    picture.bind(wire::Bindings { bindings: vec![binding] }, speaker);
}

fn stirred(path: &str, pages: Vec<Pages>) -> StirredFile {
    let file = FileKey { dev: 1, ino: path.len() as u64 };
    let path = path.as_bytes().into();
    let (read_bytes, covered_bytes) = (6_000_000, 3_000_000);
    StirredFile { file, mount: MountId(3), path, size: 2 * CHUNK, read_bytes, covered_bytes, resident: pages }
}

/// A survey that is due and ends so.
fn survey(
    picture: &mut Picture,
    speaker: &mut Speaker,
    manifest: Result<Manifest, SurveyError>,
    now: Nanos,
) -> bool {
    let Job { dataset, number, .. } = picture.surveys(now).remove(0);
    picture.surveyed(Surveyed { dataset, number, manifest }, speaker, now)
}

fn found(path: &str) -> Found {
    Found { path: path.as_bytes().into(), size: 2 * CHUNK, modified: 1 }
}

#[test]
fn files_become_chunks_and_instructions_become_pieces() {
    let (mut picture, mut speaker, free) = (Picture::default(), speaker(), Claims::default());
    bound(&mut picture, &mut speaker);
    let jobs = picture.surveys(Nanos(1));
    let root = Root { spot: spot(), inner: "data".into(), prefix: b"in"[..].into() };
    assert_eq!(jobs[0].parts, [vec![root]]);
    assert!(picture.surveys(Nanos(1)).is_empty(), "one at a time");
    let fetch = |path: &str, version, chunks: Vec<u32>| {
        let extent = wire::Extent {
            dataset: 9,
            path: path.as_bytes().to_vec(),
            version_low: version,
            version_high: 0,
            chunks,
        };
        Work::Fetch(wire::Fetch { extent: Some(extent), tier: wire::Tier::PageCache.into() })
    };
    picture.room = 1 << 30;
    assert_eq!(picture.plan(&fetch("", 0, vec![]), &free), Plan::Wait);
    let manifest = Manifest::new(vec![found("in/a"), found("in/b")], 5);
    let version = manifest.version;
    let told = Surveyed { dataset: "a/b".into(), number: jobs[0].number, manifest: Ok(manifest) };
    assert!(picture.surveyed(told, &mut speaker, Nanos(2)));

    let stir = Stir {
        void: true,
        files: vec![stirred("data/b", vec![0..1_024]), stirred("other", vec![0..9])],
        more: false,
    };
    picture.stir(stir, &mut speaker, Nanos(3));
    let key = Key { dataset: "a/b".into(), version, tier: Tier::PageCache };
    let held = speaker.ledger.get(&key).unwrap();
    assert_eq!((held.whole.spans(), held.partial), (&[(2, 3)][..], 0));
    assert_eq!(
        speaker.facts.demand["a/b"],
        Demand { readers: 0, rate: 100_000, hit: 3_000_000, miss: 3_000_000 }
    );
    let report = speaker.report().unwrap();
    assert!(report.snapshot && report.versions.len() == 1 && report.residency[0].added == [2, 1]);
    speaker.acked(report.sequence);

    // Half of its pages go, one by one: no chunk is whole, and half of the bytes are there and said to be.
    let half = |by: u64| (0..2_048 / by).map(|page| page * by..page * by + 1).collect();
    let stir = |pages| Stir { void: false, files: vec![stirred("data/b", pages)], more: false };
    picture.stir(stir(half(2)), &mut speaker, Nanos(3));
    let report = speaker.report().unwrap();
    let [told] = &report.residency[..] else { panic!("{report:?}") };
    assert_eq!((&told.removed[..], &told.added[..], told.partial_bytes), (&[2, 1][..], &[][..], Some(CHUNK)));
    speaker.acked(report.sequence);
    // Fewer, and no chunk that comes or goes: the number alone is told; nothing new, nothing told.
    picture.stir(stir(half(4)), &mut speaker, Nanos(3));
    let report = speaker.report().unwrap();
    let [told] = &report.residency[..] else { panic!("{report:?}") };
    assert_eq!((told.removed.len() + told.added.len(), told.partial_bytes), (0, Some(CHUNK / 2)));
    speaker.acked(report.sequence);
    picture.stir(stir(half(4)), &mut speaker, Nanos(3));
    assert!(speaker.report().is_none_or(|report| report.residency.is_empty()));
    picture.stir(stir(vec![0..1_024]), &mut speaker, Nanos(3));
    let report = speaker.report().unwrap();
    let [told] = &report.residency[..] else { panic!("{report:?}") };
    assert_eq!((&told.added[..], told.partial_bytes), (&[2, 1][..], Some(0)));
    speaker.acked(report.sequence);

    let piece =
        |path: &str, pages: Vec<Pages>| Piece { mount: MountId(3), path: path.as_bytes().into(), pages };
    let both = [piece("data/a", vec![0..2_048]), piece("data/b", vec![0..2_048])];
    assert_eq!(pieces(picture.plan(&fetch("in", 0, vec![]), &free)).0, both);
    let (chunks, claim) = pieces(picture.plan(&fetch("", 0, vec![1, 2]), &free));
    assert_eq!(chunks, [piece("data/a", vec![1_024..2_048]), piece("data/b", vec![0..1_024])]);
    assert_eq!((claim.of, claim.bytes, claim.chunks.spans()), ((9, version), 2 * CHUNK, &[(1, 3)][..]));
    let state = |plan| if let Plan::No(state, _) = plan { Some(state) } else { None };
    assert_eq!(state(picture.plan(&fetch("", 7, vec![0, 1]), &free)), Some(State::Changed));
    assert_eq!(state(picture.plan(&fetch("in/c", 0, vec![]), &free)), Some(State::Failed));
    picture.room = 1;
    assert_eq!(state(picture.plan(&fetch("", 0, vec![]), &free)), Some(State::Refused));
    assert!(picture.holds(&piece("data/b", vec![5..6])) && !picture.holds(&piece("data/a", vec![5..6])));

    // Another file than the survey found: looked at again, but not at once.
    picture.stir(
        Stir { void: false, files: vec![stirred("data/new", vec![])], more: false },
        &mut speaker,
        Nanos(4),
    );
    assert!(picture.surveys(Nanos(5)).is_empty());
    let jobs = picture.surveys(Nanos(2).plus(SUSPECT));
    assert_eq!(jobs.len(), 1);
    // It could not be: what is known stays, and it is due again soon.
    let late = Nanos(3).plus(SUSPECT);
    let told =
        Surveyed { dataset: "a/b".into(), number: jobs[0].number, manifest: Err(SurveyError::Waiting) };
    assert!(!picture.surveyed(told, &mut speaker, late));
    assert!(picture.holds(&piece("data/b", vec![5..6])) && speaker.ledger.get(&key).is_some());
    assert!(picture.surveys(late).is_empty());
    assert_eq!(picture.surveys(late.plus(SUSPECT)).len(), 1);
    // All is void: nothing is resident.
    picture.stir(Stir { void: true, files: vec![], more: false }, &mut speaker, Nanos(6));
    assert_eq!(speaker.report().unwrap().residency[0].removed, [2, 1]);
    // The Dataset is gone.
    picture.bind(wire::Bindings::default(), &mut speaker);
    assert!(speaker.facts.versions.is_empty() && speaker.facts.demand.is_empty());
}

/// As where some pods have an NFS volume read-only: two file systems for the kernel, with pages of their own.
#[test]
fn what_lies_on_two_file_systems_is_brought_into_both_and_held_where_both_hold_it() {
    let (mut picture, mut speaker, free) = (Picture::default(), speaker(), Claims::default());
    bound(&mut picture, &mut speaker);
    let mut mounts = picture.mounts.clone();
    mounts.push(Mounted { mount: MountId(4), dev: 8, ..mounts[0].clone() });
    picture.mounted(mounts);
    let binding = |source| wire::Binding {
        dataset: 9,
        name: "a/b".into(),
        source,
        path: b"data"[..].into(),
        prefix: b"in"[..].into(),
        folders: 1,
    };
    picture.bind(wire::Bindings { bindings: vec![binding(3), binding(4)] }, &mut speaker);
    let job = picture.surveys(Nanos(0)).remove(0);
    assert_eq!(job.parts.iter().map(Vec::len).collect::<Vec<_>>(), [2], "one part, by two mounts");
    picture.not_surveyed(&job.dataset);
    let manifest = Manifest::new(vec![found("in/a")], 5);
    let version = manifest.version;
    assert!(survey(&mut picture, &mut speaker, Ok(manifest), Nanos(1)));
    picture.room = 1 << 30;
    let (both, claim) = pieces(picture.plan(&Work::Fetch(fetch_whole()), &free));
    let piece =
        |mount| Piece { mount: MountId(mount), path: b"data/a"[..].into(), pages: vec![0..2 * CHUNK / PAGE] };
    assert_eq!((both, claim.bytes), (vec![piece(3), piece(4)], 4 * CHUNK));
    let on = |mount, inode, pages| StirredFile {
        file: FileKey { dev: 7, ino: inode },
        mount: MountId(mount),
        ..stirred("data/a", pages)
    };
    let key = Key { dataset: "a/b".into(), version, tier: Tier::PageCache };
    let mut stir = |picture: &mut Picture, file| {
        let stir = Stir { void: false, files: vec![file], more: false };
        picture.stir(stir, &mut speaker, Nanos(2));
        speaker.ledger.get(&key).map_or(Vec::new(), |held| held.whole.spans().to_vec())
    };
    assert_eq!(stir(&mut picture, on(3, 1, vec![0..2_048])), [], "a pod on the other has nothing of it");
    assert!(picture.holds(&piece(3)) && !picture.holds(&piece(4)));
    assert_eq!(stir(&mut picture, on(4, 2, vec![0..1_024])), [(0, 1)]);
    assert_eq!(stir(&mut picture, on(3, 1, vec![])), []);
}

fn fetch_whole() -> wire::Fetch {
    wire::Fetch { extent: whole(), tier: wire::Tier::PageCache.into() }
}

fn whole() -> Option<wire::Extent> {
    Some(wire::Extent { dataset: 9, ..wire::Extent::default() })
}

fn pieces(plan: Plan) -> (Vec<Piece>, Claim) {
    match plan {
        Plan::Pieces(pieces, claim) => (pieces, claim),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_survey_from_before_a_dataset_was_bound_otherwise_says_nothing_of_it() {
    let (mut picture, mut speaker) = (Picture::default(), speaker());
    bound(&mut picture, &mut speaker);
    let hanging = picture.surveys(Nanos(1)).remove(0);
    let binding = |path: &[u8]| wire::Binding {
        dataset: 9,
        name: "a/b".into(),
        source: 3,
        path: path.into(),
        folders: 1,
        ..wire::Binding::default()
    };
    picture.bind(wire::Bindings { bindings: vec![binding(b"new")] }, &mut speaker);
    let (old, new) = (Manifest::new(vec![found("old")], 1), Manifest::new(vec![found("new")], 2));
    let version = new.version;
    assert!(survey(&mut picture, &mut speaker, Ok(new), Nanos(2)));
    let Job { dataset, number, .. } = hanging;
    let late = |manifest| Surveyed { dataset: dataset.clone(), number, manifest };
    assert!(!picture.surveyed(late(Ok(old)), &mut speaker, Nanos(3)));
    assert_eq!(speaker.facts.versions["a/b"].version, version);
    // Neither does it pass for the one that is under way.
    assert_eq!(picture.surveys(Nanos(2).plus(OLD)).len(), 1);
    assert!(!picture.surveyed(late(Err(SurveyError::TooLarge)), &mut speaker, Nanos(3).plus(OLD)));
    assert!(picture.surveys(Nanos(4).plus(OLD)).is_empty());
    assert_eq!(speaker.facts.versions["a/b"].version, version);
}

#[test]
fn what_could_not_be_looked_at_is_looked_at_again_soon() {
    let (mut picture, mut speaker) = (Picture::default(), speaker());
    bound(&mut picture, &mut speaker);
    let failed = || SurveyError::Look { at: "/mnt/x/data".into(), source: rustix::io::Errno::NOTCONN };
    let soon = |times| Nanos(SUSPECT.0 * times);
    for times in 1..3 {
        assert!(!survey(&mut picture, &mut speaker, Err(failed()), soon(times)));
        assert!(picture.surveys(soon(times)).is_empty());
    }
    assert!(!survey(&mut picture, &mut speaker, Err(SurveyError::TooLarge), soon(3)));
    assert!(picture.surveys(soon(4)).is_empty(), "it stays too large");
    assert!(survey(&mut picture, &mut speaker, Ok(Manifest::new(vec![found("in/a")], 1)), soon(3).plus(OLD)));
}

#[test]
fn what_others_have_taken_is_not_given_again() {
    let (mut picture, mut speaker, mut taken) = (Picture::default(), speaker(), Claims::default());
    bound(&mut picture, &mut speaker);
    let manifest = Manifest::new(vec![found("in/a"), found("in/b"), found("in/c")], 1);
    survey(&mut picture, &mut speaker, Ok(manifest), Nanos(2));
    let pin = |path: &str| {
        let extent = whole().map(|extent| wire::Extent { path: path.into(), ..extent });
        Work::Pin(wire::Pin { extent, tier: wire::Tier::PageCache.into() })
    };
    // Each of the files takes 60 per cent of it.
    picture.room = 2 * CHUNK * 100 / 60;
    let (_, first) = pieces(picture.plan(&pin("in/a"), &taken));
    taken.add(&first);
    let sentence = why(picture.plan(&pin("in/b"), &taken));
    assert!(sentence.starts_with("it needs 8 MiB, and of the 13 MiB") && sentence.len() <= 512, "{sentence}");
    assert_eq!(pieces(picture.plan(&pin("in/a"), &taken)).1, first, "its bytes are taken already");
}

fn why(plan: Plan) -> String {
    match plan {
        Plan::No(State::Refused, why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn where_pages_do_not_survive_nothing_is_brought_in() {
    let (mut picture, mut speaker, free) = (Picture::default(), speaker(), Claims::default());
    bound(&mut picture, &mut speaker);
    picture.room = 1 << 30;
    let manifest = Manifest::new(vec![found("in/a")], 1);
    survey(&mut picture, &mut speaker, Ok(manifest), Nanos(2));
    let tier = wire::Tier::PageCache.into();
    let fills =
        [Work::Fetch(wire::Fetch { extent: whole(), tier }), Work::Pin(wire::Pin { extent: whole(), tier })];
    let drop = Work::Drop(wire::Drop { extent: whole(), tier });
    for (survival, said) in [(Survival::Dropped, "FOPEN_KEEP_CACHE"), (Survival::Refused, "allow_other")] {
        picture.survival.insert(MountId(3), survival);
        for work in &fills {
            let why = why(picture.plan(work, &free));
            assert!(why.contains(said) && why.len() <= 512, "{why}");
        }
        assert!(matches!(picture.plan(&drop, &free), Plan::Pieces(..)));
        assert_eq!(picture.all_closed().map(|(mount, _)| mount).collect::<Vec<_>>(), [MountId(3)]);
    }
    for survival in [Survival::Unknown, Survival::Kept] {
        picture.survival.insert(MountId(3), survival);
        assert!(fills.iter().all(|work| matches!(picture.plan(work, &free), Plan::Pieces(..))));
        assert_eq!(picture.all_closed().next(), None);
    }
}

#[test]
fn a_profile_is_told_by_the_chunks_of_the_dataset_that_lies_there() {
    let (mut picture, mut speaker) = (Picture::default(), speaker());
    bound(&mut picture, &mut speaker);
    let visit = |path: &str, size| Visited { path: path.as_bytes().into(), size, extent: None };
    let visited = [visit("data/b", 2 * CHUNK), visit("elsewhere/x", 5), visit("data/c", 0)];
    assert_eq!(picture.firsts("nas:/x", &visited), [], "its files are not known yet");
    let manifest = Manifest::new(vec![found("in/a"), found("in/b"), found("in/c")], 1);
    let version = manifest.version;
    survey(&mut picture, &mut speaker, Ok(manifest), Nanos(2));
    let (version_high, version_low) = ((version >> 64) as u64, version as u64);
    let first = wire::First { dataset: 9, version_high, version_low, chunks: vec![2, 4] };
    assert_eq!(picture.firsts("nas:/x", &visited), [first]);
    assert_eq!(picture.firsts("nas:/y", &visited), [], "another file system");
    assert_eq!(picture.firsts("nas:/x", &[visit("data/b", 7)]), [], "another file by now");
    assert_eq!(picture.firsts("nas:/x", &[]), []);
}

#[test]
fn who_reads_elsewhere_on_the_same_file_system_reads_another_dataset() {
    let (mut picture, mut speaker) = (Picture::default(), speaker());
    bound(&mut picture, &mut speaker);
    assert!(survey(&mut picture, &mut speaker, Ok(Manifest::new(vec![found("in/a")], 5)), Nanos(1)));
    let stir = Stir { files: vec![stirred("data/a", vec![])], ..Stir::default() };
    picture.stir(stir, &mut speaker, Nanos(2));
    let reading = |workload: &str, folders: &[&str]| Reading {
        mount: MountId(3),
        workload: workload.into(),
        pattern: "sequential".into(),
        folders: folders.iter().map(|folder| folder.as_bytes().into()).collect(),
        read_bytes: 10,
        covered_bytes: 5,
    };
    let all = [
        reading("inside", &["other", "data/deep"]),
        reading("root", &["data"]),
        reading("outside", &["other", "database", ""]),
        reading("nowhere", &[]),
    ];
    picture.readings(&all, &mut speaker);
    let told: Vec<&str> = speaker.facts.patterns.keys().map(|(_, workload)| &**workload).collect();
    assert_eq!(told, ["inside", "root"]);
    let demand: Vec<u32> = speaker.facts.demand.values().map(|demand| demand.readers).collect();
    assert_eq!(demand, [2]);
}

#[test]
fn what_is_mounted_again_is_told_anew() {
    let (mut picture, mut speaker) = (Picture::default(), speaker());
    let read = |picture: &mut Picture, speaker: &mut Speaker| {
        let manifest = Manifest::new(vec![found("in/a")], 5);
        assert!(survey(picture, speaker, Ok(manifest), Nanos(1)));
        let whole = vec![0..pages_of(2 * CHUNK)];
        let stir = Stir { files: vec![stirred("data/a", whole)], ..Stir::default() };
        picture.stir(stir, speaker, Nanos(2));
        let report = speaker.report().unwrap();
        let told: Vec<Vec<u32>> = report.residency.into_iter().map(|part| part.added).collect();
        (told, report.demand.len())
    };
    bound(&mut picture, &mut speaker);
    assert_eq!(read(&mut picture, &mut speaker), (vec![vec![0, 2]], 1));
    // The operator takes it that nothing is there, and no number is left to say so by.
    picture.bind(wire::Bindings::default(), &mut speaker);
    speaker.acked(1);
    assert!(speaker.report().is_none());
    picture.mounted(Vec::new());
    bound(&mut picture, &mut speaker);
    assert_eq!(read(&mut picture, &mut speaker).0, [[0, 2]]);
}

/// Its mount has gone, and the one that came for it is asked about.
#[test]
fn a_folder_that_is_between_two_mounts_is_told_of_and_not_looked_at() {
    let (mut picture, mut speaker) = (Picture::default(), speaker());
    bound(&mut picture, &mut speaker);
    let mut mounts = picture.mounts.clone();
    for seen in mounts.iter_mut().flat_map(|mounted| &mut mounted.seen) {
        (seen.root, seen.spot) = (b"/data"[..].into(), None);
    }
    picture.mounted(mounts.clone());
    assert_eq!(picture.sources(1 << 10).0.sources[0].folders, [b"data"]);
    assert!(picture.surveys(Nanos(1)).is_empty());
    for seen in mounts.iter_mut().flat_map(|mounted| &mut mounted.seen) {
        seen.spot = Some(spot());
    }
    picture.mounted(mounts);
    assert_eq!(picture.surveys(Nanos(1)).len(), 1);
}

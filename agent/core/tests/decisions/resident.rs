//! What lies in memory already is not asked for again and again.

use agent_core::{
    Actor, Core, Entry, EntryKind, FileKey, Limits, MountId, Nanos, Observation, Order, Outcome, Reader, Via,
};

const MOUNT: MountId = MountId(1);
const READER: Reader = Reader { tgid: 3, tid: 3 };
const SIZE: u64 = 40_000;
const FILES: u64 = 2_000;

/// One folder, walked in the order of its listing.
struct Folder {
    core: Core,
    now: u64,
}

impl Folder {
    fn new() -> Self {
        let mut core = Core::new(Limits::default());
        let (source, fstype) = ("s".into(), "nfs4".into());
        let mount = Observation::Mount { mount: MOUNT, dev: 5, source, fstype, read_ahead_bytes: 131_072 };
        core.apply(&mount, Nanos(1));
        core.apply(&Observation::Memory { available: 16 << 30, total: 24 << 30, psi: 0 }, Nanos(1));
        Self { core, now: 1 }
    }

    fn tell(&mut self, observation: &Observation) {
        self.core.apply(observation, Nanos(self.now));
    }

    fn name(file: u64) -> Box<[u8]> {
        format!("d/f{file:05}.npy").into_bytes().into()
    }

    fn key(file: u64) -> FileKey {
        FileKey { dev: 5, ino: 1_000 + file }
    }

    /// Reads a file whole; its pages come from the store where they were not in memory.
    fn read(&mut self, file: u64, missing: bool) {
        self.now += 20_000;
        let (key, pages) = (Self::key(file), 0..SIZE.div_ceil(4096));
        self.tell(&Observation::Sight {
            file: key,
            mount: MOUNT,
            path: Self::name(file),
            size: SIZE,
            mtime: 0,
        });
        if missing {
            self.tell(&Observation::Added { file: key, pages: pages.clone(), by: Actor::Thread(READER) });
        }
        self.tell(&Observation::Access {
            file: key,
            reader: READER,
            pages,
            via: Via::Read,
            count: 1,
            size: SIZE,
        });
    }

    /// Answers what the core ordered, as a prefetcher that finds everything in memory, or nothing. Gives the
    /// number of files it was to fetch.
    fn answer(&mut self, missing: bool) -> usize {
        let mut fetches = 0;
        loop {
            let orders = self.core.orders();
            if orders.is_empty() {
                return fetches;
            }
            for order in orders {
                match order {
                    Order::List { id, mount, dir, .. } => {
                        let entry = |file| Entry {
                            name: Self::name(file)[2..].into(),
                            kind: EntryKind::File,
                            ino: 1_000 + file,
                        };
                        let entries =
                            if *dir == *b"d" { (0..FILES).map(entry).collect() } else { Vec::new() };
                        let outcome = Outcome::Done;
                        self.tell(&Observation::Listing { id, mount, dir, outcome, complete: true, entries });
                    }
                    Order::Fetch { id, path, .. } => {
                        fetches += 1;
                        let file = std::str::from_utf8(&path[3..8]).unwrap().parse().unwrap();
                        let (outcome, took) = (Outcome::Done, Nanos(50_000));
                        let bytes = if missing { SIZE } else { 0 };
                        let file = Some(Self::key(file));
                        self.tell(&Observation::Fetched { id, outcome, file, size: SIZE, bytes, took });
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn a_walk_over_what_lies_in_memory_is_left_alone_until_it_misses() {
    let mut folder = Folder::new();
    let mut fetches = 0;
    for file in 0..1_000 {
        folder.read(file, false);
        fetches += folder.answer(false);
    }
    assert!((1..100).contains(&fetches), "{fetches} of 1,000 files in memory were asked for");
    // From here on nothing is in memory: the first miss shows it, and the walk is supplied again.
    folder.read(1_000, true);
    let mut fetches = folder.answer(true);
    for file in 1_001..1_050 {
        folder.read(file, false);
        fetches += folder.answer(true);
    }
    assert!(fetches > 49, "{fetches} files were asked for while 50 were read from a cold store");
}

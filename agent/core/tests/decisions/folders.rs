//! Two processes, each with a folder of its own on one mount, told to the core one read at a time.

use agent_core::{
    Actor, Core, Entry, EntryKind, FileKey, Limits, MountId, Nanos, Observation, Order, OrderId, Outcome,
    Pages, Reader, Via,
};

pub const MOUNT: MountId = MountId(1);
pub const SIZE: u64 = 40_000;
pub const FILES: u64 = 2_000;

#[derive(Clone, Copy, PartialEq)]
pub enum Who {
    D = 3,
    E = 4,
}

impl Who {
    fn of(folder: u8) -> Self {
        if folder == b'd' { Self::D } else { Self::E }
    }

    pub fn reader(self) -> Reader {
        Reader { tgid: self as u32, tid: self as u32 }
    }

    fn name(self, file: u64) -> Box<[u8]> {
        let folder = if self == Self::D { 'd' } else { 'e' };
        format!("{folder}/f{file:05}.npy").into_bytes().into()
    }

    fn ino(self, file: u64) -> u64 {
        self as u64 * 100_000 + file
    }

    pub fn key(self, file: u64) -> FileKey {
        FileKey { dev: 5, ino: self.ino(file) }
    }
}

/// Whose file a path is, and which.
pub fn named(path: &[u8]) -> (Who, u64) {
    (Who::of(path[0]), std::str::from_utf8(&path[3..8]).unwrap().parse().unwrap())
}

/// One mount of two folders.
pub struct Folders {
    pub core: Core,
    pub now: u64,
    /// Bytes of every file.
    size: u64,
    under_way: Vec<(OrderId, Who, u64)>,
}

impl Folders {
    pub fn new() -> Self {
        Self::with(Limits::default(), SIZE, 16 << 30)
    }

    /// Files of this size on a node with so much memory available.
    pub fn with(limits: Limits, size: u64, available: u64) -> Self {
        let mut core = Core::new(limits);
        let (source, fstype) = ("s".into(), "nfs4".into());
        let mount = Observation::Mount { mount: MOUNT, dev: 5, source, fstype, read_ahead_bytes: 131_072 };
        core.apply(&mount, Nanos(1));
        core.apply(&Observation::Memory { available, total: 24 << 30, psi: 0 }, Nanos(1));
        let mut folders = Self { core, now: 1, size, under_way: Vec::new() };
        for who in [Who::D, Who::E] {
            let name = format!("exe=/{}", who as u32);
            let tgid = who.reader().tgid;
            folders.tell(&Observation::Process { tgid, workload: name.clone().into(), label: name.into() });
        }
        folders
    }

    /// As after a restart of the agent.
    pub fn taught(mut self) -> Self {
        self.core.close();
        let mut next = Self::new();
        for (workload, source, bytes) in self.core.changed_profiles() {
            next.tell(&Observation::Profile { workload, source, bytes: bytes.into() });
        }
        next
    }

    pub fn tell(&mut self, observation: &Observation) {
        self.core.apply(observation, Nanos(self.now));
    }

    pub fn sight(&mut self, who: Who, file: u64) {
        let (path, file, size) = (who.name(file), who.key(file), self.size);
        self.tell(&Observation::Sight { file, mount: MOUNT, path, size, mtime: 0 });
    }

    /// A file of the same name takes a file's place.
    pub fn replace(&mut self, who: Who, file: u64) {
        let (path, size) = (who.name(file), self.size);
        let file = FileKey { dev: 5, ino: who.ino(file) + 50_000 };
        self.tell(&Observation::Sight { file, mount: MOUNT, path, size, mtime: 1 });
    }

    /// A file's pages leave the cache.
    pub fn emptied(&mut self, who: Who, file: u64, by: Actor) {
        self.tell(&Observation::Removed { file: who.key(file), pages: 0..SIZE.div_ceil(4096), by });
    }

    /// Reads a file whole; its pages come from the store where they were not in memory.
    pub fn read(&mut self, who: Who, file: u64, missing: bool) {
        self.now += 20_000;
        let pages = 0..self.size.div_ceil(4096);
        self.read_part(who, file, pages.clone(), if missing { pages } else { 0..0 });
    }

    /// Reads part of a file, some of which comes from the store.
    pub fn read_part(&mut self, who: Who, file: u64, pages: Pages, missing: Pages) {
        let (key, reader, size) = (who.key(file), who.reader(), self.size);
        self.sight(who, file);
        if !missing.is_empty() {
            self.tell(&Observation::Added { file: key, pages: missing, by: Actor::Thread(reader) });
        }
        self.tell(&Observation::Access { file: key, reader, pages, via: Via::Read, count: 1, size });
    }

    /// Carries out the core's orders, each fetch bringing its file or finding it in memory; gives whose files
    /// were asked for.
    pub fn answer(&mut self, missing: bool) -> Vec<Who> {
        self.carry_out(|_| Some(missing))
    }

    /// The same, where each reader's fetches do as `brings` says; those of which it says nothing stay under way.
    pub fn carry_out(&mut self, brings: impl Fn(Who) -> Option<bool>) -> Vec<Who> {
        let mut fetched = Vec::new();
        loop {
            let orders = self.core.orders();
            if orders.is_empty() {
                return fetched;
            }
            for order in orders {
                match order {
                    Order::List { id, mount, dir, .. } => self.list(id, mount, dir),
                    Order::Fetch { id, path, .. } => {
                        let (who, file) = named(&path);
                        fetched.push(who);
                        match brings(who) {
                            Some(brings) => self.fetched(id, who, file, brings),
                            None => self.under_way.push((id, who, file)),
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Answers with the names of a folder.
    pub fn list(&mut self, id: OrderId, mount: MountId, dir: Box<[u8]>) {
        let entries = dir.first().map_or(Vec::new(), |folder| {
            let who = Who::of(*folder);
            let entry =
                |file| Entry { name: who.name(file)[2..].into(), kind: EntryKind::File, ino: who.ino(file) };
            (0..FILES).map(entry).collect()
        });
        let outcome = Outcome::Done;
        self.tell(&Observation::Listing { id, mount, dir, outcome, complete: true, entries });
    }

    /// Files that are under way.
    pub fn under_way(&self) -> Vec<u64> {
        self.under_way.iter().map(|(_, _, file)| *file).collect()
    }

    /// Those that are under way bring their files.
    pub fn end_fetches(&mut self) {
        for (id, who, file) in std::mem::take(&mut self.under_way) {
            self.fetched(id, who, file, true);
        }
    }

    /// A fetch ends, and the file has come.
    pub fn brought(&mut self, id: OrderId, who: Who, file: u64) {
        self.fetched(id, who, file, true);
    }

    /// A fetch ends without anything.
    pub fn came_to_nothing(&mut self, id: OrderId, outcome: Outcome) {
        let took = Nanos(50_000);
        self.tell(&Observation::Fetched { id, outcome, file: None, size: 0, bytes: 0, took });
    }

    fn fetched(&mut self, id: OrderId, who: Who, file: u64, missing: bool) {
        let (key, size) = (who.key(file), self.size);
        let pages = 0..size.div_ceil(4096);
        if missing {
            // As the kernel tells of it.
            self.sight(who, file);
            self.tell(&Observation::Added { file: key, pages, by: Actor::Agent });
        }
        let (outcome, took, file) = (Outcome::Done, Nanos(50_000), Some(key));
        let bytes = if missing { size } else { 0 };
        self.tell(&Observation::Fetched { id, outcome, file, size, bytes, took });
    }
}

//! One Dataset's copies, looked at again: what is no longer allowed goes, what pays for its move comes.
//!
//! For each piece, greedily: the node whose copy saves most comes first, counted by what reading costs from
//! the nearest copy (`nearness`), as long as what it saves within the horizon pays for its move and for the
//! copies that must make room, with a margin. What is there already costs no move, so that nothing is moved
//! that need not be; nothing is given up before its room is wanted.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::inventory::{
    CHUNK, Chunks, Dataset, DatasetId, Inventory, Millis, NodeId, Place, Replicas, Version,
};

use super::book::{Book, Copy, Release};
use super::demand::Wanted;
use super::nearness::{Copies, Near};
use super::piece::Pieces;
use super::reason::{Because, Reason};
use super::rendezvous::{draw, piece_key};
use super::room::{Room, allows, eligible};

/// What a move saves must be this many times what it costs: measurements shake, and a move taken back
/// costs twice.
pub const MARGIN: f64 = 1.25;

/// Passes that a copy must save at least: less is noise.
const LEAST_PASSES: f64 = 0.05;

/// A declared copy is worth its move, as though read this often from the store…
const DECLARED_PASSES: f64 = 2.0;
/// …but keeps its place against others as though hardly read, so that what is read wins.
const DECLARED_KEEPS: f64 = 0.1;

/// A copy's value halves in this time after its readers have gone: a training job comes back after a
/// checkpoint, a morning's query after lunch does not.
const HALF_LIFE_MS: f64 = 300_000.0;

/// Nodes considered for new copies of a Dataset in one step, by kind. The next step considers the next ones.
const CREW_READERS: usize = 32;
const CREW_HOLDERS: usize = 16;
const CREW_DRAWN: usize = 16;
const CREW_DRAWN_MOST: usize = 64;

/// A copy that should come to a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    pub dataset: DatasetId,
    pub version: Version,
    pub piece: u16,
    pub chunks: Chunks,
    pub node: NodeId,
    /// Bytes that have to travel: what the node has not got yet.
    pub bytes: u64,
    /// Bytes at the store's cost saved within the horizon, and spent on the move and on what makes room.
    pub benefit: f64,
    pub cost: f64,
    pub reason: Reason,
}

/// What one step may do, and has done.
#[derive(Debug)]
pub struct Turn<'a> {
    pub inventory: &'a Inventory,
    pub rooms: &'a FxHashMap<NodeId, Room>,
    pub now: Millis,
    pub moves_left: usize,
    pub bytes_left: u64,
    pub moves: Vec<Move>,
    pub releases: Vec<Release>,
    /// What could make room on a node, cheapest first; made where first needed.
    cheapest: FxHashMap<NodeId, Vec<Cheap>>,
    /// Pieces that made room in this step: no second time, as their other copies are worth more now.
    shrunk: FxHashSet<(DatasetId, u16)>,
}

#[derive(Clone, Copy, Debug)]
struct Cheap {
    dataset: DatasetId,
    piece: u16,
    bytes: u64,
    value: f64,
}

/// A Dataset while it is looked at.
struct Subject<'a> {
    id: DatasetId,
    dataset: &'a Dataset,
    version: Version,
    pieces: Pieces,
    wanted: Wanted,
    declared: Option<u32>,
    quota: u64,
}

/// What a candidate saves beyond its cost, how crowded its surroundings are, whether it has all bytes already,
/// what it draws.
type Rank = (f64, std::cmp::Reverse<(u32, u32)>, bool, f64);

/// A node that might get a copy, with its score.
struct Candidate {
    node: NodeId,
    place: Place,
    missing: u64,
    benefit: f64,
    cost: f64,
    keeps: f64,
    makes_room: Vec<Cheap>,
    passes: f64,
    nearest: Near,
}

impl<'a> Turn<'a> {
    pub fn new(
        inventory: &'a Inventory,
        rooms: &'a FxHashMap<NodeId, Room>,
        now: Millis,
        (moves_left, bytes_left): (usize, u64),
    ) -> Self {
        Self {
            inventory,
            rooms,
            now,
            moves_left,
            bytes_left,
            moves: Vec::new(),
            releases: Vec::new(),
            cheapest: FxHashMap::default(),
            shrunk: FxHashSet::default(),
        }
    }

    pub fn release(&mut self, book: &mut Book, at: (DatasetId, u16, NodeId), because: Because) {
        self.releases.extend(book.take(at.0, at.1, at.2, because));
    }

    /// Looks at a Dataset of known size that has been opened in the book.
    pub fn settle(&mut self, book: &mut Book, id: DatasetId) {
        let Some(dataset) = self.inventory.dataset(id) else { return };
        let (Some(spec), Some(placed)) = (dataset.spec(), book.dataset(id)) else { return };
        let (version, pieces, since) = (placed.version, placed.pieces, self.now.since(placed.settled));
        book.share(id, spec.sharing);
        let subject = Subject {
            id,
            dataset,
            version,
            pieces,
            wanted: Wanted::of(self.inventory, dataset, pieces.total()),
            declared: match spec.replicas {
                Replicas::Auto => None,
                Replicas::Fixed(n) => Some(n),
            },
            quota: spec.quota.unwrap_or(u64::MAX),
        };
        let moved = self.moves.len();
        self.drop_forbidden(book, &subject);
        let decay = 0.5f64.powf(since as f64 / HALF_LIFE_MS);
        let crew = if subject.wanted.is_idle() { Vec::new() } else { self.crew(book, &subject) };
        for piece in 0..pieces.count() {
            self.settle_piece(book, &subject, piece, decay, &crew);
        }
        if let Some(placed) = book.dataset_mut(id) {
            placed.settled = self.now;
            placed.revision = self.inventory.revision();
            placed.restless = self.moves.len() > moved || self.moves_left == 0;
        }
    }

    /// Copies that spec or node no longer allow.
    fn drop_forbidden(&mut self, book: &mut Book, subject: &Subject<'_>) {
        let Some(spec) = subject.dataset.spec() else { return };
        let copies: Vec<_> =
            book.dataset(subject.id).into_iter().flat_map(|p| p.copies.keys().copied()).collect();
        let mut verdicts: BTreeMap<NodeId, Option<Because>> = BTreeMap::new();
        // The last pieces go first, so that the same ones go from every node over its quota.
        for (piece, node) in copies.into_iter().rev() {
            let verdict = verdicts.entry(node).or_insert_with(|| {
                let allowed = self.inventory.node(node).is_some_and(|n| allows(subject.dataset, n));
                let given = book.given(node);
                if !allowed {
                    Some(Because::NotAllowed)
                } else if given.is_some_and(|g| g.keeps_off(subject.id, spec.sharing)) {
                    Some(Because::Exclusive)
                } else {
                    None
                }
            });
            let held =
                book.given(node).and_then(|g| g.datasets.get(&subject.id)).copied().unwrap_or_default();
            let because = verdict.or((held > subject.quota).then_some(Because::Quota));
            if let Some(because) = because {
                self.release(book, (subject.id, piece, node), because);
            }
        }
    }

    /// Nodes worth considering: some that read, some that hold bytes already, some drawn by the Dataset's name.
    fn crew(&self, book: &Book, subject: &Subject<'_>) -> Vec<(NodeId, Place)> {
        let count = usize::from(subject.pieces.count());
        let mut full: FxHashMap<NodeId, usize> = FxHashMap::default();
        for (_, node) in book.dataset(subject.id).into_iter().flat_map(|p| p.copies.keys()) {
            *full.entry(*node).or_default() += 1;
        }
        let lacks = |node: &NodeId| full.get(node).copied().unwrap_or_default() < count;
        let mut crew: Vec<NodeId> =
            subject.wanted.readers().iter().copied().filter(lacks).take(CREW_READERS).collect();
        let mut holders: Vec<_> = subject
            .dataset
            .holders()
            .filter(|(id, _)| lacks(id))
            .filter_map(|(id, held)| {
                // What has to be brought in is counted by whole chunks.
                let whole = held.ram.len().max(held.cache.len());
                Some((whole, held.bytes(subject.dataset.bytes()), self.inventory.node(id)?.key(), id))
            })
            .collect();
        holders.sort_unstable_by(|a, b| b.cmp(a));
        crew.extend(holders.into_iter().take(CREW_HOLDERS).map(|(.., id)| id));
        let key = subject.dataset.key();
        let mut drawn: Vec<_> = eligible(self.inventory, self.rooms, subject.dataset)
            .map(|(id, node, weight)| (draw(node.key(), key, weight), node.key(), id, weight))
            .collect();
        drawn.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        // Enough nodes to hold it all twice, should it be larger than their room.
        let mut room = 0.0;
        let enough = drawn.iter().take(CREW_DRAWN_MOST).take_while(|(.., weight)| {
            let lacking = room < 2.0 * subject.pieces.total() as f64;
            room += weight.min(subject.quota as f64);
            lacking
        });
        let enough = enough.count().max(CREW_DRAWN);
        crew.extend(drawn.into_iter().take(enough).map(|(_, _, id, _)| id));
        let mut seen = FxHashSet::default();
        crew.retain(|id| seen.insert(*id));
        let allowed = crew.into_iter().filter_map(|id| {
            let node = self.inventory.node(id)?;
            let open = self.rooms.get(&id).is_some_and(|r| !r.closed);
            (open && allows(subject.dataset, node)).then_some((id, node.place()))
        });
        allowed.collect()
    }

    fn settle_piece(
        &mut self,
        book: &mut Book,
        subject: &Subject<'_>,
        piece: u16,
        decay: f64,
        crew: &[(NodeId, Place)],
    ) {
        let bytes = subject.pieces.bytes(&subject.pieces.chunks(piece)) as f64;
        let mut copies = Copies::none(&subject.wanted);
        let mut there: Vec<(NodeId, Place)> = Vec::new();
        for ((_, node), _) in copies_of(book, subject.id, piece) {
            let place = self.inventory.node(node).map(|n| n.place()).unwrap_or_default();
            copies.add(place);
            there.push((node, place));
        }
        let keeps = subject.declared.map_or(0.0, |_| DECLARED_KEEPS);
        for (node, place) in &there {
            copies.remove(*place);
            let gain = copies.gain(*node, *place).max(keeps);
            copies.add(*place);
            let placed = book.dataset_mut(subject.id).and_then(|p| p.copies.get_mut(&(piece, *node)));
            if let Some(copy) = placed {
                copy.value = (gain * bytes).max(copy.value * decay);
            }
        }
        self.drop_surplus(book, subject, piece, &mut there, &mut copies);
        let key = piece_key(subject.dataset.key(), subject.version.0, piece);
        while self.moves_left > 0 && subject.declared.is_none_or(|n| copies.count() < n) {
            let Some(best) = self.best(book, subject, piece, key, crew, &there, &copies) else { return };
            if best.missing > self.bytes_left && !self.moves.is_empty() {
                return;
            }
            for cheap in &best.makes_room {
                self.release(book, (cheap.dataset, cheap.piece, best.node), Because::MadeRoom);
                self.shrunk.insert((cheap.dataset, cheap.piece));
            }
            let tenths = |passes: f64| (passes * 10.0).round() as u32;
            let reason = match subject.declared {
                Some(of) => Reason::Declared { copy: copies.count() + 1, of },
                None if best.passes >= LEAST_PASSES => {
                    Reason::ReadHere { tenths: tenths(best.passes), nearest: best.nearest }
                }
                None => Reason::ReadNear { tenths: tenths(subject.wanted.all()), nearest: best.nearest },
            };
            book.put(subject.id, piece, best.node, Copy { value: best.keeps, reason });
            copies.add(best.place);
            there.push((best.node, best.place));
            self.moves_left -= 1;
            self.bytes_left = self.bytes_left.saturating_sub(best.missing);
            self.moves.push(Move {
                dataset: subject.id,
                version: subject.version,
                piece,
                chunks: subject.pieces.chunks(piece),
                node: best.node,
                bytes: best.missing,
                benefit: best.benefit,
                cost: best.cost,
                reason,
            });
        }
    }

    /// Copies beyond the number that a Dataset asks for: those that save least, then the most crowded.
    fn drop_surplus(
        &mut self,
        book: &mut Book,
        subject: &Subject<'_>,
        piece: u16,
        there: &mut Vec<(NodeId, Place)>,
        copies: &mut Copies<'_>,
    ) {
        while subject.declared.is_some_and(|n| copies.count() > n) {
            let rated = there.iter().map(|(node, place)| {
                copies.remove(*place);
                let gain = copies.gain(*node, *place);
                copies.add(*place);
                let key = self.inventory.node(*node).map_or(0, |n| n.key());
                (gain, std::cmp::Reverse(copies.crowd(*place)), key, *node, *place)
            });
            let least = rated.min_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
            let Some((.., node, place)) = least else { return };
            self.release(book, (subject.id, piece, node), Because::Surplus);
            copies.remove(place);
            there.retain(|(n, _)| *n != node);
        }
    }

    /// The node whose copy saves most beyond its cost, if any pays.
    #[expect(clippy::too_many_arguments, reason = "all of what one piece's decision depends on")]
    fn best(
        &mut self,
        book: &Book,
        subject: &Subject<'_>,
        piece: u16,
        key: u64,
        crew: &[(NodeId, Place)],
        there: &[(NodeId, Place)],
        copies: &Copies<'_>,
    ) -> Option<Candidate> {
        let mut best: Option<(Rank, Candidate)> = None;
        for (node, place) in crew {
            if there.iter().any(|(n, _)| n == node) {
                continue;
            }
            let Some(candidate) = self.candidate(book, subject, piece, *node, *place, copies) else {
                continue;
            };
            let crowd = std::cmp::Reverse(copies.crowd(*place));
            let drawn = self.inventory.node(*node).map_or(0.0, |n| draw(n.key(), key, 1.0));
            let net = candidate.benefit - candidate.cost;
            let in_place = candidate.missing == 0;
            // Declared copies go apart first, then where the bytes are, then where they save most; others where
            // they save most. What is in place costs less than when it was decided on, so that it may come in
            // another turn, and what a second copy saves depends on the first: were the declared ones ordered by
            // that alone, a restarted operator could choose a node that has nothing beside one that has it all.
            let better = best.as_ref().is_none_or(|((n, c, p, d), _)| {
                let (by_net, by_crowd) = (net.total_cmp(n), crowd.cmp(c));
                let order = match subject.declared {
                    Some(_) => by_crowd.then(in_place.cmp(p)).then(by_net),
                    None => by_net.then(by_crowd),
                };
                order.then(drawn.total_cmp(d)).is_gt()
            });
            if better {
                best = Some(((net, crowd, in_place, drawn), candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }

    fn candidate(
        &mut self,
        book: &Book,
        subject: &Subject<'_>,
        piece: u16,
        node: NodeId,
        place: Place,
        copies: &Copies<'_>,
    ) -> Option<Candidate> {
        let room = self.rooms.get(&node).filter(|r| !r.closed)?;
        let chunks = subject.pieces.chunks(piece);
        let bytes = subject.pieces.bytes(&chunks);
        let passes = subject.wanted.on(node);
        let gain = copies.gain(node, place);
        let worth = subject.declared.map_or(gain, |_| gain.max(DECLARED_PASSES));
        if bytes == 0 || bytes > room.budget || worth < LEAST_PASSES {
            return None;
        }
        let given = book.given(node);
        let of_it = given.and_then(|g| g.datasets.get(&subject.id)).copied().unwrap_or_default();
        let sharing = subject.dataset.spec()?.sharing;
        if of_it.saturating_add(bytes) > subject.quota
            || given.is_some_and(|g| g.keeps_off(subject.id, sharing))
        {
            return None;
        }
        let held = subject.dataset.on(node).and_then(|p| p.held(Some(subject.version)));
        let here = held.map_or(0, |h| h.ram.shared_with(&chunks).max(h.cache.shared_with(&chunks)));
        let missing = bytes.saturating_sub(u64::from(here) * CHUNK);
        let nearest = copies.near(place);
        // What its readers would bring there anyway costs nothing more.
        let extra = missing as f64 * (1.0 - passes.min(1.0));
        let benefit = worth * bytes as f64;
        let keeps = subject.declared.map_or(gain, |_| gain.max(DECLARED_KEEPS)) * bytes as f64;
        let free = room.budget.saturating_sub(given.map_or(0, |g| g.bytes));
        let makes_room =
            if free < bytes { self.makes_room(book, subject.id, node, bytes - free)? } else { Vec::new() };
        let displaced: f64 = makes_room.iter().map(|c| c.value).sum();
        let cost = extra * nearest.cost() + displaced;
        let pays = benefit >= MARGIN * cost && keeps >= MARGIN * displaced;
        pays.then_some(Candidate { node, place, missing, benefit, cost, keeps, makes_room, passes, nearest })
    }

    /// The cheapest copies on a node that free so many bytes, if there are any.
    fn makes_room(&mut self, book: &Book, but: DatasetId, node: NodeId, bytes: u64) -> Option<Vec<Cheap>> {
        let inventory = self.inventory;
        let list = self.cheapest.entry(node).or_insert_with(|| {
            let mut list: Vec<(f64, u64, Cheap)> = Vec::new();
            for (dataset, piece) in book.on(node) {
                let copy = book.dataset(dataset).and_then(|p| p.copies.get(&(piece, node)));
                let (Some(copy), Some(known)) = (copy, inventory.dataset(dataset)) else { continue };
                let bytes = book.bytes_of(dataset, piece);
                let cheap = Cheap { dataset, piece, bytes, value: copy.value };
                list.push((copy.value / bytes.max(1) as f64, known.key(), cheap));
            }
            list.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1, a.2.piece).cmp(&(b.1, b.2.piece))));
            list.into_iter().map(|(.., cheap)| cheap).collect()
        });
        let mut freed = 0;
        let mut chosen = Vec::new();
        for cheap in list.iter() {
            let there =
                book.dataset(cheap.dataset).is_some_and(|p| p.copies.contains_key(&(cheap.piece, node)));
            if !there || cheap.dataset == but || self.shrunk.contains(&(cheap.dataset, cheap.piece)) {
                continue;
            }
            chosen.push(*cheap);
            freed += cheap.bytes;
            if freed >= bytes {
                return Some(chosen);
            }
        }
        None
    }
}

/// The copies of one piece.
pub fn copies_of(book: &Book, dataset: DatasetId, piece: u16) -> Vec<((u16, NodeId), Copy)> {
    let range = (piece, NodeId(0))..=(piece, NodeId(u32::MAX));
    book.dataset(dataset)
        .into_iter()
        .flat_map(|p| p.copies.range(range.clone()))
        .map(|(k, c)| (*k, *c))
        .collect()
}

//! Readers that resemble none of the benchmark's: what the core makes of them must be worth having, or cost nothing.

use crate::sim::{Sim, restart};
use crate::world::{Step, World, shuffled, whole};
use agent_core::{Core, Limits};

fn fresh() -> Core {
    Core::new(Limits::default())
}

#[derive(Clone, Copy, Debug)]
struct Gain {
    faster: f64,
    /// Bytes fetched and not read, for each byte read.
    waste: f64,
}

impl Gain {
    fn expect(self, faster: f64, waste: f64) {
        assert!(self.faster >= faster, "{self:?}, expected {faster} times faster");
        assert!(self.waste <= waste, "{self:?}, expected {waste} wasted");
    }
}

fn both(name: &str, world: &World, core: Core, readers: &[Vec<Step>]) -> (Gain, Core) {
    let (base, _) = Sim::run(world, None, readers);
    let (felt, core) = Sim::run(world, Some(core), readers);
    let limit = felt.read as f64 / world.bandwidth + world.latency as f64 / 1e9;
    println!(
        "{name}: {:.2} s, speedup {:.2}, of limit {:.2}, fetched {:.2}, waste {:.3}",
        felt.seconds,
        base.seconds / felt.seconds,
        limit / felt.seconds,
        felt.fetched as f64 / felt.read as f64,
        felt.wasted as f64 / felt.read as f64,
    );
    let gain = Gain { faster: base.seconds / felt.seconds, waste: felt.wasted as f64 / felt.read as f64 };
    (gain, core.unwrap())
}

/// A folder of images with other files among them at irregular places; the reader globs the images by name.
#[test]
fn a_glob_by_suffix() {
    let files = (0..3000)
        .map(|i| {
            let suffix = if shuffled(3000, 3)[i] % 10 < 3 { "json" } else { "jpg" };
            (format!("d{}/f{:04}.{suffix}", i / 500, i), 40_000)
        })
        .collect();
    let world = World::new(5, 60.0, files);
    let order: Vec<usize> = (0..3000).filter(|i| world.files[*i].0.ends_with("jpg")).collect();
    both("glob", &world, fresh(), &[whole(&world, &order)]).0.expect(8.0, 0.05);
}

#[test]
fn a_split_of_a_folder_by_name() {
    let world = World::small();
    let mut order: Vec<usize> = shuffled(4000, 5)[..3200].to_vec();
    order.sort_unstable();
    both("split 80%", &world, fresh(), &[whole(&world, &order)]).0.expect(8.0, 0.35);
    let mut order: Vec<usize> = shuffled(4000, 5)[..1200].to_vec();
    order.sort_unstable();
    both("split 30%", &world, fresh(), &[whole(&world, &order)]).0.expect(1.5, 2.9);
}

#[test]
fn numbers_without_leading_zeros() {
    let mut world = World::new(5, 60.0, (0..3000).map(|i| (format!("d/shard-{i}.bin"), 40_000)).collect());
    let inos = shuffled(3000, 6);
    world.created(|i| inos[i] as u64);
    world.shuffle_listing(7);
    both("natural", &world, fresh(), &[whole(&world, &(0..3000).collect::<Vec<_>>())]).0.expect(6.0, 0.05);
}

#[test]
fn backwards_by_name() {
    let world = World::small();
    both("backwards", &world, fresh(), &[whole(&world, &(0..4000).rev().collect::<Vec<_>>())])
        .0
        .expect(10.0, 0.05);
}

#[test]
fn shards_read_through_in_a_shuffled_order() {
    let world = World::new(5, 200.0, (0..64).map(|i| (format!("s/shard-{i:05}.tar"), 16 << 20)).collect());
    let order = shuffled(64, 3);
    let read = |shards: &[usize]| -> Vec<Step> {
        shards
            .iter()
            .flat_map(|&file| (0..128).map(move |i| Step { file, pages: i * 32..i * 32 + 32 }))
            .collect()
    };
    let (gain, core) = both("shards", &world, fresh(), &[read(&order)]);
    gain.expect(5.0, 0.05);
    both("shards, 4 workers", &world, fresh(), &order.chunks(16).map(read).collect::<Vec<_>>())
        .0
        .expect(1.8, 0.05);
    both("shards, known", &world, restart(core), &[read(&shuffled(64, 9))]).0.expect(5.0, 0.05);
}

/// A merge of sorted files, or tf.data's interleave: one thread, a piece of each file in turn.
#[test]
fn one_thread_that_interleaves_files() {
    for width in [2, 4, 8, 16] {
        let world = World::new(5, 200.0, (0..width).map(|i| (format!("s/run-{i}.bin"), 32 << 20)).collect());
        let steps = (0..256)
            .flat_map(|i| (0..width).map(move |file| Step { file, pages: i * 32..i * 32 + 32 }))
            .collect::<Vec<_>>();
        both(&format!("interleave {width}"), &world, fresh(), &[steps]).0.expect(4.0, 0.05);
    }
}

/// Tiles of a large image stored by rows: each tile is 32 short rows a stride apart, tiles follow each other.
#[test]
fn tiles_of_a_matrix() {
    let world = World::new(5, 200.0, vec![("m.bin".into(), 2 << 30)]);
    let steps = (0..64u64)
        .flat_map(|tile| {
            (0..32u64).map(move |row| {
                let start = (tile / 16) * 32 * 512 + row * 512 + (tile % 16) * 32;
                Step { file: 0, pages: start..start + 32 }
            })
        })
        .collect::<Vec<_>>();
    both("tiles", &world, fresh(), &[steps]).0.expect(4.0, 0.2);
}

/// Samples of irregular length one after another with a seek of some bytes between: nearly sequential.
#[test]
fn gappy_forward_reads() {
    let world = World::new(5, 200.0, vec![("m.bin".into(), 1 << 30)]);
    let mut at = 0u64;
    let mut steps = Vec::new();
    for i in shuffled(4000, 4) {
        let len = 8 + (i as u64 % 24);
        steps.push(Step { file: 0, pages: at..at + len });
        at += len + (i as u64 / 7) % 9;
    }
    both("gappy", &world, fresh(), &[steps]).0.expect(6.0, 0.3);
}

/// Records of a few pages drawn from one large file without replacement; then again in another order.
#[test]
fn an_epoch_of_records_within_a_file() {
    let world = World::new(5, 200.0, vec![("data.lmdb".into(), 256 << 20)]);
    let steps = |seed| {
        shuffled(2048, seed)
            .into_iter()
            .map(|r| Step { file: 0, pages: r as u64 * 32..r as u64 * 32 + 32 })
            .collect::<Vec<_>>()
    };
    let (gain, core) = both("records", &world, fresh(), &[steps(3)]);
    gain.expect(0.98, 0.02);
    let (gain, core) = both("records, known", &world, restart(core), &[steps(4)]);
    gain.expect(4.0, 0.05);
    both("records, known 2", &world, restart(core), &[steps(5)]).0.expect(4.0, 0.05);
}

/// Video clips: an index at the end, then a seek into the middle and a run from there.
#[test]
fn clips_cut_from_the_middle() {
    let world = World::new(5, 200.0, (0..200).map(|i| (format!("v/clip-{i:04}.mp4"), 8 << 20)).collect());
    let steps = shuffled(200, 8)
        .into_iter()
        .flat_map(|file| {
            let start = (file as u64 * 37) % 1500;
            std::iter::once(Step { file, pages: 2040..2048 })
                .chain((0..8).map(move |i| Step { file, pages: start + i * 32..start + i * 32 + 32 }))
        })
        .collect::<Vec<_>>();
    both("clips", &world, fresh(), &[steps]).0.expect(1.5, 0.1);
}

/// Folders by day, each of a few files, read in order of time.
#[test]
fn deep_folders_by_date() {
    let files = (0..3000)
        .map(|i| {
            (format!("y{}/m{:02}/d{:02}/h{}.parquet", i / 1200, i / 100 % 12, i / 4 % 25, i % 4), 40_000)
        })
        .collect();
    let world = World::new(5, 60.0, files);
    both("dates", &world, fresh(), &[whole(&world, &(0..3000).collect::<Vec<_>>())]).0.expect(6.0, 0.05);
}

/// Two programs with orders of their own share a mount.
#[test]
fn a_walker_beside_a_shuffler() {
    let world = World::small();
    let readers = [
        whole(&world, &(0..2000).collect::<Vec<_>>()),
        whole(&world, &shuffled(2000, 3).iter().map(|i| i + 2000).collect::<Vec<_>>()),
    ];
    both("mixed", &world, fresh(), &readers).0.expect(4.0, 0.05);
}

/// Pairs of files (an image and its label in two folders) in a shuffled order, several epochs.
#[test]
fn pairs_from_two_folders() {
    let files = (0..2000)
        .map(|i| (format!("images/{i:05}.jpg"), 40_000))
        .chain((0..2000).map(|i| (format!("labels/{i:05}.txt"), 2_000)))
        .collect();
    let world = World::new(5, 60.0, files);
    let pairs = |seed| shuffled(2000, seed).into_iter().flat_map(|i| [i, 2000 + i]).collect::<Vec<_>>();
    let (gain, core) = both("pairs", &world, fresh(), &[whole(&world, &pairs(3))]);
    gain.expect(5.0, 0.05);
    both("pairs, known", &world, restart(core), &[whole(&world, &pairs(4))]).0.expect(10.0, 0.05);
    let walk: Vec<usize> = (0..2000).flat_map(|i| [i, 2000 + i]).collect();
    both("pairs in order", &world, fresh(), &[whole(&world, &walk)]).0.expect(10.0, 0.05);
}

/// The order of an earlier run with a tenth left out and some in other places.
#[test]
fn an_order_that_is_repeated_with_changes() {
    let world = World::small();
    let order = shuffled(4000, 4);
    let (gain, core) = both("order, first", &world, fresh(), &[whole(&world, &order)]);
    gain.expect(5.0, 0.05);
    let mut changed: Vec<usize> =
        order.iter().enumerate().filter(|(at, _)| at * 7 % 10 != 0).map(|(_, f)| *f).collect();
    for at in (0..changed.len() - 40).step_by(100) {
        changed.swap(at, at + 37);
    }
    both("order, changed", &world, restart(core), &[whole(&world, &changed)]).0.expect(8.0, 0.2);
}

/// Slower and faster stores than the benchmark's.
#[test]
fn other_stores() {
    for (latency, mb, faster) in [(1, 1000.0, 6.0), (1, 100.0, 2.0), (50, 30.0, 8.0), (50, 500.0, 8.0)] {
        let at = format!("{latency} ms, {mb} MB/s");
        let files = (0..1000).map(|i| (format!("d{:02}/f{:03}.npy", i / 100, i % 100), 100_000)).collect();
        let world = World::new(latency, mb, files);
        let order = |seed| whole(&world, &shuffled(1000, seed));
        let walk = whole(&world, &(0..1000).collect::<Vec<_>>());
        both(&format!("walk, {at}"), &world, fresh(), &[walk]).0.expect(faster, 0.05);
        let (gain, core) = both(&format!("shuffle, {at}"), &world, fresh(), &[order(2)]);
        gain.expect(faster.min(5.0), 0.05);
        both(&format!("known, {at}"), &world, restart(core), &[order(4)]).0.expect(faster, 0.05);
        let world = World::new(latency, mb, vec![("big.bin".into(), 256 << 20)]);
        let steps = (0..256 * 8).map(|i| Step { file: 0, pages: i * 32..i * 32 + 32 }).collect();
        both(&format!("sequential, {at}"), &world, fresh(), &[steps]).0.expect(1.5, 0.05);
        let steps = (0..256).map(|i| Step { file: 0, pages: i * 256..i * 256 + 16 }).collect();
        both(&format!("strided, {at}"), &world, fresh(), &[steps]).0.expect(2.0, 0.05);
    }
}

/// Of a set of small and large files read in no order, a guess brings the small ones: each spares a wait, and
/// ten of them cost what a large one does.
#[test]
fn guesses_spare_the_most_waiting_for_each_byte() {
    let files =
        (0..2000)
            .map(|i| {
                if i % 4 == 0 {
                    (format!("d/v{i:04}.mp4"), 800_000)
                } else {
                    (format!("d/t{i:04}.txt"), 8_000)
                }
            })
            .collect();
    let world = World::new(5, 100.0, files);
    let (gain, core) = both("sizes", &world, fresh(), &[whole(&world, &shuffled(2000, 3)[..400])]);
    gain.expect(1.2, 2.9);
    drop(core);
}

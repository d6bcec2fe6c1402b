//! What the core's decisions are worth, felt by readers in virtual time.
//!
//! The bounds are the product's promises (docs/benchmarks.md) where virtual time can tell; the real
//! figures come from `cargo xtask bench first-light`.

use crate::sim::{Felt, Sim, restart};
use crate::world::{Step, World, shuffled, whole};
use agent_core::{Core, Limits};

fn fresh() -> Core {
    Core::new(Limits::default())
}

fn without(world: &World, readers: &[Vec<Step>]) -> Felt {
    Sim::run(world, None, readers).0
}

fn with(world: &World, core: Core, readers: &[Vec<Step>]) -> (Felt, Core) {
    let (felt, core) = Sim::run(world, Some(core), readers);
    (felt, core.unwrap())
}

fn limit(world: &World, bytes: u64) -> f64 {
    bytes as f64 / world.bandwidth + world.latency as f64 / 1e9
}

fn report(name: &str, world: &World, base: &Felt, felt: &Felt) {
    println!(
        "{name}: {:.2} s, speedup {:.3}, of limit {:.2}, fetched {:.2}, waste {:.3}",
        felt.seconds,
        base.seconds / felt.seconds,
        limit(world, felt.read) / felt.seconds,
        felt.fetched as f64 / felt.read as f64,
        felt.wasted as f64 / felt.read as f64,
    );
}

#[test]
fn directory_order_fills_the_link() {
    let world = World::small();
    let readers = [whole(&world, &(0..4000).collect::<Vec<_>>())];
    let base = without(&world, &readers);
    let (felt, _) = with(&world, fresh(), &readers);
    report("directory", &world, &base, &felt);
    assert!(base.seconds / felt.seconds >= 10.0);
    assert!(limit(&world, felt.read) / felt.seconds >= 0.85);
}

#[test]
fn workers_that_step_through_a_directory_are_told_apart() {
    let world = World::small();
    let readers: Vec<_> =
        (0..8).map(|worker| whole(&world, &(worker..4000).step_by(8).collect::<Vec<_>>())).collect();
    let base = without(&world, &readers);
    let (felt, _) = with(&world, fresh(), &readers);
    report("workers", &world, &base, &felt);
    assert!(limit(&world, felt.read) / felt.seconds >= 0.85);
    assert!(felt.wasted * 20 < felt.read);
}

#[test]
fn a_first_shuffled_epoch_is_guessed_in_proportion() {
    let world = World::small();
    let readers = [whole(&world, &shuffled(4000, 1))];
    let base = without(&world, &readers);
    let (felt, core) = with(&world, fresh(), &readers);
    report("shuffled-first", &world, &base, &felt);
    assert!(base.seconds / felt.seconds >= 5.0);

    let readers = [whole(&world, &shuffled(4000, 2))];
    let (felt, core) = with(&world, restart(core), &readers);
    report("shuffled-known", &world, &base, &felt);
    assert!(base.seconds / felt.seconds >= 10.0);
    assert!(limit(&world, felt.read) / felt.seconds >= 0.80);

    let order = shuffled(4000, 3);
    let readers: Vec<_> = order.chunks(1000).map(|share| whole(&world, share)).collect();
    let base = without(&world, &readers);
    let (felt, _) = with(&world, restart(core), &readers);
    report("shuffled-workers", &world, &base, &felt);
    assert!(base.seconds / felt.seconds >= 3.0);
    assert!(limit(&world, felt.read) / felt.seconds >= 0.80);
}

#[test]
fn an_order_that_is_repeated_is_followed() {
    let world = World::small();
    let readers = [whole(&world, &shuffled(4000, 4))];
    let base = without(&world, &readers);
    let (_, core) = with(&world, fresh(), &readers);
    let (felt, _) = with(&world, restart(core), &readers);
    report("replay", &world, &base, &felt);
    assert!(limit(&world, felt.read) / felt.seconds >= 0.90);
}

#[test]
fn a_reader_that_stops_has_cost_less_than_three_times_what_it_read() {
    let world = World::small();
    for n in [50, 150, 600, 900] {
        let readers = [whole(&world, &shuffled(4000, 5)[..n])];
        let base = without(&world, &readers);
        let (felt, _) = with(&world, fresh(), &readers);
        report(&format!("sparse {n}"), &world, &base, &felt);
        assert!(felt.fetched <= felt.read * 3, "{n}");
        assert!(base.seconds / felt.seconds >= 0.97, "{n}");
    }
}

/// One node's part of the shards of a data set, in no order: what is guessed of the others takes the link from this one.
#[test]
fn of_large_files_the_starts_alone_are_guessed_at() {
    let world = World::new(5, 100.0, (0..60).map(|i| (format!("s/{i:03}.tar"), 192 << 20)).collect());
    let readers = [whole(&world, &shuffled(60, 6)[..15])];
    let base = without(&world, &readers);
    let (felt, _) = with(&world, fresh(), &readers);
    report("shards", &world, &base, &felt);
    assert!(felt.wasted * 20 < felt.read);
    assert!(base.seconds / felt.seconds >= 0.97);
}

#[test]
fn a_profile_that_misleads_loses_its_say() {
    let world = World::small();
    let (_, mut core) = with(&world, fresh(), &[whole(&world, &shuffled(4000, 6))]);
    for run in 0..4 {
        let readers = [whole(&world, &shuffled(4000, 7 + run)[..150])];
        let base = without(&world, &readers);
        let (felt, next) = with(&world, restart(core), &readers);
        core = next;
        report(&format!("misled {run}"), &world, &base, &felt);
        if run >= 1 {
            assert!(felt.fetched <= felt.read * 3);
            assert!(base.seconds / felt.seconds >= 0.97);
        }
    }
}

#[test]
fn where_an_open_drops_the_pages_little_is_wasted() {
    let mut world = World::small();
    world.keeps = false;
    let readers = [whole(&world, &(0..4000).collect::<Vec<_>>())];
    let base = without(&world, &readers);
    let (felt, _) = with(&world, fresh(), &readers);
    report("dropped", &world, &base, &felt);
    assert!(base.seconds / felt.seconds >= 0.97);
    assert!(felt.fetched * 20 <= felt.read);
}

fn large(mib: u64) -> World {
    World::new(5, 200.0, vec![("big.bin".into(), mib << 20)])
}

fn reads(ranges: impl Iterator<Item = (u64, u64)>) -> Vec<Step> {
    ranges.map(|(start, len)| Step { file: 0, pages: start..start + len }).collect()
}

#[test]
fn a_sequential_reader_gets_the_link() {
    let world = large(1024);
    let readers = [reads((0..1024 * 8).map(|i| (i * 32, 32)))];
    let base = without(&world, &readers);
    let (felt, _) = with(&world, fresh(), &readers);
    report("sequential", &world, &base, &felt);
    assert!(limit(&world, felt.read) / felt.seconds >= 0.95);
}

#[test]
fn a_strided_reader_gets_its_strides_and_no_more() {
    let world = large(4096);
    let readers = [reads((0..4096).map(|i| (i * 256, 16)))];
    let base = without(&world, &readers);
    let (felt, _) = with(&world, fresh(), &readers);
    report("strided", &world, &base, &felt);
    assert!(limit(&world, felt.read) / felt.seconds >= 0.85);
    assert!(felt.wasted * 20 <= felt.read);
}

#[test]
fn a_reverse_reader_is_foreseen() {
    let world = large(256);
    let readers = [reads((0..256 * 8).rev().map(|i| (i * 32, 32)))];
    let base = without(&world, &readers);
    let (felt, _) = with(&world, fresh(), &readers);
    report("reverse", &world, &base, &felt);
    assert!(base.seconds / felt.seconds >= 3.0);
}

#[test]
fn random_reads_are_left_alone() {
    let world = large(4096);
    let order = shuffled(4096 * 256, 9);
    let readers = [reads(order[..2000].iter().map(|page| (*page as u64, 1)))];
    let base = without(&world, &readers);
    let (felt, _) = with(&world, fresh(), &readers);
    report("random", &world, &base, &felt);
    assert!(base.seconds / felt.seconds >= 0.99);
    assert!(felt.fetched * 50 <= felt.read);
}

#[test]
fn a_footer_then_three_columns_become_a_shape() {
    for jitter in [0, 37] {
        let files =
            (0..200).map(|i| (format!("t/part-{i:05}.parquet"), (1280 + i % 7 * jitter) * 4096)).collect();
        let world = World::new(5, 200.0, files);
        let steps = (0..200)
            .flat_map(|file| {
                let pages = world.files[file].1 / 4096;
                let tail = Step { file, pages: pages - 2..pages };
                // Twenty columns of equal size, of which three are read, each in two reads.
                let column = pages / 20;
                let columns = [1u64, 7, 12].into_iter().flat_map(move |which| {
                    let (start, half) = (which * column, column / 2);
                    [start..start + half, start + half..start + column].map(|pages| Step { file, pages })
                });
                std::iter::once(tail).chain(columns)
            })
            .collect::<Vec<_>>();
        let base = without(&world, std::slice::from_ref(&steps));
        let (felt, _) = with(&world, fresh(), &[steps]);
        report("footer", &world, &base, &felt);
        let from_fifth = |felt: &Felt| felt.at[felt.at.len() - 1] - felt.at[4 * 7];
        assert!(from_fifth(&base) / from_fifth(&felt) >= 3.0);
        assert!(felt.wasted * 5 <= felt.read);
    }
}

#[test]
fn the_same_run_gives_the_same_orders() {
    let world = World::small();
    let readers = [whole(&world, &shuffled(4000, 8)[..700])];
    let (first, _) = with(&world, fresh(), &readers);
    let (second, _) = with(&world, fresh(), &readers);
    assert_eq!(first.seconds.to_bits(), second.seconds.to_bits());
    assert_eq!((first.fetched, first.wasted), (second.fetched, second.wasted));
}

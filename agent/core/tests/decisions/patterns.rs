//! Each pattern is told apart, from generated reads: what the core calls it, and that it pays.

use crate::sim::Sim;
use crate::world::{Step, World, shuffled, whole};
use agent_core::{Core, Limits};

/// Runs the readers and returns what the core calls their pattern, with the evidence.
fn called(world: &World, readers: &[Vec<Step>]) -> (String, String) {
    let (_, core) = Sim::run(world, Some(Core::new(Limits::default())), readers);
    let workloads = core.unwrap().workloads();
    (workloads[0].pattern.to_string(), workloads[0].reason.to_string())
}

/// Forty folders whose listing is neither by name nor by creation.
fn scrambled() -> World {
    let (listing, creation) = (shuffled(100, 3), shuffled(100, 4));
    let mut files = Vec::new();
    for dir in 0..40 {
        files.extend(listing.iter().map(|name| (format!("d{dir:02}/f{name:03}.npy"), 40_000)));
    }
    let mut world = World::new(5, 60.0, files);
    world.created(|index| (index / 100 * 100 + creation[index % 100]) as u64);
    world
}

#[test]
fn directories_in_listing_order() {
    let world = scrambled();
    let (pattern, reason) = called(&world, &[whole(&world, &(0..600).collect::<Vec<_>>())]);
    assert_eq!(pattern, "directory");
    assert!(reason.contains("listing"), "{reason}");
}

#[test]
fn directories_by_name() {
    let world = scrambled();
    let mut order: Vec<usize> = (0..600).collect();
    order.sort_by_key(|index| world.files[*index].0.clone());
    let (pattern, reason) = called(&world, &[whole(&world, &order)]);
    assert_eq!(pattern, "directory");
    assert!(reason.contains("by name"), "{reason}");
}

#[test]
fn directories_by_creation() {
    let world = scrambled();
    let mut order: Vec<usize> = (0..600).collect();
    order.sort_by_key(|index| world.ino(*index));
    let (pattern, reason) = called(&world, &[whole(&world, &order)]);
    assert_eq!(pattern, "directory");
    assert!(reason.contains("creation"), "{reason}");
}

#[test]
fn a_second_epoch_in_the_same_order() {
    let world = World::small();
    let order = &shuffled(4000, 5)[..500];
    let twice: Vec<usize> = order.iter().chain(order).copied().collect();
    let (pattern, _) = called(&world, &[whole(&world, &twice)]);
    assert_eq!(pattern, "repetition");
}

#[test]
fn a_shuffled_epoch() {
    let world = World::small();
    let (pattern, reason) = called(&world, &[whole(&world, &shuffled(4000, 6)[..500])]);
    assert_eq!(pattern, "shuffled, no profile yet");
    assert!(reason.contains("none twice"), "{reason}");
}

#[test]
fn two_epochs_in_different_orders_are_a_known_epoch() {
    let world = World::small();
    let orders: Vec<usize> = shuffled(4000, 7).into_iter().chain(shuffled(4000, 8)).collect();
    let (pattern, _) = called(&world, &[whole(&world, &orders)]);
    assert_eq!(pattern, "shuffled epoch");
}

#[test]
fn favourites_read_again_and_again_are_no_epoch() {
    let world = World::small();
    let favourites: Vec<usize> = (0..40).map(|i| i * 97).collect();
    let order: Vec<usize> = (0..2000).map(|i| favourites[(i * i * 7 + i / 3) % 40]).collect();
    let (felt, _) = Sim::run(&world, Some(Core::new(Limits::default())), &[whole(&world, &order)]);
    assert!(felt.fetched <= 40 * 40_000 * 3, "{}", felt.fetched);
}

fn within(pages: u64, ranges: impl Iterator<Item = (u64, u64)>) -> (String, String) {
    let world = World::new(5, 200.0, vec![("big.bin".into(), pages * 4096)]);
    let steps = ranges.map(|(start, len)| Step { file: 0, pages: start..start + len }).collect();
    called(&world, &[steps])
}

#[test]
fn walks_within_a_file() {
    let pattern = |ranges: Vec<(u64, u64)>| within(1 << 20, ranges.into_iter()).0;
    assert_eq!(pattern((0..100).map(|i| (i * 8, 8)).collect()), "sequential");
    assert_eq!(pattern((0..100).map(|i| (i * 64, 8)).collect()), "strided, 32 KiB every 256 KiB");
    assert_eq!(pattern((0..100).map(|i| (90_000 - i * 8, 8)).collect()), "reverse, 32 KiB a step");
    let random = shuffled(1 << 18, 9)[..100].iter().map(|page| (*page as u64 * 4, 1)).collect();
    assert_eq!(pattern(random), "random, 4 KiB a read");
}

#[test]
fn eight_readers_of_one_file_are_separated() {
    let world = World::new(5, 200.0, vec![("big.bin".into(), 1 << 30)]);
    let share = (1u64 << 18) / 8;
    let readers: Vec<Vec<Step>> = (0..8)
        .map(|reader| {
            (0..share / 8)
                .map(|i| Step { file: 0, pages: reader * share + i * 8..reader * share + i * 8 + 8 })
                .collect()
        })
        .collect();
    let (base, _) = Sim::run(&world, None, &readers);
    let (felt, _) = Sim::run(&world, Some(Core::new(Limits::default())), &readers);
    assert!(felt.wasted * 50 < felt.read);
    assert!(base.seconds / felt.seconds > 1.5, "{}", base.seconds / felt.seconds);
}

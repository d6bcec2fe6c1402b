//! Files met again that begin no epoch: the guesses go on, and the order that is kept is that of the whole set.

use crate::sim::{Sim, restart};
use crate::world::{Step, World, shuffled, whole};
use agent_core::{Core, Limits};

/// One epoch without a profile, then one with what the first left. Gives the seconds of both.
fn epochs(name: &str, world: &World, readers: [Vec<Vec<Step>>; 2]) -> [f64; 2] {
    let mut core = Some(Core::new(Limits::default()));
    readers.map(|readers| {
        let (base, _) = Sim::run(world, None, &readers);
        let (felt, after) = Sim::run(world, core.take(), &readers);
        core = after.map(restart);
        println!(
            "{name}: {:.2} s, speedup {:.2}, fetched {:.3}",
            felt.seconds,
            base.seconds / felt.seconds,
            felt.fetched as f64 / felt.read as f64
        );
        felt.seconds
    })
}

fn plain(world: &World) -> [f64; 2] {
    epochs("plain", world, [1, 2].map(|seed| vec![whole(world, &shuffled(4000, seed))]))
}

#[test]
fn an_index_opened_between_samples() {
    let world = World::small();
    let plain = plain(&world);
    for every in [10, 25] {
        let order = |seed| {
            let samples: Vec<usize> = shuffled(4000, seed).into_iter().filter(|file| *file != 0).collect();
            let read: Vec<usize> = samples.chunks(every).flat_map(|chunk| [&[0], chunk].concat()).collect();
            vec![whole(&world, &read)]
        };
        let taken = epochs(&format!("index every {every}"), &world, [order(1), order(2)]);
        for (taken, plain) in taken.into_iter().zip(plain) {
            assert!(taken <= plain * 1.1, "{taken} s, {plain} s without the index");
        }
    }
}

#[test]
fn two_processes_that_read_one_set_in_orders_of_their_own() {
    let world = World::small();
    let plain = plain(&world);
    let pair = |seed| [seed, seed + 10].map(|seed| whole(&world, &shuffled(4000, seed))).to_vec();
    let taken = epochs("two", &world, [pair(1), pair(2)]);
    for (taken, plain) in taken.into_iter().zip(plain) {
        // The same files: what one waits for, the other finds.
        assert!(taken <= plain * 1.1, "{taken} s, {plain} s alone");
    }
}

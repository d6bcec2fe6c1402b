//! Who reads a file does not wait for all of the next one, however large that is and however sure.

use agent_core::{Core, Extent, Limits, Order, PAGE};

use crate::folders::{Folders, Who, named};
use crate::sim::{Sim, restart};
use crate::world::{Step, World};

#[test]
fn a_known_large_file_does_not_take_the_link_from_the_one_being_read() {
    let sizes = [16, 16, 600].into_iter().enumerate();
    // Its readers fill this link by themselves.
    let mut world = World::new(2, 30.0, sizes.map(|(at, mib)| (format!("d/f{at}"), mib << 20)).collect());
    world.read_ahead = 32;
    let steps = |file: usize| {
        let pages = world.files[file].1 / PAGE;
        (0..pages).step_by(32).map(move |at| Step { file, pages: at..at + 32 })
    };
    let reader = [1, 0, 2].into_iter().flat_map(steps).collect::<Vec<Step>>();
    let before = reader.iter().take_while(|step| step.file != 2).count();
    let readers = [reader];
    let (alone, _) = Sim::run(&world, None, &readers);
    let mut core = Core::new(Limits::default());
    for run in 0..3 {
        let (felt, learned) = Sim::run(&world, Some(core), &readers);
        core = restart(learned.unwrap());
        let (with, without) = (felt.at[before], alone.at[before]);
        assert!(
            with < without * 1.5,
            "run {run}: {with:.1} s until the large one is begun, {without:.1} s without us"
        );
        assert!(
            felt.seconds < alone.seconds * 1.05,
            "run {run}: {:.1} s, {:.1} s without us",
            felt.seconds,
            alone.seconds
        );
    }
}

#[test]
fn of_a_file_whose_size_is_not_known_a_piece_is_asked_for_first() {
    const MIB: u64 = 1 << 20;
    let size = 8 * MIB;
    let mut folders = Folders::with(Limits::default(), size, 16 << 30);
    let mut asked = 0;
    for file in 0..4 {
        for at in (0..size / PAGE).step_by(256) {
            folders.now += 10_000_000;
            folders.read_part(Who::D, file, at..at + 256, at..at + 256);
            for order in folders.core.orders() {
                match order {
                    Order::List { id, mount, dir, .. } => folders.list(id, mount, dir),
                    Order::Fetch { path, extent, .. } if named(&path).1 > file => {
                        assert!(matches!(extent, Extent::Whole { limit } if limit == MIB), "{extent:?}");
                        asked += 1;
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(asked > 0, "the walk goes on to files that nobody reads yet");
}

//! Readers that take turns: among places of one file, among files of several kinds, from burst to burst.

use crate::sim::Sim;
use crate::world::{Step, World, shuffled, whole};
use agent_core::{Core, Limits};

/// Of a run of these readers, in per cent of what was read: what a prediction had brought, and what one brought in
/// vain.
fn fates(world: &World, readers: &[Vec<Step>]) -> (u64, u64) {
    let (felt, core) = Sim::run(world, Some(Core::new(Limits::default())), readers);
    let fate = core.unwrap().node().fate;
    println!("{fate:?} of {}, {} in vain", felt.read, felt.wasted);
    ((fate.hit + fate.late) * 100 / felt.read, felt.wasted * 100 / felt.read)
}

fn in_one_file(bytes: u64, reads: impl IntoIterator<Item = (u64, u64)>) -> (u64, u64) {
    let world = World::new(5, 200.0, vec![("one.bin".into(), bytes)]);
    let step = |(start, len)| Step { file: 0, pages: start..start + len };
    fates(&world, &[reads.into_iter().map(step).collect()])
}

#[test]
fn one_thread_that_takes_turns_among_places_of_a_file() {
    // Equally far apart, which looks like a stride at first, and not; few and many.
    for places in
        [&[0, 20_000][..], &[0, 20_000, 40_000, 60_000], &[0, 9_000, 40_000, 45_000, 100_000, 101_000]]
    {
        let reads = (0..560).flat_map(|turn| places.iter().map(move |place| (place + turn * 16, 16)));
        let (had, in_vain) = in_one_file(1 << 30, reads);
        // What was ahead of the places when the reader ended is in vain.
        assert!(had >= 70 && in_vain <= 15, "{places:?}: {had} %, {in_vain} % in vain");
    }
}

/// Columns of each row group, of which each has its own size, and a part of each of a layer's tensors.
#[test]
fn bursts_of_unlike_lengths_and_distances_that_take_turns() {
    let columns = |group: u64| [(0, 15), (120, 225), (355, 50)].map(|(at, len)| (group * 405 + at + 60, len));
    let tensors = |layer: u64| {
        [(256, 256), (1_088, 64), (1_344, 64), (1_792, 256)].map(|(at, len)| (layer * 2_560 + at, len))
    };
    let kinds: [(&str, Vec<(u64, u64)>); 2] =
        [("columns", (0..120).flat_map(columns).collect()), ("tensors", (0..60).flat_map(tensors).collect())];
    for (name, reads) in kinds {
        let (had, in_vain) = in_one_file(1 << 30, reads);
        assert!(had >= 70 && in_vain <= 15, "{name}: {had} %, {in_vain} % in vain");
    }
}

#[test]
fn regions_of_one_length_at_places_that_nobody_can_foresee() {
    let order = shuffled(2_000, 11);
    // Five reads and more make a walk; its end is foreseen while the file is still open.
    for reads in [5, 24] {
        let regions = order
            .iter()
            .take(300)
            .flat_map(|region| (0..reads).map(move |i| (*region as u64 * 1_000 + i * 16, 16)));
        let (had, in_vain) = in_one_file(8 << 30, regions);
        assert!(had >= 70 && in_vain <= 10, "{reads} reads: {had} %, {in_vain} % in vain");
    }
}

/// Where a worker's block ends, another's began: nothing of the file is left out.
#[test]
fn workers_that_take_blocks_of_a_file_from_a_queue() {
    let world = World::new(5, 200.0, vec![("one.bin".into(), 512 << 20)]);
    let worker = |first: u64| {
        let blocks = (first..128).step_by(8);
        let read = |i: u64| Step { file: 0, pages: i..i + 64 };
        blocks.flat_map(|block| (block * 1_024..block * 1_024 + 1_024).step_by(64).map(read)).collect()
    };
    let workers: Vec<Vec<Step>> = (0..8).map(worker).collect();
    let (had, in_vain) = fates(&world, &workers);
    assert!(had >= 82 && in_vain == 0, "{had} %, {in_vain} % in vain");
}

#[test]
fn bursts_longer_than_a_store_takes_at_once() {
    let (had, in_vain) = in_one_file(2 << 30, (0..100).map(|burst| (burst * 1_536, 1_024)));
    assert!(had >= 85 && in_vain <= 5, "{had} %, {in_vain} % in vain");
}

#[test]
fn files_of_a_kind_of_which_only_the_header_is_read_alike() {
    let files: Vec<_> = (0..300).map(|i| (format!("a/{i:04}.wav"), 4 << 20)).collect();
    let world = World::new(5, 200.0, files);
    let at = shuffled(900, 7);
    let steps = (0..300).flat_map(|file| {
        let crop = 20 + at[file] as u64;
        [Step { file, pages: 0..1 }, Step { file, pages: crop..crop + 4 }]
    });
    let (had, in_vain) = fates(&world, &[steps.collect()]);
    // One page of five: the wait for it is half of each file's.
    assert!(had >= 15 && in_vain <= 20, "{had} %, {in_vain} % in vain");
}

#[test]
fn a_part_of_a_folder_that_is_read_in_bursts() {
    let world =
        World::new(5, 60.0, (0..8000).map(|i| (format!("d{}/f{i:04}.npy", i / 1000), 40_000)).collect());
    // Slabs of an array, clips of a film, a pair out of each four.
    let kinds: [(&str, Vec<usize>); 3] = [
        ("slabs", (0..400).flat_map(|slab| (0..3).map(move |i| slab * 20 + i)).collect()),
        ("clips", (0..130).flat_map(|clip| (0..16).map(move |i| clip * 60 + i)).collect()),
        ("pairs", (0..2000).flat_map(|sample| [sample * 4 + 2, sample * 4 + 1]).collect()),
    ];
    for (name, order) in kinds {
        let (had, in_vain) = fates(&world, &[whole(&world, &order)]);
        assert!(had >= 90 && in_vain <= 10, "{name}: {had} %, {in_vain} % in vain");
    }
}

#[test]
fn bursts_of_a_folder_at_places_that_nobody_can_foresee_waste_little() {
    let world = World::small();
    let order = shuffled(200, 3);
    let bursts: Vec<usize> =
        order.iter().take(120).flat_map(|burst| (0..3).map(move |i| burst * 20 + i)).collect();
    let (_, in_vain) = fates(&world, &[whole(&world, &bursts)]);
    assert!(in_vain <= 40, "{in_vain} % in vain");
}

#[test]
fn trees_with_few_files_below_each_folder() {
    let file = |i: usize, in_leaf: usize, leaves: usize| {
        let (leaf, file) = (i / in_leaf, i % in_leaf);
        (format!("t/g{:03}/s{:02}/{file}", leaf / leaves, leaf % leaves), 150_000)
    };
    for (in_leaf, leaves) in [(1, 1), (1, 4), (3, 1), (2, 5)] {
        let world = World::new(5, 200.0, (0..400).map(|i| file(i, in_leaf, leaves)).collect());
        let order: Vec<usize> = (0..400).collect();
        let (had, in_vain) = fates(&world, &[whole(&world, &order)]);
        assert!(had >= 85 && in_vain <= 5, "{in_leaf} in each of {leaves}: {had} %, {in_vain} % in vain");
    }
}

#[test]
fn samples_in_folders_of_their_own_of_which_some_files_are_read() {
    // Four files a sample, one of them read, and two in the other order than they are listed; and a tree in which each
    // session has two folders.
    let sample = |i: usize| {
        (format!("d/s{:04}/{}", i / 4, ["depth.png", "mask.png", "meta.json", "rgb.png"][i % 4]), 60_000)
    };
    let samples = World::new(5, 200.0, (0..1_600).map(sample).collect());
    let session = |i: usize| {
        let (session, name) = (i / 3, ["anat/t1.nii", "func/bold.json", "func/bold.nii"][i % 3]);
        (format!("sub-{:03}/ses-{}/{name}", session / 2, session % 2), 60_000)
    };
    let sessions = World::new(5, 200.0, (0..900).map(session).collect());
    let kinds: [(&str, &World, Vec<usize>); 3] = [
        ("one", &samples, (0..400).map(|sample| sample * 4 + 3).collect()),
        ("two", &samples, (0..400).flat_map(|sample| [sample * 4 + 3, sample * 4 + 1]).collect()),
        (
            "sessions",
            &sessions,
            (0..300).flat_map(|session| [0, 2, 1].map(|file| session * 3 + file)).collect(),
        ),
    ];
    for (name, world, order) in kinds {
        let (had, in_vain) = fates(world, &[whole(world, &order)]);
        assert!(had >= 90 && in_vain <= 10, "{name}: {had} %, {in_vain} % in vain");
    }
}

#[test]
fn of_samples_in_no_order_only_what_is_read_of_each_is_guessed_at() {
    let names = ["depth.png", "mask.png", "meta.json", "rgb.png"];
    let sample = |i: usize| (format!("d/s{:04}/{}", i / 4, names[i % 4]), 60_000);
    let world = World::new(5, 200.0, (0..2_000).map(sample).collect());
    for read in [&[3][..], &[3, 1]] {
        let order: Vec<usize> = shuffled(500, 9)
            .into_iter()
            .flat_map(|sample| read.iter().map(move |file| sample * 4 + file))
            .collect();
        let (had, in_vain) = fates(&world, &[whole(&world, &order)]);
        assert!(had >= 40 && in_vain <= 25, "{read:?}: {had} %, {in_vain} % in vain");
    }
}

/// Samples in no order, of which a few are read: what leads from one file of a sample to the next is the same each time.
#[test]
fn files_that_are_read_together() {
    let names = ["rgb.png", "depth.png", "meta.json", "mask.png"];
    let sample = |i: usize| (format!("d/s{:04}/{}", i / 4, names[i % 4]), 60_000);
    let folder = |i: usize| (format!("d/{:05}{}", i / 2, [".jpg", "_mask.png"][i % 2]), 60_000);
    let folders = |i: usize| (format!("{}/{:05}", ["images", "labels"][i % 2], i / 2), 60_000);
    let subject = |i: usize| (format!("d/s{:04}/{}", i / 2, ["anat/t1.nii", "func/rest.nii"][i % 2]), 60_000);
    let frames = |i: usize| {
        let (frame, of) = (i / 2, ["left/data/", "points/data/"][i % 2]);
        (format!("d/{:02}/{of}{:05}", frame % 20, frame / 20), 60_000)
    };
    type Path<'a> = &'a dyn Fn(usize) -> (String, u64);
    let kinds: [(&str, usize, Path, u64); 5] = [
        ("samples", 4, &sample, 65),
        ("pairs", 2, &folder, 40),
        ("pairs in two folders", 2, &folders, 40),
        ("two folders of each subject", 2, &subject, 40),
        ("two folders of each drive", 2, &frames, 40),
    ];
    for (name, files, path, least) in kinds {
        let world = World::new(5, 200.0, (0..4_000).map(path).collect());
        let samples = shuffled(4_000 / files, 5).into_iter().take(60);
        let order: Vec<usize> = samples.flat_map(|sample| sample * files..(sample + 1) * files).collect();
        let (had, _) = fates(&world, &[whole(&world, &order)]);
        assert!(had >= least, "{name}: {had} %");
    }
}

/// One file of each folder by its name, others beside it in numbers that differ: the folders are walked, not the files.
#[test]
fn one_file_of_each_folder_among_others() {
    let mut files = Vec::new();
    let mut order = Vec::new();
    for folder in 0..400_usize {
        for other in 0..3 + folder * 7 % 19 {
            files.push((format!("d/{folder:04}/img{other:03}.dcm"), 60_000));
        }
        order.push(files.len());
        files.push((format!("d/{folder:04}/seg.nii"), 60_000));
    }
    let world = World::new(5, 200.0, files);
    for every in [1, 3] {
        let read: Vec<usize> = order.iter().copied().step_by(every).collect();
        let (had, in_vain) = fates(&world, &[whole(&world, &read)]);
        assert!(had >= 85 && in_vain <= 2, "every {every}: {had} %, {in_vain} % in vain");
    }
}

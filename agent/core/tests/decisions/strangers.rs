//! Workloads put together at random: a tree, sizes, an order, parts of files, readers, runs. Nothing was made for any
//! of them, and none may be much slower with us than without, however full its readers have the link.
//!
//! `STRANGERS=100..400 cargo test --release -p agent-core --test decisions strangers -- --nocapture` prints others.

use std::ops::Range;

use crate::sim::{Felt, Sim, restart};
use crate::world::{Step, World, shuffled};
use agent_core::{Core, Limits, PAGE, pages_of};

/// Seeds of every day.
const SEEDS: Range<u64> = 0..48;

/// Bytes that one run reads, about: enough for a pattern to show, and quick.
const READ: u64 = 256 << 20;

/// Seconds that a run may lose until it is known how full the store's link is.
const LEARNING: f64 = 0.3;

/// How much longer a run may take beside that. Not 1: what is not read of what streams have ahead at the end of a part,
/// and of sets read to two thirds, still comes over a full link (docs/benchmarks.md, Strangers).
const SLOWER: f64 = 1.3;

/// What a number between 0 and 1 is drawn from: xorshift, as the simulation has it.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            dice.below(2);
        }
        dice
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n.max(1)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Each power of two as likely as another.
    fn size(&mut self, low: u64, high: u64) -> u64 {
        let steps = (high / low).ilog2() as u64;
        let base = low << self.below(steps + 1);
        (base + self.below(base)).min(high)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Copy, Debug)]
enum Sizes {
    Equal,
    Varied,
    /// One of eight is thirty times the others.
    Two,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Names,
    Backwards,
    Creation,
    Shuffled,
    /// A shuffle buffer over the names.
    Buffer(usize),
    /// One of each folder in turn.
    Folders,
    /// Some files again and again, others seldom.
    Popular,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Whole {
        piece: u64,
    },
    Head(u64),
    HeadAndTail,
    /// A footer, then some of as many columns.
    Columns {
        of: u64,
        first: u64,
        every: u64,
    },
    /// Records of so many pages a stride apart.
    Strided {
        pages: u64,
        stride: u64,
    },
    /// So many places of so many pages, others in each file.
    Places {
        count: u64,
        pages: u64,
    },
    /// From a random place on.
    Clip {
        pages: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Hands {
    One,
    Contiguous(usize),
    InTurn(usize),
}

#[derive(Clone, Copy, Debug)]
enum Again {
    Same,
    Anew,
    /// The same with some in other places and some left out.
    Changed,
}

#[derive(Debug)]
struct Stranger {
    seed: u64,
    latency: u64,
    bandwidth: u64,
    jitter: u64,
    think: u64,
    files: usize,
    bytes: u64,
    sizes: Sizes,
    order: Order,
    share: u64,
    part: Part,
    hands: Hands,
    again: Again,
    keeps: bool,
    folders: usize,
    deep: bool,
    padded: bool,
    hashed: bool,
}

impl Stranger {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let bytes = dice.size(2 << 10, 64 << 20);
        let most = (READ * 4 / bytes).clamp(1, 3000);
        let files = dice.size(1.max(most / 8), most) as usize;
        let part = match dice.below(8) {
            0..=2 => Part::Whole { piece: dice.of(&[8, 32, 64]) },
            3 => Part::Head(dice.size(1, 64)),
            4 => Part::HeadAndTail,
            5 => Part::Columns { of: 4 + dice.below(28), first: dice.below(4), every: 1 + dice.below(6) },
            6 => {
                let pages = dice.size(1, 64);
                Part::Strided { pages, stride: pages + dice.size(1, 256) }
            }
            _ if dice.chance(50) => Part::Places { count: 1 + dice.below(32), pages: dice.size(1, 32) },
            _ => Part::Clip { pages: dice.size(16, 1024) },
        };
        Self {
            seed,
            latency: dice.of(&[1, 2, 5, 10, 30]),
            bandwidth: dice.of(&[30, 60, 120, 250, 500, 1000]),
            jitter: if seed.is_multiple_of(3) { 1 + seed / 3 % 4 } else { 0 },
            think: dice.of(&[20_000, 100_000, 500_000, 2_000_000, 10_000_000]),
            files,
            bytes,
            sizes: dice.of(&[Sizes::Equal, Sizes::Varied, Sizes::Two]),
            order: match dice.below(10) {
                0 | 1 => Order::Names,
                2 => Order::Backwards,
                3 => Order::Creation,
                4..=6 => Order::Shuffled,
                7 => Order::Buffer(dice.size(4, 512) as usize),
                8 => Order::Folders,
                _ => Order::Popular,
            },
            share: dice.of(&[100, 100, 90, 70, 50, 25, 10, 3]),
            part,
            hands: match dice.below(3) {
                0 => Hands::One,
                1 => Hands::Contiguous(dice.size(2, 16) as usize),
                _ => Hands::InTurn(dice.size(2, 16) as usize),
            },
            again: dice.of(&[Again::Same, Again::Anew, Again::Anew, Again::Changed]),
            keeps: dice.chance(70),
            folders: dice.size(1, 200.min(files as u64).max(1)) as usize,
            deep: dice.chance(30),
            padded: dice.chance(70),
            hashed: dice.chance(20),
        }
    }

    fn world(&self) -> World {
        let mut dice = Dice::new(self.seed ^ 0x77);
        let each = self.files.div_ceil(self.folders).max(1);
        let files = (0..self.files).map(|number| {
            let name = match (self.hashed, self.padded) {
                (true, _) => format!("{:016x}.bin", (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                (false, true) => format!("part-{number:05}.bin"),
                (false, false) => format!("part-{number}.bin"),
            };
            let folder = number / each;
            let path = match (self.folders, self.deep) {
                (1, _) => format!("set/{name}"),
                (_, false) => format!("set/f{folder:03}/{name}"),
                (_, true) => format!("set/g{}/h{}/{name}", folder / 8, folder % 8),
            };
            let bytes = match self.sizes {
                Sizes::Equal => self.bytes,
                Sizes::Varied => self.bytes / 2 + dice.below(self.bytes),
                Sizes::Two if number % 8 == 5 => self.bytes * 30,
                Sizes::Two => self.bytes,
            };
            (path, bytes.max(1))
        });
        let mut world = World::new(self.latency, self.bandwidth as f64, files.collect());
        world.keeps = self.keeps;
        world.think = self.think;
        world.jitter = self.jitter;
        // Few switch the kernel's own read-ahead off.
        world.read_ahead = if self.seed % 4 == 3 { 0 } else { 32 };
        if self.seed % 5 == 2 {
            world.room = (READ / 4 / PAGE) as usize;
        }
        let order = shuffled(self.files, self.seed + 5);
        world.created(|file| order[file] as u64);
        if dice.chance(50) {
            world.shuffle_listing(self.seed + 6);
        }
        world
    }

    /// The files of one run, in order.
    fn order(&self, world: &World, run: u64) -> Vec<usize> {
        let seed = match self.again {
            Again::Same | Again::Changed => self.seed + 11,
            Again::Anew => self.seed + 11 + run,
        };
        let mut dice = Dice::new(seed);
        let count = self.files;
        let mut names: Vec<usize> = (0..count).collect();
        names.sort_by(|one, other| world.files[*one].0.cmp(&world.files[*other].0));
        let mut order = match self.order {
            Order::Names => names,
            Order::Backwards => names.into_iter().rev().collect(),
            Order::Creation => {
                names.sort_by_key(|file| world.ino(*file));
                names
            }
            Order::Shuffled => shuffled(count, seed),
            Order::Buffer(room) => {
                let (mut held, mut order) = (Vec::new(), Vec::new());
                for file in names {
                    held.push(file);
                    if held.len() > room {
                        let at = dice.below(held.len() as u64) as usize;
                        order.push(held.swap_remove(at));
                    }
                }
                order.extend(shuffled(held.len(), seed).into_iter().map(|at| held[at]));
                order
            }
            Order::Folders => {
                let each = count.div_ceil(self.folders).max(1);
                names.sort_by_key(|file| file % each);
                names
            }
            Order::Popular => (0..count)
                .map(|_| {
                    let most = 1 + dice.below(count as u64);
                    names[dice.below(most) as usize]
                })
                .collect(),
        };
        // What is left out is left out in each run, but where each is anew.
        if self.share < 100 {
            let chosen = match self.order {
                Order::Shuffled | Order::Popular => {
                    order.truncate((order.len() as u64 * self.share).div_ceil(100) as usize);
                    order
                }
                _ => order.into_iter().filter(|_| dice.chance(self.share)).collect(),
            };
            order = chosen;
        }
        if matches!(self.again, Again::Changed) && run > 0 {
            let mut dice = Dice::new(self.seed + run);
            order.retain(|_| !dice.chance(8));
            for at in (0..order.len().saturating_sub(20)).step_by(25) {
                order.swap(at, at + 1 + dice.below(19) as usize);
            }
        }
        let mut left = READ;
        let long = order.iter().take_while(|file| {
            let some = left > 0;
            left = left.saturating_sub(self.read_of(world, **file));
            some
        });
        let long = long.count();
        order.truncate(long);
        order
    }

    fn read_of(&self, world: &World, file: usize) -> u64 {
        self.steps(world, file, 0).iter().map(|step| (step.pages.end - step.pages.start) * PAGE).sum()
    }

    fn steps(&self, world: &World, file: usize, run: u64) -> Vec<Step> {
        let last = pages_of(world.files[file].1);
        let mut dice = Dice::new(self.seed ^ ((file as u64) << 8) ^ (run << 40));
        let step = |pages: Range<u64>| Step { file, pages };
        let pieces = |pages: Range<u64>, piece: u64| {
            pages.clone().step_by(piece as usize).map(move |at| at..(at + piece).min(pages.end))
        };
        match self.part {
            Part::Whole { piece } => pieces(0..last, piece).map(step).collect(),
            Part::Head(pages) => pieces(0..pages.min(last), 32).map(step).collect(),
            Part::HeadAndTail => [step(0..1), step(last - 1..last)].into(),
            Part::Columns { of, first, every } => {
                let column = (last / of).max(1);
                let columns = (first..of).step_by(every as usize).map(|at| at * column);
                let mut all = vec![step(last.saturating_sub(2)..last)];
                for start in columns.filter(|start| *start < last) {
                    all.extend(pieces(start..(start + column).min(last), 32).map(step));
                }
                all
            }
            Part::Strided { pages, stride } => {
                (0..last).step_by(stride as usize).map(|at| step(at..(at + pages).min(last))).collect()
            }
            Part::Places { count, pages } => (0..count)
                .map(|_| {
                    let at = dice.below(last);
                    step(at..(at + pages).min(last))
                })
                .collect(),
            Part::Clip { pages } => {
                let at = dice.below(last);
                pieces(at..(at + pages).min(last), 32).map(step).collect()
            }
        }
    }

    fn readers(&self, world: &World, run: u64) -> Vec<Vec<Step>> {
        let order = self.order(world, run);
        let files: Vec<Vec<usize>> = match self.hands {
            Hands::One => vec![order],
            Hands::Contiguous(hands) => {
                order.chunks(order.len().div_ceil(hands).max(1)).map(<[usize]>::to_vec).collect()
            }
            Hands::InTurn(hands) => {
                (0..hands).map(|hand| order.iter().copied().skip(hand).step_by(hands).collect()).collect()
            }
        };
        let steps =
            |files: &Vec<usize>| files.iter().flat_map(|file| self.steps(world, *file, run)).collect();
        files.iter().map(steps).collect()
    }
}

/// One run beside the same without us.
#[derive(Debug)]
struct Run {
    alone: Felt,
    felt: Felt,
}

impl Run {
    fn faster(&self) -> f64 {
        self.alone.seconds / self.felt.seconds.max(1e-9)
    }

    fn wasted(&self) -> f64 {
        self.felt.wasted as f64 / self.felt.read.max(1) as f64
    }
}

fn meet(stranger: &Stranger) -> Vec<Run> {
    let world = stranger.world();
    let mut core = Core::new(Limits::default());
    let mut runs = Vec::new();
    for run in 0..3 {
        let readers = stranger.readers(&world, run);
        if readers.iter().all(Vec::is_empty) {
            break;
        }
        let (alone, _) = Sim::run(&world, None, &readers);
        let (felt, learned) = Sim::run(&world, Some(core), &readers);
        core = restart(learned.unwrap());
        runs.push(Run { alone, felt });
    }
    runs
}

fn seeds() -> Range<u64> {
    let Ok(told) = std::env::var("STRANGERS") else { return SEEDS };
    let (from, to) = told.split_once("..").expect("STRANGERS is a range, as 100..400");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn nobody_is_much_slower_with_us() {
    let mut slower = Vec::new();
    for seed in seeds() {
        let stranger = Stranger::new(seed);
        for (number, run) in meet(&stranger).iter().enumerate() {
            let words = format!(
                "{:.2} times as fast, {:.2} wasted, {:.1} s, {:.1} MB read: run {number} of {stranger:?}",
                run.faster(),
                run.wasted(),
                run.felt.seconds,
                run.felt.read as f64 / 1e6,
            );
            println!("{words}");
            if run.felt.seconds > run.alone.seconds * SLOWER + LEARNING {
                slower.push(words);
            }
        }
    }
    assert!(slower.is_empty(), "{} runs are slower:\n{}", slower.len(), slower.join("\n"));
}

//! Threads whose numbers are given again or share a place, and who the agent is among them.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use agent::probe::{Plan, ReadEvent};
use agent_common::state::SEATS;
use agent_core::observation::Via;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::{set, verdict};
use crate::args::PlanName;
use crate::disk::chill;
use crate::scene::{Scene, Told, key, key_of};
use crate::verdict::Verdict;

/// Numbers to try, and more than there is in use at a time.
const NUMBERS: std::ops::Range<i32> = 20_000..28_000;

/// A process of its own that reads a page at each word, until it is told to go.
struct Reader {
    pid: i32,
    orders: OwnedFd,
    done: OwnedFd,
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe().expect("a pipe")
}

/// Forks; `number`, if any, is the child's. `None` where somebody has it.
fn fork(number: Option<i32>, child: impl FnOnce()) -> Option<i32> {
    // SAFETY: all zeros is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = libc::SIGCHLD as u64;
    let wanted = number.unwrap_or_default();
    if number.is_some() {
        (args.set_tid, args.set_tid_size) = (&raw const wanted as u64, 1);
    }
    // SAFETY: the arguments live through the call; what the child does is no more than the caller's to answer for.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match pid {
        0 => {
            child();
            // SAFETY: ends the child without what this program does at its end.
            unsafe { libc::_exit(0) }
        }
        -1 => {
            let error = std::io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "clone3: {error}");
            None
        }
        pid => Some(pid as i32),
    }
}

impl Reader {
    fn begin(number: i32, file: &File) -> Option<Self> {
        let ((ordered, orders), (done, doing)) = (pipe(), pipe());
        let pid = fork(Some(number), || {
            // SAFETY: the child's own copy, which would keep it waiting after its parent has gone.
            unsafe { libc::close(orders.as_raw_fd()) };
            let (mut word, mut page) = ([0_u8], [0_u8; 4096]);
            let mut at = 0;
            while rustix::io::read(&ordered, &mut word) == Ok(1) && word == *b"r" {
                let _ = rustix::io::pread(file, &mut page, at);
                at += 4096;
                let _ = rustix::io::write(&doing, &word);
            }
        })?;
        Some(Self { pid, orders, done })
    }

    fn reads(&self) {
        rustix::io::write(&self.orders, b"r").expect("a reader that lives");
        assert_eq!(rustix::io::read(&self.done, &mut [0_u8]), Ok(1));
    }

    fn ends(self) {
        let Self { pid, orders, done: _ } = self;
        rustix::io::write(&orders, b"q").expect("a reader that lives");
        wait(pid);
    }
}

fn wait(pid: i32) {
    let pid = Pid::from_raw(pid).expect("no zero");
    waitpid(Some(pid), WaitOptions::empty()).expect("waiting");
}

fn exits(told: &Told, pid: i32) -> usize {
    let pid = pid as u32;
    told.events.iter().filter(|event| matches!(event, ReadEvent::Exit { tgid, .. } if *tgid == pid)).count()
}

/// Of two threads that share a seat the later one takes it over when the other has ended, with what it has read; and
/// what a thread drops at its very end leaves nothing to whoever has its number next.
pub fn seats(scene: &mut Scene) -> Verdict {
    if scene.sees_hits() {
        taken_over(scene);
    }
    given_again(scene);
    verdict(scene)
}

fn taken_over(scene: &mut Scene) {
    let path = scene.disk.file("seats", 1 << 20);
    let file = File::open(&path).expect("opening");
    scene.told();
    let (first, second) = NUMBERS
        .step_by(7)
        .find_map(|number| {
            let first = Reader::begin(number, &file)?;
            match Reader::begin(number + SEATS as i32, &file) {
                Some(second) => Some((first, second)),
                None => {
                    first.ends();
                    None
                }
            }
        })
        .expect("two numbers that share a seat");
    let (one, two) = (first.pid, second.pid);
    first.reads();
    (0..5).for_each(|_| second.reads());
    first.ends();
    second.reads();
    second.ends();
    let told = scene.told();
    let by = |pid: i32| {
        let counts = told.events.iter().map(|event| match event {
            ReadEvent::Access { reader, count, .. } if reader.tid == pid as u32 => *count,
            _ => 0,
        });
        counts.sum::<u32>()
    };
    assert_eq!((by(one), by(two)), (1, 6), "{:?}", told.events);
    assert_eq!(told.pages(&path, Via::Read), set(0..6));
    assert_eq!((exits(&told, one), exits(&told, two)), (1, 1), "{:?}", told.events);
}

/// The last thread of a process, which is not its first, lets go of an unlinked file as it ends; then its number is
/// given to a process.
fn given_again(scene: &mut Scene) {
    let path = scene.disk.file("next-owner", 4096);
    for _ in 0..5 {
        scene.told();
        let thread = last_thread(scene);
        let file = File::open(&path).expect("opening");
        chill(&file);
        scene.told();
        let next = fork(Some(thread), || {
            let _ = rustix::io::pread(&file, &mut [0_u8; 100], 0);
        });
        // Somebody was quicker.
        let Some(next) = next else { continue };
        wait(next);
        let told = scene.told();
        assert_eq!(next, thread);
        for event in &told.events {
            if let ReadEvent::Access { reader, .. } = event {
                assert_eq!((reader.tgid, reader.tid), (next as u32, next as u32), "{:?}", told.events);
            }
        }
        assert_eq!(told.count(&path), u32::from(scene.sees_hits()), "{:?}", told.events);
        assert_eq!(exits(&told, next), 1, "the end of {next}: {:?}", told.events);
        return;
    }
    panic!("five times a thread's number was given to somebody else at once");
}

/// The number of that thread, which has ended: the file's pages were dropped by it, and told so.
fn last_thread(scene: &mut Scene) -> i32 {
    let path = scene.disk.file("parting", 300 * 4096);
    let of = key_of(&path);
    let file = File::open(&path).expect("opening");
    fs::remove_file(&path).expect("unlinking");
    scene.told();
    let ((ordered, orders), (told, tell)) = (pipe(), pipe());
    // SAFETY: this program has no other thread that could hold a lock now.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "fork");
    if process == 0 {
        end_last(file, ordered, tell);
    }
    drop(file);
    drop(tell);
    let mut tid = [0_u8; 4];
    assert_eq!(rustix::io::read(&told, &mut tid), Ok(4), "the thread's number");
    rustix::io::write(&orders, b"r").expect("a thread that lives");
    wait(process);
    let events = scene.told();
    let mut gone = crate::scene::PageSet::default();
    for event in &events.events {
        if let ReadEvent::Removed { file, pages, .. } = event
            && key(*file) == of
        {
            gone.extend(pages.clone());
        }
    }
    assert_eq!(gone, set(0..300), "dropped at the end: {:?}", events.events);
    // By what a process drops at its end alone it is no reader.
    let read = usize::from(scene.sees_hits());
    assert_eq!(exits(&events, process), read, "{:?}", events.events);
    i32::from_le_bytes(tid)
}

/// In a process that has just been forked: another thread outlives this one, says its number, waits for a word, reads
/// the file, and ends.
fn end_last(file: File, ordered: OwnedFd, tell: OwnedFd) -> ! {
    let leader = rustix::process::getpid();
    std::thread::spawn(move || {
        let stat = format!("/proc/{}/stat", leader.as_raw_nonzero());
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
            std::thread::yield_now();
        }
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let _ = rustix::io::write(&tell, &tid.to_le_bytes());
        let _ = rustix::io::read(&ordered, &mut [0_u8]);
        let _ = file.read_exact_at(&mut [0; 100], 0);
        // SAFETY: ends this thread, and with it the process, files and all, but nothing before that.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    // SAFETY: ends this thread alone.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    std::process::abort()
}

/// In a container with processes of its own the agent has another number than on the machine, and knows itself all the
/// same: its reads are its own there too.
pub fn own_numbers(plan: Plan) -> Verdict {
    let plan = PlanName::of(plan).text();
    let program = std::env::current_exe().expect("this program");
    let run = move || {
        // SAFETY: of this thread only what it starts is concerned.
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Command::new(program).args(["--case", "own-reads", "--plan", &plan]).output()
    };
    let output = std::thread::spawn(run).join().expect("a thread").expect("a program among others");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("own-reads"), "{said}");
    Verdict::Seen
}

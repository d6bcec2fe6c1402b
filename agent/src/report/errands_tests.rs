//! Instructions against an edge that only answers when told.

use agent_core::Pages;

use super::*;
use crate::report::busy::{AT_MOUNT, BYTES_AT_MOUNT, UNDER_WAY};

fn fetch(id: &str) -> wire::Instruction {
    let extent = wire::Extent { dataset: 1, ..wire::Extent::default() };
    let work = Work::Fetch(wire::Fetch { extent: Some(extent), tier: wire::Tier::PageCache.into() });
    wire::Instruction { id: id.into(), work: Some(work), ..wire::Instruction::default() }
}

fn pieces(count: usize) -> Plan {
    let piece =
        |n: usize| Piece { mount: MountId(1), path: n.to_string().as_bytes().into(), pages: vec![0..2] };
    Plan::Pieces((0..count).map(piece).collect(), Claim::default())
}

fn piece(order: &Do) -> &Piece {
    match order {
        Do::Fetch(_, piece) | Do::LetGo(_, piece) => piece,
    }
}

fn ids(orders: &[Do]) -> Vec<OrderId> {
    let id = |order: &Do| match order {
        Do::Fetch(id, _) | Do::LetGo(id, _) => *id,
    };
    orders.iter().map(id).collect()
}

fn states(words: &[wire::Progress]) -> Vec<State> {
    words.iter().map(wire::Progress::state).collect()
}

#[test]
fn a_mount_that_is_busy_holds_up_no_other() {
    let mut errands = Errands::default();
    for mount in 0..10 {
        errands.take(fetch(&format!("a{mount}")), Nanos(0));
    }
    let plans = std::cell::Cell::new(0);
    let plan = |_: &Work, _: &Claims| {
        let mount = MountId(plans.replace(plans.get() + 1));
        let Plan::Pieces(mut pieces, claim) = pieces(2 * AT_MOUNT) else { panic!() };
        pieces.iter_mut().for_each(|piece| piece.mount = mount);
        Plan::Pieces(pieces, claim)
    };
    let orders = errands.orders(Nanos(1), plan, |_| true);
    let at = |mount| orders.iter().filter(|order| piece(order).mount == MountId(mount)).count();
    assert_eq!((orders.len(), at(0), at(7), at(8)), (UNDER_WAY, AT_MOUNT, AT_MOUNT, 0));
    // Those at the last mount end; nobody else's do.
    let last = orders.iter().filter(|order| piece(order).mount == MountId(7)).cloned().collect::<Vec<_>>();
    for id in ids(&last) {
        errands.ended(id, Outcome::Done, Nanos(2));
    }
    let next = errands.orders(Nanos(3), |_, _| panic!("planned twice"), |_| true);
    assert!(next.iter().all(|order| piece(order).mount == MountId(7)), "in its turn");
    assert_eq!(next.len(), AT_MOUNT);
}

#[test]
fn an_instruction_is_done_once() {
    let mut errands = Errands::default();
    assert_eq!(errands.take(fetch("a"), Nanos(0)), None);
    assert_eq!(states(&errands.words(Nanos(0))), [State::Accepted]);
    assert!(errands.orders(Nanos(1), |_, _| Plan::Wait, |_| true).is_empty());
    let orders = errands.orders(Nanos(1), |_, _| pieces(40), |_| true);
    assert_eq!(orders.len(), AT_MOUNT);
    let known = errands.take(fetch("a"), Nanos(1)).unwrap();
    assert_eq!((known.state(), known.files_total, known.bytes_total), (State::Running, 40, 80 * PAGE));
    for id in ids(&orders) {
        errands.ended(id, Outcome::Done, Nanos(2));
    }
    let rest = errands.orders(Nanos(3), |_, _| panic!("planned twice"), |_| true);
    assert_eq!(rest.len(), 8);
    for (n, id) in ids(&rest).into_iter().enumerate() {
        errands.ended(id, if n == 0 { Outcome::Absent } else { Outcome::Done }, Nanos(4));
    }
    let ends = errands.words(Nanos(4));
    assert_eq!(states(&ends), [State::Partly]);
    assert!(errands.words(Nanos(5)).is_empty(), "it has been said");
    assert_eq!(errands.words(Nanos(4).plus(UNHEARD)), ends, "and is said again until it is heard");
    assert_eq!((ends[0].files, ends[0].failed_files, ends[0].bytes), (39, 1, 78 * PAGE));
    // Asked again: the same answer, no work.
    assert_eq!(errands.take(fetch("a"), Nanos(5)), Some(ends[0].clone()));
    assert!(errands.orders(Nanos(5), |_, _| panic!("done again"), |_| true).is_empty());
    errands.acked("a");
    errands.unheard();
    assert!(errands.words(Nanos(6)).is_empty());
    assert_eq!(errands.in_hand(), ends);
}

#[test]
fn a_long_file_is_many_orders_and_one_file() {
    let mut errands = Errands::default();
    let most = ORDER_BYTES / PAGE;
    let long =
        |ranges: &[Pages]| Piece { mount: MountId(1), path: b"long"[..].into(), pages: ranges.to_vec() };
    let whole = long(&[0..2 * most - 1, 3 * most..3 * most + 5]);
    let Plan::Pieces(mut both, _) = pieces(1) else { panic!("no pieces") };
    both.insert(0, whole.clone());
    errands.take(fetch("a"), Nanos(0));
    let orders = errands.orders(Nanos(1), |_, _| Plan::Pieces(both.clone(), Claim::default()), |_| true);
    let asked: Vec<Piece> = orders.iter().map(|order| piece(order).clone()).collect();
    let parts = [long(&[0..most]), long(&[most..2 * most - 1, 3 * most..3 * most + 1])];
    assert_eq!(asked, [&parts[..], &[long(&[3 * most + 1..3 * most + 5]), both[1].clone()]].concat());
    let so_far = |errands: &Errands| {
        let wire::Progress { bytes, files, failed_files, .. } = errands.in_hand()[0];
        (bytes, files, failed_files)
    };
    for (order, told) in ids(&orders).into_iter().zip([(1, 0), (2, 0), (2, 1), (2, 2)]) {
        errands.ended(order, Outcome::Done, Nanos(2));
        let (bytes, files, failed) = so_far(&errands);
        assert_eq!((bytes / ORDER_BYTES, files, failed), (told.0, told.1, 0));
    }
    let end = errands.words(Nanos(3)).remove(0);
    assert_eq!((end.state(), end.bytes, end.bytes_total), (State::Done, whole.bytes() + 2 * PAGE, end.bytes));

    // It fails once, and nothing more of it is asked for.
    errands.take(fetch("b"), Nanos(4));
    let endless = Plan::Pieces(vec![long(&[0..1_000 * most])], Claim::default());
    let orders = errands.orders(Nanos(4), |_, _| endless.clone(), |_| true);
    let at_once = BYTES_AT_MOUNT / ORDER_BYTES;
    assert_eq!(orders.len() as u64, at_once);
    for (n, order) in ids(&orders).into_iter().enumerate() {
        errands.ended(order, if n < 2 { Outcome::Failed } else { Outcome::Done }, Nanos(5));
        assert!(errands.orders(Nanos(5), |_, _| panic!("planned twice"), |_| true).is_empty());
    }
    assert_eq!(so_far(&errands), ((at_once - 2) * ORDER_BYTES, 0, 1));
    assert_eq!(states(&errands.words(Nanos(6))), [State::Failed]);
}

#[test]
fn what_nobody_wants_any_more_is_taken_back() {
    let mut errands = Errands::default();
    errands.take(fetch("a"), Nanos(0));
    let orders = errands.orders(Nanos(1), |_, _| pieces(2 * AT_MOUNT), |_| true);
    assert!(errands.unwanted().is_empty());
    errands.withdraw("a");
    let mut unwanted = errands.unwanted();
    unwanted.sort_unstable();
    assert_eq!((unwanted, errands.unwanted()), (ids(&orders), vec![]));
    errands.take(fetch("b"), Nanos(1));
    assert!(errands.orders(Nanos(1), |_, _| pieces(9), |_| true).is_empty(), "the edge has them still");
    for order in ids(&orders) {
        errands.ended(order, Outcome::Dropped, Nanos(2));
    }
    assert_eq!(errands.orders(Nanos(2), |_, _| panic!("planned twice"), |_| true).len(), 9);
    assert_eq!(errands.in_hand()[0].failed_files, 0, "what was another's");
}

#[test]
fn a_mount_that_turns_out_to_keep_nothing_ends_what_is_in_hand_there() {
    let mut errands = Errands::default();
    errands.take(fetch("a"), Nanos(0));
    let orders = errands.orders(Nanos(1), |_, _| pieces(2 * AT_MOUNT), |_| true);
    errands.close(MountId(2), "another");
    assert!(errands.unwanted().is_empty());
    errands.close(MountId(1), "its pages go");
    assert_eq!(errands.unwanted().len(), orders.len());
    let end = errands.words(Nanos(1)).remove(0);
    assert_eq!((end.state(), &*end.detail), (State::Refused, "its pages go"));
}

fn pin(id: &str, dataset: u32) -> wire::Instruction {
    let extent = Some(wire::Extent { dataset, ..wire::Extent::default() });
    let work = Some(Work::Pin(wire::Pin { extent, tier: wire::Tier::PageCache.into() }));
    wire::Instruction { id: id.into(), work, ..wire::Instruction::default() }
}

#[test]
fn instructions_do_not_push_out_each_others_bytes() {
    let mut errands = Errands::default();
    // Each Dataset has ten chunks, of which each takes one of the room.
    let plan = |room: u64| {
        move |work: &Work, taken: &Claims| {
            let Work::Pin(wire::Pin { extent: Some(extent), .. }) = work else { panic!("a pin") };
            let mut claim = Claim { of: (extent.dataset, 1), bytes: 10, ..Claim::default() };
            claim.chunks.insert(0, 10);
            if taken.bytes() + taken.beyond(&claim) > room {
                return Plan::No(State::Refused, "no room".into());
            }
            let Plan::Pieces(pieces, _) = pieces(1) else { panic!("no pieces") };
            Plan::Pieces(pieces, claim)
        }
    };
    let told = |errands: &mut Errands, now| {
        let words = errands.words(now);
        words.iter().map(|w| (w.id.clone(), w.state())).collect::<Vec<_>>()
    };
    let run = |errands: &mut Errands, room, now| {
        for order in ids(&errands.orders(now, plan(room), |_| false)) {
            errands.ended(order, Outcome::Done, now);
        }
    };
    errands.take(pin("one", 1), Nanos(0));
    errands.take(pin("two", 2), Nanos(0));
    run(&mut errands, 16, Nanos(1));
    assert_eq!(
        told(&mut errands, Nanos(1)),
        [("two".into(), State::Refused), ("one".into(), State::Done)],
        "the second would push out the first"
    );
    errands.acked("two");
    errands.take(pin("the same", 1), Nanos(2));
    run(&mut errands, 16, Nanos(2));
    assert_eq!(told(&mut errands, Nanos(2)), [("the same".into(), State::Done)], "its bytes are there");
    errands.take(pin("three", 3), Nanos(3));
    run(&mut errands, 20, Nanos(3));
    assert_eq!(told(&mut errands, Nanos(3)), [("three".into(), State::Done)]);
    // There is less by now: one of them has to go, and what one has taken itself does not count.
    let later = Nanos(3).plus(AGAIN);
    run(&mut errands, 16, later);
    assert_eq!(told(&mut errands, later), [("three".into(), State::Refused)]);
    // What has ended takes nothing.
    errands.acked("three");
    errands.unpin(1, b"");
    errands.take(pin("four", 4), later);
    run(&mut errands, 16, later);
    assert!(told(&mut errands, later).contains(&("four".into(), State::Done)));
}

#[test]
fn while_memory_is_scarce_nothing_is_brought_in() {
    let mut errands = Errands::default();
    let nothing = |_: &Piece| false;
    errands.take(fetch("begun"), Nanos(0));
    let begun = errands.orders(Nanos(1), |_, _| pieces(AT_MOUNT - 1), nothing);
    errands.take(pin("pin", 1), Nanos(0));
    let first = errands.orders(Nanos(1), |_, _| pieces(3), nothing);
    assert_eq!(first.len(), 1);
    errands.memory(true);
    assert_eq!(errands.words(Nanos(1))[0].state(), State::Partly, "it ends with what it has");
    assert_eq!(errands.unwanted().len(), begun.len());
    for order in ids(&begun).into_iter().chain(ids(&first)) {
        errands.ended(order, Outcome::Done, Nanos(2));
    }
    errands.take(fetch("new"), Nanos(2));
    assert!(errands.orders(Nanos(2), |_, _| pieces(3), nothing).is_empty(), "there is room at the edge");
    // What frees memory goes on.
    let work = Some(Work::Drop(wire::Drop { extent: None, tier: wire::Tier::PageCache.into() }));
    errands.take(wire::Instruction { work, ..fetch("drop") }, Nanos(2));
    let freed = errands.orders(Nanos(2), |_, _| pieces(1), nothing);
    assert!(matches!(freed[..], [Do::LetGo(..)]));
    errands.ended(ids(&freed)[0], Outcome::Done, Nanos(2));
    errands.memory(false);
    let rest = errands.orders(Nanos(3), |_, _| pieces(3), nothing);
    assert_eq!(rest.len(), 2 + 3, "the pin goes on, and the fetch begins");
    for order in ids(&rest) {
        errands.ended(order, Outcome::Done, Nanos(3));
    }
    // Pages of a pin that went while memory was scarce are brought in later.
    errands.memory(true);
    let later = Nanos(3).plus(AGAIN);
    assert!(errands.orders(later, |_, _| pieces(3), nothing).is_empty());
    errands.memory(false);
    assert_eq!(errands.orders(later, |_, _| pieces(3), nothing).len(), 3);
}

#[test]
fn what_cannot_be_done_is_said() {
    let mut errands = Errands::default();
    let unknown = wire::Instruction { id: "u".into(), ..wire::Instruction::default() };
    assert_eq!(errands.take(unknown, Nanos(0)).unwrap().state(), State::Refused);
    errands.take(fetch("changed"), Nanos(0));
    errands.orders(Nanos(1), |_, _| Plan::No(State::Changed, "another version".into()), |_| true);
    errands.take(fetch("empty"), Nanos(0));
    errands.orders(Nanos(1), |_, _| pieces(0), |_| true);
    errands.take(wire::Instruction { useful_ms: 5, ..fetch("late") }, Nanos(0));
    errands.orders(Nanos::from_millis(6), |_, _| Plan::Wait, |_| true);
    errands.take(fetch("all-failed"), Nanos(0));
    for id in ids(&errands.orders(Nanos(1), |_, _| pieces(2), |_| true)) {
        errands.ended(id, Outcome::Failed, Nanos(1));
    }
    errands.take(fetch("withdrawn"), Nanos(0));
    errands.withdraw("withdrawn");
    assert_eq!(
        states(&errands.words(Nanos::from_millis(7))),
        [State::Changed, State::Done, State::Dropped, State::Failed, State::Dropped]
    );
}

#[test]
fn a_pin_is_brought_in_again_when_its_pages_went() {
    let mut errands = Errands::default();
    errands.take(pin("pin", 1), Nanos(0));
    for id in ids(&errands.orders(Nanos(1), |_, _| pieces(3), |_| true)) {
        errands.ended(id, Outcome::Done, Nanos(1));
    }
    assert_eq!(states(&errands.words(Nanos(2))), [State::Done]);
    assert!(errands.words(Nanos(2)).is_empty(), "it goes on");
    let soon = Nanos(2).plus(Nanos::from_millis(1_000));
    assert!(errands.orders(soon, |_, _| pieces(3), |_| false).is_empty());
    let later = Nanos(2).plus(AGAIN);
    let again = errands.orders(later, |_, _| pieces(3), |piece| *piece.path != b"1"[..]);
    assert_eq!(again.len(), 1);
    let so_far = errands.in_hand().remove(0);
    assert_eq!((so_far.files, so_far.bytes, so_far.files_total), (2, 4 * PAGE, 3), "one is gone");
    let much_later = later.plus(AGAIN);
    assert!(errands.orders(much_later, |_, _| panic!("it is under way"), |_| false).is_empty());
    errands.ended(ids(&again)[0], Outcome::Done, much_later);
    let so_far = errands.in_hand().remove(0);
    assert_eq!((so_far.state(), so_far.files, so_far.bytes), (State::Done, 3, 6 * PAGE));
    errands.unpin(1, b"");
    assert_eq!(states(&errands.words(later)), [State::Dropped]);
}

#[test]
fn everything_is_bounded() {
    let mut errands = Errands::default();
    for n in 0..OPEN {
        assert_eq!(errands.take(fetch(&n.to_string()), Nanos(0)), None);
    }
    assert_eq!(errands.take(fetch("more"), Nanos(0)).unwrap().state(), State::Refused);
    assert_eq!(errands.in_hand().len(), REMEMBERED);
    for n in 0..OPEN {
        errands.withdraw(&n.to_string());
    }
    assert_eq!(errands.ended.len(), REMEMBERED);
    assert_eq!(errands.words(Nanos(1)).len(), WORDS);
}

#[test]
fn what_nobody_knows_is_in_hand_before_what_was_acknowledged() {
    let mut errands = Errands::default();
    let ids = ["acked", "former", "latter"];
    for id in ids {
        errands.take(fetch(id), Nanos(0));
    }
    let why = "ä".repeat(LONGEST_DETAIL);
    errands.orders(Nanos(1), |_, _| Plan::No(State::Refused, why.clone()), |_| true);
    errands.acked("acked");
    errands.take(fetch("open"), Nanos(2));
    let in_hand = errands.in_hand();
    let named: Vec<&str> = in_hand.iter().map(|progress| &*progress.id).collect();
    assert_eq!(named, ["open", "latter", "former", "acked"]);
    assert!(
        in_hand[1..].iter().all(|progress| progress.detail.len() == LONGEST_DETAIL),
        "as the wire has it"
    );
}

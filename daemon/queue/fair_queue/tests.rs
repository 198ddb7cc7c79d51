//! Turns, lanes, limits and reserved places of the queue.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits =
    Limits { places: 1, places_per_holder: 1, reserved: 0, waiting_per_holder: 3, holders: 4 };

fn enter(queue: &mut FairQueue<char>, holder: char) -> Entered {
    queue.enter(&holder, Lane::Ordinary)
}

fn ticket(entered: Entered) -> Ticket {
    match entered {
        Entered::Waiting(ticket) => ticket,
        Entered::Admitted | Entered::Refused => panic!("{entered:?}"),
    }
}

fn is_empty(queue: &FairQueue<char>) -> bool {
    let rotation = &queue.rotation;
    let nothing_waits = rotation.preferred.is_empty() && rotation.ordinary.is_empty();
    queue.holders.is_empty() && nothing_waits && queue.used() == 0
}

#[test]
fn holders_take_turns_regardless_of_queue_length() {
    let mut queue = FairQueue::new(LIMITS);
    assert_eq!(enter(&mut queue, 'a'), Entered::Admitted);
    for _ in 0..3 {
        ticket(enter(&mut queue, 'a'));
    }
    ticket(enter(&mut queue, 'b'));
    ticket(enter(&mut queue, 'c'));
    let (mut order, mut holder) = (String::new(), 'a');
    for _ in 0..5 {
        queue.release(&holder);
        holder = queue.admit().unwrap().0;
        order.push(holder);
        assert_eq!(queue.admit(), None);
    }
    assert_eq!(order, "abcaa");
    queue.release(&holder);
    assert!(is_empty(&queue));
}

#[test]
fn ordinary_lane_gets_every_fourth_place() {
    let mut queue = FairQueue::new(Limits { waiting_per_holder: usize::MAX, holders: usize::MAX, ..LIMITS });
    assert_eq!(enter(&mut queue, 'x'), Entered::Admitted);
    for _ in 0..5 {
        ticket(queue.enter(&'a', Lane::Ordinary));
        ticket(queue.enter(&'p', Lane::Preferred));
    }
    ticket(queue.enter(&'b', Lane::Ordinary));
    ticket(queue.enter(&'q', Lane::Preferred));
    let (mut order, mut holder) = (String::new(), 'x');
    loop {
        queue.release(&holder);
        let Some((next, _)) = queue.admit() else { break };
        order.push(next);
        holder = next;
    }
    assert_eq!(order, "pqpapppbaaaa");
    assert!(is_empty(&queue));
}

#[test]
fn one_holder_waits_in_both_lanes() {
    let mut queue = FairQueue::new(LIMITS);
    assert_eq!(enter(&mut queue, 'a'), Entered::Admitted);
    let ordinary = ticket(queue.enter(&'b', Lane::Ordinary));
    let cancelled = ticket(queue.enter(&'b', Lane::Preferred));
    let preferred = ticket(queue.enter(&'b', Lane::Preferred));
    assert_eq!(queue.enter(&'b', Lane::Preferred), Entered::Refused, "the limit is for both lanes together");
    queue.leave(&'b', cancelled);
    queue.release(&'a');
    assert_eq!(queue.admit(), Some(('b', preferred)));
    queue.release(&'b');
    assert_eq!(queue.admit(), Some(('b', ordinary)));
    queue.release(&'b');
    assert!(is_empty(&queue));
}

#[test]
fn saturated_preferred_holder_blocks_no_ordinary_entry() {
    let mut queue = FairQueue::new(Limits { places: 2, ..LIMITS });
    assert_eq!(enter(&mut queue, 'p'), Entered::Admitted);
    assert_eq!(enter(&mut queue, 'a'), Entered::Admitted);
    ticket(queue.enter(&'p', Lane::Preferred));
    let waits = ticket(queue.enter(&'b', Lane::Ordinary));
    queue.release(&'a');
    assert_eq!(queue.admit(), Some(('b', waits)));
}

#[test]
fn holder_at_its_limit_is_passed_over() {
    let mut queue = FairQueue::new(Limits { places: 2, ..LIMITS });
    assert_eq!(enter(&mut queue, 'a'), Entered::Admitted);
    ticket(enter(&mut queue, 'a'));
    assert_eq!(queue.admit(), None);
    assert_eq!(enter(&mut queue, 'b'), Entered::Admitted);
    let waits = ticket(enter(&mut queue, 'c'));
    queue.release(&'b');
    // The second entry of `a` came first.
    assert_eq!(queue.admit(), Some(('c', waits)));
    queue.release(&'a');
    assert_eq!(queue.admit().map(|(holder, _)| holder), Some('a'));
}

#[test]
fn reserved_places_go_to_holders_without_one() {
    let limits = Limits { places: 4, places_per_holder: 2, reserved: 2, ..LIMITS };
    let mut queue = FairQueue::new(limits);
    assert_eq!(enter(&mut queue, 'a'), Entered::Admitted);
    assert_eq!(enter(&mut queue, 'a'), Entered::Admitted);
    assert_eq!(enter(&mut queue, 'b'), Entered::Admitted);
    let second = ticket(enter(&mut queue, 'b'));
    // One place is free, but reserved.
    assert_eq!((queue.used(), queue.admit()), (3, None));
    assert_eq!(enter(&mut queue, 'c'), Entered::Admitted);
    let waits = ticket(enter(&mut queue, 'd'));
    assert_eq!(queue.admit(), None);
    queue.release(&'a');
    // The entry of `b` came first.
    assert_eq!((queue.admit(), queue.admit()), (Some(('d', waits)), None));
    queue.release(&'c');
    queue.release(&'d');
    assert_eq!((queue.used(), queue.admit()), (2, None));
    queue.release(&'a');
    assert_eq!(queue.admit(), Some(('b', second)));
}

#[test]
fn holder_that_released_its_only_place_may_take_a_reserved_one() {
    let mut queue = FairQueue::new(Limits { places: 2, places_per_holder: 2, reserved: 1, ..LIMITS });
    assert_eq!(enter(&mut queue, 'a'), Entered::Admitted);
    let waits = ticket(enter(&mut queue, 'a'));
    assert_eq!(enter(&mut queue, 'b'), Entered::Admitted);
    assert_eq!(queue.admit(), None);
    queue.release(&'a');
    assert_eq!(queue.admit(), Some(('a', waits)));
}

#[test]
fn queues_and_holders_are_bounded() {
    let mut queue = FairQueue::new(LIMITS);
    assert_eq!(enter(&mut queue, 'a'), Entered::Admitted);
    for _ in 0..3 {
        ticket(enter(&mut queue, 'a'));
    }
    assert_eq!(enter(&mut queue, 'a'), Entered::Refused);
    for holder in ['b', 'c', 'd'] {
        ticket(enter(&mut queue, holder));
    }
    assert_eq!(enter(&mut queue, 'e'), Entered::Refused);
}

#[test]
fn cancelled_entry_leaves_the_queue() {
    let mut queue = FairQueue::new(LIMITS);
    assert_eq!(enter(&mut queue, 'a'), Entered::Admitted);
    let (first, second) = (ticket(enter(&mut queue, 'b')), ticket(enter(&mut queue, 'b')));
    let other = ticket(enter(&mut queue, 'c'));
    queue.leave(&'b', first);
    queue.leave(&'c', other);
    queue.release(&'a');
    assert_eq!(queue.admit(), Some(('b', second)));
    // Too late: the entry has its place.
    queue.leave(&'b', second);
    queue.release(&'b');
    assert!(is_empty(&queue));
}

proptest! {
    /// For any sequence of operations, no bound is exceeded and no place stays free while an entry may take it.
    #[test]
    fn places_are_bounded_and_never_idle(
        steps in prop::collection::vec((0_u8..3, 0_u8..4, any::<bool>()), 1..200), reserved in 0_usize..3,
    ) {
        let limits = Limits { places: 3, places_per_holder: 2, reserved, waiting_per_holder: 3, holders: 4 };
        let mut queue = FairQueue::new(limits);
        let (mut held, mut waiting): (Vec<u8>, Vec<(u8, Ticket)>) = (Vec::new(), Vec::new());
        for (step, holder, preferred) in steps {
            let lane = if preferred { Lane::Preferred } else { Lane::Ordinary };
            match step {
                0 => match queue.enter(&holder, lane) {
                    Entered::Admitted => held.push(holder),
                    Entered::Waiting(ticket) => waiting.push((holder, ticket)),
                    Entered::Refused => {}
                },
                1 => if let Some(at) = held.iter().position(|one| *one == holder) {
                    held.remove(at);
                    queue.release(&holder);
                },
                _ => if let Some(at) = waiting.iter().position(|(one, _)| *one == holder) {
                    queue.leave(&holder, waiting.remove(at).1);
                },
            }
            while let Some((holder, ticket)) = queue.admit() {
                let at = waiting.iter().position(|one| *one == (holder, ticket));
                prop_assert!(at.is_some());
                waiting.remove(at.unwrap());
                held.push(holder);
            }
            let of = |holder: u8| held.iter().filter(|one| **one == holder).map(|_| 1).sum::<usize>();
            prop_assert!(held.len() <= limits.places && held.len() == queue.used());
            for holder in 0..4 {
                let waits = waiting.iter().filter(|(one, _)| *one == holder).count();
                prop_assert!(of(holder) <= 2 && waits <= 3);
                let open = limits.places - if of(holder) == 0 { 0 } else { reserved };
                prop_assert!(waits == 0 || of(holder) == 2 || held.len() >= open);
            }
        }
    }
}

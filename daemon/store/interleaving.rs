//! A scheduler for unit tests: runs a few actors on threads of their own, one at a time, in every order of their steps.
//!
//! A step goes from one scheduling point to the next. The points are before each [`Lock`] is taken, and those that the
//! test adds ([`point`]). [`explore`] runs the actors again and again, depth first through all choices of the next actor.
//! Orders that differ only in neighbouring steps on different objects count as one (sleep sets).
//!
//! An order in which no actor can go on is a deadlock, which fails the test, as does a panic of an actor; the message
//! names the order.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The next step of an actor: the object that it touches. Steps on different objects commute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The way from the start to the first point touches nothing.
    Start,
    /// The lock at this address.
    Lock(usize),
    /// An object with a number of the test.
    Object(usize),
    Ended,
}

impl Step {
    fn commutes_with(self, other: Step) -> bool {
        self == Step::Start || other == Step::Start || self != other
    }
}

/// A choice of the next actor.
struct Choice {
    /// The actors to choose from.
    actors: Vec<usize>,
    /// The index of the chosen one. Those before it have been explored.
    chosen: usize,
    /// The step of the chosen one.
    step: Step,
    /// Actors whose next step here only leads to orders that have been explored.
    asleep: BTreeSet<usize>,
}

/// The depth-first search through all choices.
#[derive(Default)]
struct Search {
    choices: Vec<Choice>,
    /// The number of choices that the current run has made.
    depth: usize,
    /// True once the current run only repeats an order that has been explored.
    is_repetition: bool,
}

impl Search {
    /// Chooses one of the actors that can go on, at first the one that runs.
    fn choose(&mut self, running: Option<usize>, enabled: &[usize], steps: &[Step]) -> usize {
        if self.is_repetition {
            return enabled[0];
        }
        if self.depth == self.choices.len() {
            let asleep = self.asleep(steps);
            let mut actors: Vec<_> = enabled.iter().copied().filter(|one| !asleep.contains(one)).collect();
            if actors.is_empty() {
                self.is_repetition = true;
                return enabled[0];
            }
            actors.sort_by_key(|actor| (Some(*actor) != running, *actor));
            self.choices.push(Choice { actors, chosen: 0, step: Step::Start, asleep });
        }
        let choice = &mut self.choices[self.depth];
        let actor = choice.actors[choice.chosen];
        choice.step = steps[actor];
        self.depth += 1;
        actor
    }

    /// Returns the actors that sleep after the last choice: the step that was taken commutes with theirs.
    fn asleep(&self, steps: &[Step]) -> BTreeSet<usize> {
        let Some(last) = self.choices.last() else { return BTreeSet::new() };
        let before = last.asleep.iter().chain(&last.actors[..last.chosen]).copied();
        before.filter(|actor| steps[*actor].commutes_with(last.step)).collect()
    }

    /// Goes to the next order; returns false after the last one.
    fn advance(&mut self) -> bool {
        (self.depth, self.is_repetition) = (0, false);
        while let Some(choice) = self.choices.last_mut() {
            choice.chosen += 1;
            if choice.chosen < choice.actors.len() {
                return true;
            }
            self.choices.pop();
        }
        false
    }
}

/// One run of the actors.
struct Run {
    search: Search,
    steps: Vec<Step>,
    /// The actor that may run.
    running: Option<usize>,
    held: BTreeSet<usize>,
    /// The actors in the order of their steps.
    order: Vec<(usize, Step)>,
    failure: Option<String>,
}

impl Run {
    /// Chooses the next actor. After a deadlock every actor runs on and fails.
    fn next(&mut self) {
        let can_go_on = |step: &Step| match step {
            Step::Lock(lock) => !self.held.contains(lock),
            Step::Start | Step::Object(_) => true,
            Step::Ended => false,
        };
        let enabled: Vec<_> = (0..self.steps.len()).filter(|actor| can_go_on(&self.steps[*actor])).collect();
        if enabled.is_empty() {
            if self.steps.iter().any(|step| *step != Step::Ended) {
                self.failure.get_or_insert_with(|| "deadlock".into());
            }
            self.running = None;
            return;
        }
        let actor = self.search.choose(self.running, &enabled, &self.steps);
        self.order.push((actor, self.steps[actor]));
        if let Step::Lock(lock) = self.steps[actor] {
            self.held.insert(lock);
        }
        self.running = Some(actor);
    }
}

/// The scheduler of a run, shared by its actors.
struct Scheduler {
    run: Mutex<Run>,
    /// One per actor.
    turns: Vec<Condvar>,
}

impl Scheduler {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the step of an actor; returns when its next one begins.
    fn yield_before(&self, actor: usize, step: Step) {
        let mut run = self.run();
        run.steps[actor] = step;
        run.next();
        self.wake(&run, actor);
        self.wait(run, actor);
    }

    fn wake(&self, run: &Run, actor: usize) {
        match run.running {
            Some(next) if next == actor => {}
            Some(next) => self.turns[next].notify_one(),
            None => self.turns.iter().for_each(Condvar::notify_one),
        }
    }

    fn wait(&self, mut run: MutexGuard<'_, Run>, actor: usize) {
        while run.running != Some(actor) {
            if run.failure.as_deref() == Some("deadlock") {
                drop(run);
                panic!("deadlock");
            }
            run = self.turns[actor].wait(run).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn act(self: &Arc<Self>, actor: usize, act: impl FnOnce()) {
        ACTOR.set(Some((actor, Arc::clone(self))));
        let acted = catch_unwind(AssertUnwindSafe(|| {
            self.wait(self.run(), actor);
            act();
        }));
        ACTOR.set(None);
        let mut run = self.run();
        if let Err(panic) = acted {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            run.failure.get_or_insert_with(|| text.unwrap_or_default());
        }
        run.steps[actor] = Step::Ended;
        run.next();
        self.wake(&run, actor);
    }
}

thread_local! {
    /// The actor that this thread is, and its scheduler.
    static ACTOR: RefCell<Option<(usize, Arc<Scheduler>)>> = const { RefCell::new(None) };
}

fn current() -> Option<(usize, Arc<Scheduler>)> {
    ACTOR.with_borrow(Clone::clone)
}

/// Lets other actors run before the calling actor touches an object, which the test numbers. Does nothing on a thread
/// that is no actor.
pub(super) fn point(object: usize) {
    if let Some((actor, scheduler)) = current() {
        scheduler.yield_before(actor, Step::Object(object));
    }
}

/// An actor of a run.
pub(super) type Actor = Box<dyn FnOnce() + Send>;

/// Runs actors in every order of their steps. `begin` sets up a run: it returns the actors, and a check for the end.
/// Returns the number of orders.
///
/// # Panics
/// If an actor or a check panics, or if no actor can go on.
pub(super) fn explore<C: FnOnce()>(begin: impl FnMut() -> (Vec<Actor>, C)) -> usize {
    explore_at_most(usize::MAX, begin)
}

/// As [`explore`], but ends after `most` orders.
pub(super) fn explore_at_most<C: FnOnce()>(most: usize, mut begin: impl FnMut() -> (Vec<Actor>, C)) -> usize {
    let (mut search, mut orders) = (Search::default(), 0);
    loop {
        let (actors, check) = begin();
        let run = Run {
            search,
            steps: vec![Step::Start; actors.len()],
            running: None,
            held: BTreeSet::new(),
            order: Vec::new(),
            failure: None,
        };
        let turns = actors.iter().map(|_| Condvar::new()).collect();
        let scheduler = Arc::new(Scheduler { run: Mutex::new(run), turns });
        scheduler.run().next();
        std::thread::scope(|scope| {
            for (number, act) in actors.into_iter().enumerate() {
                let scheduler = Arc::clone(&scheduler);
                scope.spawn(move || scheduler.act(number, act));
            }
        });
        let mut run = scheduler.run();
        orders += usize::from(!run.search.is_repetition);
        if let Some(failure) = &run.failure {
            panic!("{failure}\nin the order {:?}", run.order);
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
            eprintln!("in the order {:?}", run.order);
            std::panic::resume_unwind(panic);
        }
        if orders >= most || !run.search.advance() {
            return orders;
        }
        search = std::mem::take(&mut run.search);
    }
}

/// A mutex whose holder an actor's scheduler decides. On a thread that is no actor it is a plain mutex.
#[derive(Default)]
pub(super) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Waits for the lock.
    pub(super) fn lock(&self) -> Guard<'_, T> {
        let release = current().map(|(actor, scheduler)| {
            scheduler.yield_before(actor, Step::Lock(self.address()));
            Release { scheduler, lock: self.address() }
        });
        Guard { guard: self.0.lock().unwrap_or_else(PoisonError::into_inner), _release: release }
    }
}

/// A held lock.
pub(super) struct Guard<'a, T> {
    guard: MutexGuard<'a, T>,
    /// Dropped after the guard.
    _release: Option<Release>,
}

struct Release {
    scheduler: Arc<Scheduler>,
    lock: usize,
}

impl Drop for Release {
    fn drop(&mut self) {
        self.scheduler.run().held.remove(&self.lock);
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two actors that each increment a counter by a read and a write, in one critical section or in two.
    fn lost_updates(in_one_section: bool) -> (usize, usize) {
        let lost = Arc::new(Mutex::new(0));
        let orders = explore(|| {
            let counter = Arc::new(Lock::<i32>::default());
            let actor = |_| {
                let counter = Arc::clone(&counter);
                Box::new(move || {
                    if in_one_section {
                        *counter.lock() += 1;
                    } else {
                        let read = *counter.lock();
                        *counter.lock() = read + 1;
                    }
                }) as Actor
            };
            let actors = (0..2).map(actor).collect();
            let lost = Arc::clone(&lost);
            let check = move || *lost.lock().unwrap() += usize::from(*counter.lock() != 2);
            (actors, check)
        });
        let lost = *lost.lock().unwrap();
        (orders, lost)
    }

    #[test]
    fn every_order_is_tried_once() {
        assert_eq!(lost_updates(true), (2, 0));
        assert_eq!(lost_updates(false), (6, 4));
    }

    #[test]
    fn steps_on_different_objects_have_one_order() {
        let orders = explore(|| {
            let actors = (0..3).map(|actor| Box::new(move || (0..3).for_each(|_| point(actor))) as Actor);
            (actors.collect(), || ())
        });
        assert_eq!(orders, 1);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_deadlock_is_found() {
        explore(|| {
            let locks = Arc::new([Lock::<()>::default(), Lock::<()>::default()]);
            let actor = |first: usize| {
                let locks = Arc::clone(&locks);
                Box::new(move || {
                    let _first = locks[first].lock();
                    drop(locks[1 - first].lock());
                }) as Actor
            };
            (vec![actor(0), actor(1)], || ())
        });
    }
}

//! Polls the task of a connection again in place when it wakes itself.
//!
//! hyper and the service of a connection share one task, and wake each other for each piece of a body. tokio sends a task
//! that was woken while it runs through its run queue, and wakes another worker to look for it there: two system calls and
//! a context switch for every 64 KiB of an upload. [`InPlace`] polls such a task again on the same worker instead. A bound
//! of rounds, and tokio's own budget, leave the other tasks of the worker their time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::base::Lock;

/// Maximum number of polls in a row; as many as hyper's own loop over a connection has.
const ROUNDS: usize = 16;

/// The task is being polled.
const POLLED: u8 = 1;
/// The task was woken since its last poll began.
const WOKEN: u8 = 2;

/// Future that is polled again at once if it was woken while it was polled.
pub(super) struct InPlace<F> {
    future: Pin<Box<F>>,
    wakes: Arc<Wakes>,
    /// The waker of `wakes`.
    own: Waker,
}

/// Receives the wakes of the future, and passes on those that come while it is not polled.
struct Wakes {
    /// [`POLLED`] and [`WOKEN`].
    state: AtomicU8,
    /// The waker of the task.
    task: Lock<Waker>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) == 0 {
            self.task.lock().wake_by_ref();
        }
    }
}

impl<F: Future> InPlace<F> {
    /// Wraps the future of a whole task.
    pub(super) fn new(future: F) -> Self {
        let wakes = Arc::new(Wakes { state: AtomicU8::new(0), task: Lock::new(Waker::noop().clone()) });
        InPlace { future: Box::pin(future), own: Arc::clone(&wakes).into(), wakes }
    }
}

impl<F: Future> Future for InPlace<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.wakes.task.lock().clone_from(context.waker());
        for _ in 0..ROUNDS {
            this.wakes.state.store(POLLED, Ordering::Release);
            if let Poll::Ready(output) = this.future.as_mut().poll(&mut Context::from_waker(&this.own)) {
                return Poll::Ready(output);
            }
            let state = &this.wakes.state;
            if state.compare_exchange(POLLED, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
            if !tokio::task::coop::has_budget_remaining() {
                // tokio's resources are pending, and wake at once, until the task has returned to the run queue.
                break;
            }
        }
        // The state keeps WOKEN: further wakes until the next poll add nothing.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Pends this number of times, each time woken by itself.
    async fn woken_by_itself(times: usize) {
        for _ in 0..times {
            let mut has_pended = false;
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut has_pended, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }

    /// Polls once; returns whether the future is ready, and the wakes of its task.
    fn poll<F: Future>(future: &mut InPlace<F>, count: &Arc<Count>) -> (bool, usize) {
        let waker = Arc::clone(count).into();
        let polled = Pin::new(future).poll(&mut Context::from_waker(&waker));
        (polled.is_ready(), count.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_task_that_wakes_itself_is_polled_again_without_a_wake() {
        let count = Arc::default();
        assert_eq!(poll(&mut InPlace::new(woken_by_itself(ROUNDS - 1)), &count), (true, 0));
    }

    #[test]
    fn a_task_that_never_stops_waking_itself_returns_to_the_run_queue() {
        let count = Arc::default();
        let mut future = InPlace::new(woken_by_itself(2 * ROUNDS));
        assert_eq!(poll(&mut future, &count), (false, 1));
        assert_eq!(poll(&mut future, &count), (false, 2));
        assert_eq!(poll(&mut future, &count), (true, 2));
    }

    #[test]
    fn a_wake_from_elsewhere_reaches_the_task_once() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let mut kept = None;
        let mut receiver = Box::pin(receiver);
        let mut future = InPlace::new(std::future::poll_fn(|context| {
            kept = Some(context.waker().clone());
            receiver.as_mut().poll(context)
        }));
        let count = Arc::default();
        assert_eq!(poll(&mut future, &count), (false, 0));
        sender.send(()).unwrap();
        future.own.wake_by_ref();
        assert_eq!(poll(&mut future, &count), (true, 1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_is_lost_between_threads() {
        let (to, mut from) = tokio::sync::mpsc::channel(1);
        let reader = tokio::spawn(InPlace::new(async move {
            let mut sum = 0_u64;
            while let Some(number) = from.recv().await {
                sum += number;
            }
            sum
        }));
        let writer = tokio::spawn(InPlace::new(async move {
            for number in 0..20_000 {
                to.send(number).await.unwrap();
            }
        }));
        let sum = tokio::time::timeout(std::time::Duration::from_mins(1), reader).await;
        writer.await.unwrap();
        assert_eq!(sum.unwrap().unwrap(), 19_999 * 20_000 / 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_of_the_worker_have_their_turn() {
        let (end, mut ends) = tokio::sync::oneshot::channel();
        let busy = tokio::spawn(InPlace::new(async move {
            while ends.try_recv().is_err() {
                woken_by_itself(1).await;
            }
        }));
        tokio::spawn(async move { end.send(()).unwrap() }).await.unwrap();
        tokio::time::timeout(std::time::Duration::from_mins(1), busy).await.unwrap().unwrap();
    }
}

//! Work that waits for a thread, of which there may be so much and no more.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Items for one thread, which takes all that wait at once and tells when it is through with them.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    /// Most items that wait or are under way.
    limit: usize,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// Items that were taken and not left.
    under_way: usize,
    is_closed: bool,
}

/// Why an item is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are as many as may be.
    Full,
    /// The thread is about to end.
    Closed,
}

impl<T> Queue<T> {
    pub fn new(limit: usize) -> Self {
        let state = State { waiting: VecDeque::new(), under_way: 0, is_closed: false };
        Self { state: Mutex::new(state), arrived: Condvar::new(), limit }
    }

    /// Nothing that may panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item.
    pub fn push(&self, item: T) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        if state.waiting.len() + state.under_way >= self.limit {
            return Err(Refused::Full);
        }
        state.waiting.push_back(item);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes at most `most` of the items that wait; with `wait` there is one at least. `None` once the queue is closed and nothing waits.
    pub fn take(&self, most: usize, wait: bool) -> Option<Vec<T>> {
        let mut state = self.lock();
        while wait && state.waiting.is_empty() && !state.is_closed {
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.waiting.is_empty() && state.is_closed {
            return None;
        }
        let count = most.min(state.waiting.len());
        state.under_way += count;
        Some(state.waiting.drain(..count).collect())
    }

    /// Tells that so many items that were taken are done with.
    pub fn leave(&self, count: usize) {
        let mut state = self.lock();
        state.under_way = state.under_way.saturating_sub(count);
    }

    /// Puts an item that was taken behind those that wait.
    pub fn put_back(&self, item: T) {
        let mut state = self.lock();
        state.under_way = state.under_way.saturating_sub(1);
        state.waiting.push_back(item);
    }

    /// Takes no more items; those that wait are still handed out.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_wait_or_are_under_way_and_no_more() {
        let queue = Queue::new(2);
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(Refused::Full)));
        assert_eq!(queue.take(1, true), Some(vec![1]));
        assert_eq!(queue.push(3), Err(Refused::Full));
        queue.leave(1);
        assert_eq!((queue.push(4), queue.push(5)), (Ok(()), Err(Refused::Full)));
        queue.close();
        assert_eq!(queue.push(5), Err(Refused::Closed));
        assert_eq!(queue.take(1, true), Some(vec![2]));
        queue.put_back(2);
        assert_eq!(queue.take(9, true), Some(vec![4, 2]));
        assert_eq!((queue.take(9, true), queue.take(9, false)), (None, None));
    }

    #[test]
    fn who_waits_is_woken_by_an_item_and_by_the_end() {
        let queue = Queue::new(1);
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| (queue.take(1, true), queue.take(1, true)));
            while queue.push(7).is_err() {}
            queue.close();
            assert_eq!(taken.join().unwrap(), (Some(vec![7]), None));
        });
    }
}

//! How messages get from one process to another, whatever carries them.

use crate::Result;

/// What a message of numbers is part of. Messages between two processes keep their order within a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The running sum, to the next process.
    Sum,
    /// What has been summed, from the last process to the owner.
    Owner,
    /// Values of owners, around the ring of all processes.
    Ring,
    /// Values of owners, to process 0.
    First,
}

/// Carries messages between the processes of a run. No call but [`Self::close`] waits for another process.
pub trait Transport {
    /// This process, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// Sends numbers to another process, when it expects them.
    fn send(&mut self, to: usize, route: Route, values: Vec<f32>);

    /// Messages of numbers that are not sent yet.
    fn unsent(&self) -> usize;

    /// Makes room for the next message of `len` numbers from a process.
    fn expect(&mut self, from: usize, route: Route, len: usize);

    /// The oldest message that is expected from there and was not taken, if it has come.
    fn take(&mut self, from: usize, route: Route) -> Option<Vec<f32>>;

    /// Sends a short message.
    fn send_bytes(&mut self, to: usize, bytes: Vec<u8>);

    /// The oldest short message from a process that was not taken, if it has come.
    fn take_bytes(&mut self, from: usize) -> Option<Vec<u8>>;

    /// Lets messages move on; true if any did.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::Error::Lost) where another process is not heard of any more.
    fn progress(&mut self) -> Result<bool>;

    /// Takes leave of the others, once all of them do.
    ///
    /// # Errors
    /// As [`Self::progress`].
    fn close(&mut self) -> Result<()>;

    /// Ends all processes of the run, this one last, with an exit code.
    fn abort(&mut self, code: i32);
}

/// Threads of one process in the place of processes.
#[cfg(test)]
pub(super) mod threads {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::*;

    type Numbers = VecDeque<Vec<f32>>;

    /// What is on its way, by sender, receiver and route.
    pub(in crate::train::exchange) struct Table {
        ranks: usize,
        numbers: Mutex<Vec<Numbers>>,
        bytes: Mutex<Vec<VecDeque<Vec<u8>>>>,
    }

    impl Table {
        pub(in crate::train::exchange) fn new(ranks: usize) -> Arc<Self> {
            let numbers = Mutex::new(vec![VecDeque::new(); 4 * ranks * ranks]);
            Arc::new(Self { ranks, numbers, bytes: Mutex::new(vec![VecDeque::new(); ranks * ranks]) })
        }
    }

    pub(in crate::train::exchange) struct Threads {
        pub rank: usize,
        pub table: Arc<Table>,
        /// Lengths that are expected.
        expected: Vec<VecDeque<usize>>,
    }

    impl Threads {
        pub(in crate::train::exchange) fn new(rank: usize, table: Arc<Table>) -> Self {
            let expected = vec![VecDeque::new(); 4 * table.ranks];
            Self { rank, table, expected }
        }

        fn place(&self, from: usize, to: usize, route: Route) -> usize {
            (from * self.table.ranks + to) * 4 + route as usize
        }
    }

    impl Transport for Threads {
        fn rank(&self) -> usize {
            self.rank
        }

        fn ranks(&self) -> usize {
            self.table.ranks
        }

        fn send(&mut self, to: usize, route: Route, values: Vec<f32>) {
            let place = self.place(self.rank, to, route);
            self.table.numbers.lock().unwrap()[place].push_back(values);
        }

        fn unsent(&self) -> usize {
            0
        }

        fn expect(&mut self, from: usize, route: Route, len: usize) {
            self.expected[from * 4 + route as usize].push_back(len);
        }

        fn take(&mut self, from: usize, route: Route) -> Option<Vec<f32>> {
            let expected = self.expected[from * 4 + route as usize].front().copied()?;
            let place = self.place(from, self.rank, route);
            let values = self.table.numbers.lock().unwrap()[place].pop_front()?;
            assert_eq!(values.len(), expected, "{route:?} from {from} to {}", self.rank);
            self.expected[from * 4 + route as usize].pop_front();
            Some(values)
        }

        fn send_bytes(&mut self, to: usize, bytes: Vec<u8>) {
            self.table.bytes.lock().unwrap()[self.rank * self.table.ranks + to].push_back(bytes);
        }

        fn take_bytes(&mut self, from: usize) -> Option<Vec<u8>> {
            self.table.bytes.lock().unwrap()[from * self.table.ranks + self.rank].pop_front()
        }

        fn progress(&mut self) -> Result<bool> {
            Ok(false)
        }

        fn close(&mut self) -> Result<()> {
            Ok(())
        }

        fn abort(&mut self, code: i32) {
            panic!("rank {} aborts with {code}", self.rank);
        }
    }
}

//! Ranks that MPI starts and connects, for [`submask::train::run_among`].
//!
//! All calls of MPI are made by one thread, that of [`Ranks::connect`]. Messages are sent and received without waiting
//! (`MPI_Isend`, `MPI_Irecv`, `MPI_Test`); nothing is added up by MPI. Every rank tells the next one that it is there, as long
//! as the thread runs: so a rank that is stopped or cut off is missed by the one behind it, while one that computes for long
//! is not. MPI itself ends the run where it finds a connection broken.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::time::{Duration, Instant};

use mpi::ffi;
use mpi::topology::Communicator;
use submask::train::exchange::{Ranks, Route, Transport, Watch};
use submask::{Error, Result};

/// Seconds after which a rank that is not heard of is given up, unless the user says otherwise.
pub const TIMEOUT: u64 = 60;

/// Joins the other ranks that MPI has started with this process. A rank that is not heard of for `timeout`, at least a second,
/// is lost: `lost` is told so by the rank that misses it, in a thread of its own, and gives the exit code with which all ranks
/// then end.
///
/// # Errors
/// [`Error::Conflict`] where MPI has been started in this process already, or where the launcher is of another MPI than this
/// program: then every process would be the only rank.
pub fn join(
    timeout: Duration,
    launched: Option<usize>,
    lost: impl FnMut(&Error) -> i32 + Send + 'static,
) -> Result<Ranks> {
    let ranks = Ranks::connect(move || Mpi::start(timeout), lost)?;
    match launched {
        Some(launched) if launched != ranks.count() => {
            let problem = format!(
                "of this program ({}) finds {} of {launched} processes: start them with the mpirun of the same MPI",
                version(),
                ranks.count()
            );
            Err(Error::Conflict { field: "the MPI".to_owned(), problem })
        }
        _ => Ok(ranks),
    }
}

/// Which MPI the program was built with, as that calls itself.
pub fn version() -> String {
    let text = mpi::environment::library_version().unwrap_or_default();
    text.split([',', '\n']).next().unwrap_or_default().trim().to_owned()
}

/// Tags of messages: those of routes, then these.
const BYTES: c_int = 8;
const ALIVE: c_int = 9;
const LEAVE: c_int = 10;

/// Messages of numbers that MPI is given at the same time.
const ACTIVE: usize = 8;

/// Bytes of numbers that MPI is given at once. Below 64 KiB Open MPI sends over TCP without asking the receiver first, whose answer would wait
/// behind what that sends itself: with larger ones, two ranks that send to each other take turns.
const PART: usize = 60 << 10;

/// How long to sleep where nothing moves.
const NAP: Duration = Duration::from_micros(30);

/// MPI's world, as one of its ranks.
struct Mpi {
    /// Finalised when all take leave, and never otherwise: that would wait for the others.
    universe: ManuallyDrop<mpi::environment::Universe>,
    /// A communicator of its own, so that messages are not taken for others' in the same program.
    world: ManuallyDrop<mpi::topology::SimpleCommunicator>,
    rank: usize,
    ranks: usize,
    /// To be given to MPI, in order.
    waiting: VecDeque<(usize, c_int, Vec<f32>)>,
    sending: Vec<Message<f32>>,
    sending_bytes: Vec<Message<u8>>,
    /// By process and route, in order.
    receiving: Vec<VecDeque<Message<f32>>>,
    watch: Watch,
    /// When the next process was last told that this one is there, and the message that says so.
    told: Instant,
    telling: Option<Message<u8>>,
}

impl Mpi {
    fn start(timeout: Duration) -> Result<Self> {
        let started = mpi::initialize_with_threading(mpi::Threading::Funneled);
        let (universe, _) = started.ok_or_else(|| Error::Conflict {
            field: "MPI".to_owned(),
            problem: "has been started in this process before".to_owned(),
        })?;
        let world = universe.world().duplicate();
        let count = |number: c_int| {
            let negative = |_| Error::Internal { what: "MPI counts from 0", found: number.to_string() };
            usize::try_from(number).map_err(negative)
        };
        let (rank, ranks) = (count(world.rank())?, count(world.size())?);
        let now = Instant::now();
        Ok(Self {
            universe: ManuallyDrop::new(universe),
            world: ManuallyDrop::new(world),
            rank,
            ranks,
            waiting: VecDeque::new(),
            sending: Vec::new(),
            sending_bytes: Vec::new(),
            receiving: (0..4 * ranks).map(|_| VecDeque::new()).collect(),
            watch: Watch::new(timeout, now),
            told: now,
            telling: None,
        })
    }

    fn comm(&self) -> ffi::MPI_Comm {
        mpi::traits::AsRaw::as_raw(&*self.world)
    }

    fn next(&self) -> usize {
        (self.rank + 1) % self.ranks
    }

    fn previous(&self) -> usize {
        (self.rank + self.ranks - 1) % self.ranks
    }

    /// The oldest message of a tag that has come from a process, if there is one.
    fn probed(&self, from: usize, tag: c_int) -> Option<Vec<u8>> {
        let (mut has_come, mut len) = (0, 0);
        let mut status = MaybeUninit::<ffi::MPI_Status>::uninit();
        let mut bytes;
        // SAFETY: the communicator lives; the status is written before it is read, and the buffer is as long as the message.
        unsafe {
            ffi::MPI_Iprobe(from as c_int, tag, self.comm(), &mut has_come, status.as_mut_ptr());
            if has_come == 0 {
                return None;
            }
            ffi::MPI_Get_count(status.as_ptr(), ffi::RSMPI_UINT8_T, &mut len);
            bytes = vec![0_u8; len as usize];
            let place = bytes.as_mut_ptr().cast::<c_void>();
            // It has come: this takes as long as copying it. All messages are taken by this thread, in order.
            let (of, ignore) = (ffi::RSMPI_UINT8_T, ffi::RSMPI_STATUS_IGNORE);
            ffi::MPI_Recv(place, len, of, from as c_int, tag, self.comm(), ignore);
        }
        Some(bytes)
    }

    /// Tells the next process that this one is there, and notes whether the one before is.
    fn keep_in_touch(&mut self) -> Result<()> {
        let now = Instant::now();
        if now - self.told >= self.watch.interval() && is_done(&mut self.telling) {
            self.telling = Some(Message::send(vec![0], self.next(), ALIVE, self.comm()));
            self.told = now;
        }
        while self.probed(self.previous(), ALIVE).is_some() {
            self.watch.hear(now);
        }
        match self.watch.missed(now) {
            None => Ok(()),
            Some(silent) => {
                let (rank, seconds) = (self.previous(), silent.as_secs());
                let what = format!("rank {rank}, of which nothing was heard for {seconds} seconds,");
                Err(Error::Lost { what })
            }
        }
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn send(&mut self, to: usize, route: Route, values: Vec<f32>) {
        self.waiting.push_back((to, route as c_int, values));
    }

    fn unsent(&self) -> usize {
        self.waiting.len() + self.sending.len()
    }

    fn expect(&mut self, from: usize, route: Route, len: usize) {
        let message = Message::receive(vec![0.0; len], from, route as c_int, self.comm());
        self.receiving[4 * from + route as usize].push_back(message);
    }

    fn take(&mut self, from: usize, route: Route) -> Option<Vec<f32>> {
        let expected = &mut self.receiving[4 * from + route as usize];
        if !expected.front_mut()?.is_done() {
            return None;
        }
        expected.pop_front().map(Message::into_values)
    }

    fn send_bytes(&mut self, to: usize, bytes: Vec<u8>) {
        self.sending_bytes.push(Message::send(bytes, to, BYTES, self.comm()));
    }

    fn take_bytes(&mut self, from: usize) -> Option<Vec<u8>> {
        self.probed(from, BYTES)
    }

    fn progress(&mut self) -> Result<bool> {
        if self.ranks == 1 {
            return Ok(false);
        }
        let before = self.sending.len() + self.sending_bytes.len();
        self.sending.retain_mut(|message| !message.is_done());
        self.sending_bytes.retain_mut(|message| !message.is_done());
        let moved = self.sending.len() + self.sending_bytes.len() < before;
        while self.sending.len() < ACTIVE
            && let Some((to, tag, values)) = self.waiting.pop_front()
        {
            self.sending.push(Message::send(values, to, tag, self.comm()));
        }
        self.keep_in_touch()?;
        Ok(moved)
    }

    fn close(&mut self) -> Result<()> {
        // Whoever has the leave of the process before it, which comes last of all that sends, has everything of it.
        let mut leave = (self.ranks > 1).then(|| Message::send(vec![0], self.next(), LEAVE, self.comm()));
        let mut has_left = leave.is_none();
        while !(has_left
            && is_done(&mut leave)
            && is_done(&mut self.telling)
            && self.sending_bytes.is_empty())
        {
            if has_left {
                self.sending_bytes.retain_mut(|message| !message.is_done());
            } else {
                self.progress()?;
                has_left = self.probed(self.previous(), LEAVE).is_some();
            }
            std::thread::sleep(NAP);
        }
        while self.ranks > 1 && self.probed(self.previous(), ALIVE).is_some() {}
        // SAFETY: neither is used again: the thread ends after this.
        unsafe {
            ManuallyDrop::drop(&mut self.world);
            ManuallyDrop::drop(&mut self.universe);
        }
        Ok(())
    }

    fn abort(&mut self, code: i32) {
        // SAFETY: the communicator lives.
        unsafe {
            ffi::MPI_Abort(self.comm(), code);
        }
    }
}

/// Whether a message, if there is one, is on its way for good.
fn is_done(message: &mut Option<Message<u8>>) -> bool {
    message.as_mut().is_none_or(Message::is_done)
}

/// A message that MPI sends from a buffer, or receives into it, in parts, while this lives.
struct Message<T: Element> {
    values: ManuallyDrop<Vec<T>>,
    /// Parts that are not done, the last one first.
    requests: Vec<ffi::MPI_Request>,
}

/// What messages are made of.
trait Element {
    /// Most of them that MPI is given at once.
    const PART: usize;

    /// MPI's name of it.
    fn datatype() -> ffi::MPI_Datatype;
}

impl Element for f32 {
    const PART: usize = PART / size_of::<Self>();

    fn datatype() -> ffi::MPI_Datatype {
        // SAFETY: a constant of MPI's.
        unsafe { ffi::RSMPI_FLOAT }
    }
}

impl Element for u8 {
    /// Who takes them does not know how many there are, and asks for the whole.
    const PART: usize = usize::MAX;

    fn datatype() -> ffi::MPI_Datatype {
        // SAFETY: a constant of MPI's.
        unsafe { ffi::RSMPI_UINT8_T }
    }
}

impl<T: Element> Message<T> {
    fn send(values: Vec<T>, to: usize, tag: c_int, comm: ffi::MPI_Comm) -> Self {
        Self::begin(values, |values, len, request| {
            // SAFETY: the buffer has `len` elements, and neither moves nor is changed until the request is done.
            unsafe { ffi::MPI_Isend(values, len, T::datatype(), to as c_int, tag, comm, request) }
        })
    }

    fn receive(values: Vec<T>, from: usize, tag: c_int, comm: ffi::MPI_Comm) -> Self {
        Self::begin(values, |values, len, request| {
            // SAFETY: as above, and nobody reads it until then.
            unsafe { ffi::MPI_Irecv(values, len, T::datatype(), from as c_int, tag, comm, request) }
        })
    }

    fn begin(
        mut values: Vec<T>,
        mut start: impl FnMut(*mut c_void, c_int, &mut ffi::MPI_Request) -> c_int,
    ) -> Self {
        // Errors end all ranks: that is MPI's default.
        let mut begin = |part: &mut [T]| {
            // SAFETY: a constant of MPI's.
            let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
            start(part.as_mut_ptr().cast(), part.len() as c_int, &mut request);
            request
        };
        let mut requests: Vec<_> = values.chunks_mut(T::PART).map(&mut begin).collect();
        if requests.is_empty() {
            requests.push(begin(&mut []));
        }
        requests.reverse();
        Self { values: ManuallyDrop::new(values), requests }
    }

    fn is_done(&mut self) -> bool {
        while let Some(request) = self.requests.last_mut() {
            let mut flag = 0;
            // SAFETY: the request lives until it is done, and is not asked for again.
            unsafe {
                ffi::MPI_Test(request, &mut flag, ffi::RSMPI_STATUS_IGNORE);
            }
            if flag == 0 {
                return false;
            }
            self.requests.pop();
        }
        true
    }

    /// What has come, once it is done.
    fn into_values(mut self) -> Vec<T> {
        std::mem::take(&mut *self.values)
    }
}

impl<T: Element> Drop for Message<T> {
    fn drop(&mut self) {
        if self.requests.is_empty() {
            // SAFETY: MPI does not use the buffer any more, and this is dropped once.
            unsafe { ManuallyDrop::drop(&mut self.values) }
        }
        // Otherwise the process is about to end, and the buffer stays where MPI may still write.
    }
}

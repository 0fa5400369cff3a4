use std::sync::mpsc::{Receiver, Sender, channel};

use submask::Compute;
use submask::backbone::Embedding;
use submask::backbone::dit::DitConfig;
use submask::backbone::weights::{Init, Parameter};
use submask::data::Tokenizer;
use submask::model::{
    Architecture, CodeSettings, FORMAT_VERSION, ModelConfig, NetworkConfig, Sampling, Subject, TextSubject,
};
use submask::sampler::Unobserved;
use submask::schedule::Schedule;

use super::*;
use crate::metrics::Metrics;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(300);

/// A model of bytes that writes block by block, with weights drawn with this standard deviation.
fn session(std: f64) -> Arc<Session> {
    let config = ModelConfig {
        format_version: FORMAT_VERSION,
        subject: Subject::Text(TextSubject::of(&Tokenizer::bytes())),
        network: NetworkConfig::Diffusion(DitConfig {
            hidden: 16,
            heads: 2,
            blocks: 1,
            cond_dim: 8,
            seq_len: 16,
            dropout: 0.0,
            embedding: Embedding::Concatenated,
            time_conditioning: false,
            block_len: 4,
        }),
        codes: CodeSettings::plain(2, true),
        schedule: Schedule::Linear,
        sample: Sampling::default(),
    };
    let architecture = Arc::new(Architecture::new(config, Some(Tokenizer::bytes())).unwrap());
    let drawn = |(index, parameter): (usize, &Parameter)| {
        Parameter { init: Init::Normal(std as _), ..parameter.clone() }.initial(1, index)
    };
    let values: Vec<_> = architecture.parameters().iter().enumerate().map(drawn).collect();
    Arc::new(Session::new(architecture, &values, &Compute::cpu()).unwrap())
}

fn engine(session: &Arc<Session>, max_batch: usize, max_queue: usize) -> Engine {
    let settings = ServerSettings { max_batch, max_queue, ..ServerSettings::default() };
    Engine::start("test", Arc::clone(session), &settings, Metrics::default().model("test")).unwrap()
}

fn request(session: &Session, tokens: usize, num: usize) -> Request {
    let prompt = session.prompt(&format!("[[{tokens}]]").parse().unwrap(), Some(tokens + 1)).unwrap();
    Request { prompt, num, seed: 3, ..session.request() }
}

/// One that takes long: at temperature 0 the tiny model repeats itself, and does not come to an end.
fn long(session: &Session, tokens: usize, num: usize) -> Request {
    let mut request = request(session, tokens, num);
    request.sampling.temperature = submask::model::Temperature::Constant(0.0);
    request
}

/// What a listener heard, with the name of its job.
#[derive(Debug, PartialEq)]
enum Heard {
    Started(&'static str),
    Done(&'static str, Vec<Vec<u32>>),
    Failed(&'static str, u16),
}

/// Tells a test what it hears.
struct Telling {
    name: &'static str,
    heard: Sender<Heard>,
    tokens: Vec<Vec<u32>>,
    /// What goes wrong with the first revealed digits.
    mishap: Option<Mishap>,
    gone: CancellationToken,
}

#[derive(Clone, Copy)]
enum Mishap {
    Panic,
    Error,
    Stop,
}

impl Listener for Telling {
    fn wants_digits(&self) -> bool {
        true
    }

    fn notify(&mut self, _: usize, event: &Event) -> Result<Next, ApiError> {
        match (event, self.mishap) {
            (Event::Started { .. }, _) => {
                let _ = self.heard.send(Heard::Started(self.name));
            }
            (Event::Revealed { .. }, Some(Mishap::Panic)) => panic!("a listener that panics"),
            (Event::Revealed { .. }, Some(Mishap::Error)) => return Err(ApiError::invalid("n", "no")),
            (Event::Revealed { .. }, Some(Mishap::Stop)) => return Ok(Next::Stop),
            _ => {}
        }
        Ok(Next::Continue)
    }

    fn finished(&mut self, sample: usize, finished: FinishedSequence) -> Result<(), ApiError> {
        self.tokens.resize(self.tokens.len().max(sample + 1), Vec::new());
        self.tokens[sample] = finished.tokens;
        Ok(())
    }

    fn done(&mut self) {
        let _ = self.heard.send(Heard::Done(self.name, std::mem::take(&mut self.tokens)));
    }

    fn fail(&mut self, error: ApiError) {
        let _ = self.heard.send(Heard::Failed(self.name, error.status().as_u16()));
    }

    fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }
}

/// A job whose events a test hears.
struct Test {
    name: &'static str,
    heard: Sender<Heard>,
    mishap: Option<Mishap>,
    gone: CancellationToken,
    limit: Duration,
}

impl Test {
    fn new(name: &'static str, heard: &Sender<Heard>) -> Self {
        Self { name, heard: heard.clone(), mishap: None, gone: CancellationToken::new(), limit: LONG }
    }

    fn submit(self, engine: &Engine, requests: Vec<Request>) -> Result<(), ApiError> {
        let Self { name, heard, mishap, gone, limit } = self;
        let listen: Listen =
            Box::new(move |_| Some(Box::new(Telling { name, heard, tokens: Vec::new(), mishap, gone })));
        engine.submit(Job { requests, deadline: Deadline::after(limit), listen })
    }
}

/// The next that is no beginning of a sample.
fn end(heard: &Receiver<Heard>) -> Heard {
    let mut told = heard.iter();
    told.find(|one| !matches!(one, Heard::Started(_))).unwrap()
}

#[test]
fn samples_of_many_requests_are_those_of_each_alone() {
    let session = session(0.3);
    let engine = engine(&session, 3, 64);
    let (sender, heard) = channel();
    let requests: Vec<Vec<Request>> = (0..12)
        .map(|place| {
            let one = Request {
                seed: place,
                first_sequence: 2 * place,
                ..request(&session, 3 + place as usize, 2)
            };
            // Some jobs have several prompts.
            let other = Request { seed: place, ..request(&session, 20, 1 + place as usize % 2) };
            if place % 3 == 0 { vec![one, other] } else { vec![one] }
        })
        .collect();
    let names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];
    for (name, requests) in names.iter().zip(&requests) {
        Test::new(name, &sender).submit(&engine, requests.clone()).unwrap();
    }
    for _ in names {
        let Heard::Done(name, tokens) = end(&heard) else { panic!("a job failed") };
        let own = requests[name.parse::<usize>().unwrap()].iter();
        let own: Vec<Vec<u32>> =
            own.flat_map(|request| session.generate(request, &mut Unobserved).unwrap().tokens).collect();
        assert_eq!(tokens, own, "{name}");
    }
}

#[test]
fn a_short_request_need_not_wait_for_long_ones() {
    let session = session(0.3);
    let engine = engine(&session, 2, 64);
    let (sender, heard) = channel();
    for name in ["long", "longer"] {
        Test::new(name, &sender).submit(&engine, vec![long(&session, 4000, 8)]).unwrap();
    }
    // Both are under way.
    while heard.recv().unwrap() != Heard::Started("longer") {}
    Test::new("short", &sender).submit(&engine, vec![request(&session, 2, 1)]).unwrap();
    assert!(matches!(end(&heard), Heard::Done("short", _)));
}

#[test]
fn who_goes_away_makes_room() {
    let session = session(0.3);
    let engine = engine(&session, 1, 1);
    let (sender, heard) = channel();
    let gone = CancellationToken::new();
    for name in ["first", "second"] {
        let test = Test { gone: gone.clone(), ..Test::new(name, &sender) };
        test.submit(&engine, vec![long(&session, 4000, 4)]).unwrap();
    }
    let refused = Test::new("third", &sender).submit(&engine, vec![request(&session, 2, 1)]).unwrap_err();
    assert_eq!(refused.status().as_u16(), 429);
    assert!(refused.to_string().contains("(--max-batch and --max-queue)"), "{refused}");
    gone.cancel();
    while Test::new("fourth", &sender).submit(&engine, vec![request(&session, 2, 1)]).is_err() {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(matches!(end(&heard), Heard::Done("fourth", _)));
}

#[test]
fn a_deadline_ends_a_request_and_no_other() {
    let session = session(0.3);
    let engine = engine(&session, 2, 8);
    let (sender, heard) = channel();
    let late = Test { limit: Duration::from_millis(50), ..Test::new("late", &sender) };
    late.submit(&engine, vec![long(&session, 100_000, 1)]).unwrap();
    assert_eq!(end(&heard), Heard::Failed("late", 504));
    Test::new("next", &sender).submit(&engine, vec![request(&session, 5, 1)]).unwrap();
    assert!(matches!(end(&heard), Heard::Done("next", _)));
}

#[test]
fn errors_and_stops_of_a_listener_are_its_own() {
    let session = session(0.3);
    let engine = engine(&session, 4, 8);
    let (sender, heard) = channel();
    let wrong = Test { mishap: Some(Mishap::Error), ..Test::new("wrong", &sender) };
    Test::new("right", &sender).submit(&engine, vec![request(&session, 40, 2)]).unwrap();
    wrong.submit(&engine, vec![request(&session, 40, 2)]).unwrap();
    let stopped = Test { mishap: Some(Mishap::Stop), ..Test::new("stopped", &sender) };
    stopped.submit(&engine, vec![long(&session, 4000, 3)]).unwrap();
    let mut ends: Vec<Heard> = (0..3).map(|_| end(&heard)).collect();
    ends.sort_by_key(|heard| format!("{heard:?}"));
    assert_eq!(ends[2], Heard::Failed("wrong", 400));
    // A sample that is complete as it is has no tokens to tell.
    assert_eq!(ends[1], Heard::Done("stopped", Vec::new()));
    let own = session.generate(&request(&session, 40, 2), &mut Unobserved).unwrap();
    assert_eq!(ends[0], Heard::Done("right", own.tokens));
}

#[test]
fn after_a_panic_the_engine_goes_on() {
    let session = session(0.3);
    let engine = engine(&session, 1, 1);
    let (sender, heard) = channel();
    for _ in 0..3 {
        Test::new("beside", &sender).submit(&engine, vec![long(&session, 4000, 1)]).unwrap();
        while heard.recv().unwrap() != Heard::Started("beside") {}
        let bad = Test { mishap: Some(Mishap::Panic), ..Test::new("bad", &sender) };
        bad.submit(&engine, vec![request(&session, 40, 1)]).unwrap();
        let mut ends = [end(&heard), end(&heard)];
        ends.sort_by_key(|heard| format!("{heard:?}"));
        assert_eq!(ends, [Heard::Failed("bad", 500), Heard::Failed("beside", 500)]);
    }
    Test::new("next", &sender).submit(&engine, vec![request(&session, 5, 1)]).unwrap();
    assert!(matches!(end(&heard), Heard::Done("next", _)));
}

#[test]
fn an_error_of_the_network_fails_what_is_under_way() {
    let session = session(f64::NAN);
    let engine = engine(&session, 2, 2);
    let (sender, heard) = channel();
    for _ in 0..4 {
        Test::new("any", &sender).submit(&engine, vec![request(&session, 5, 1)]).unwrap();
        assert_eq!(end(&heard), Heard::Failed("any", 500));
    }
}

#[test]
fn a_dropped_engine_ends_its_threads() {
    let session = session(0.3);
    let engine = engine(&session, 1, 1);
    let (sender, heard) = channel();
    Test::new("long", &sender).submit(&engine, vec![long(&session, 100_000, 1)]).unwrap();
    while heard.recv().unwrap() != Heard::Started("long") {}
    drop((engine, sender));
    assert_eq!(end(&heard), Heard::Failed("long", 503));
    // The listener is dropped with the thread, and the last sender with it.
    assert!(heard.recv().is_err());
    while Arc::strong_count(&session) > 1 {
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test]
async fn computations_are_limited_in_number_and_time() {
    let session = session(0.3);
    let engine = engine(&session, 1, 1);
    let (go, wait) = channel::<()>();
    let deadline = Deadline::after(LONG);
    let at_work = engine.score(deadline, 1, move |_, _, _| Ok(wait.recv().is_ok()));
    let waiting = engine.score(deadline, 0, |_, _, _| Ok(()));
    let work = async { tokio::join!(at_work, waiting) };
    tokio::pin!(work);
    // Polled once, both are handed over.
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut work).await.is_err());
    let refused = engine.score(deadline, 1, |_, _, _| Ok(())).await.unwrap_err();
    assert_eq!(refused.status().as_u16(), 429);
    assert!(refused.to_string().contains("(--max-queue and one)"), "{refused}");
    // A prediction need not wait for scores.
    assert_eq!(engine.predict(deadline, 1, |_, _, _| Ok(5)).await.unwrap(), [5]);
    go.send(()).unwrap();
    let (first, second) = work.await;
    assert_eq!((first.unwrap(), second.unwrap()), (vec![true], Vec::new()));
    let late = engine.score(Deadline::after(Duration::from_millis(20)), usize::MAX >> 32, |_, _, _| {
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    });
    assert_eq!(late.await.unwrap_err().status().as_u16(), 504);
    // Who has been answered may still be counted for a moment.
    let engine = self::engine(&session, 1, 8);
    let panics = engine.score(deadline, 1, |_, _, _| -> Result<(), ApiError> { panic!("work that panics") });
    assert_eq!(panics.await.unwrap_err().status().as_u16(), 500);
    let wrong = engine.score(deadline, 3, |place, _, _| match place {
        2 => Err(ApiError::invalid("texts", "no")),
        _ => Ok(place),
    });
    assert_eq!(wrong.await.unwrap_err().status().as_u16(), 400);
    assert_eq!(engine.score(deadline, 3, |place, _, _| Ok(place)).await.unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn requests_for_scores_take_turns_and_end_with_their_clients() {
    let session = session(0.3);
    let engine = engine(&session, 1, 2);
    let deadline = Deadline::after(LONG);
    let pieces = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&pieces);
    let long = engine.score(deadline, 1_000_000, move |place, _, _| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
        Ok(place)
    });
    let short = async {
        // The long one is at work.
        while pieces.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        engine.score(deadline, 3, |place, _, _| Ok(place)).await
    };
    tokio::select! {
        _ = long => panic!("a million pieces were waited for"),
        short = short => assert_eq!(short.unwrap(), [0, 1, 2]),
    }
    // Nobody waits for the long one any more.
    assert!(engine.score(deadline, 1, |place, _, _| Ok(place)).await.is_ok());
    let done = pieces.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(20));
    assert!(pieces.load(std::sync::atomic::Ordering::Relaxed) <= done + 1);
}

/// A single long piece asks, too.
#[tokio::test]
async fn a_long_score_ends_at_its_deadline_and_with_its_client() {
    let session = session(0.3);
    let engine = engine(&session, 1, 2);
    let forever = |_: usize, _: &Session, wanted: submask::denoiser::Wanted| -> Result<(), ApiError> {
        loop {
            wanted()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let late = engine.score(Deadline::after(Duration::from_millis(30)), 1, forever).await.unwrap_err();
    assert_eq!(late.status(), axum::http::StatusCode::GATEWAY_TIMEOUT);
    let gone =
        tokio::time::timeout(Duration::from_millis(30), engine.score(Deadline::after(LONG), 1, forever));
    assert!(gone.await.is_err());
    assert_eq!(engine.score(Deadline::after(LONG), 1, |place, _, _| Ok(place)).await.unwrap(), [0]);
}

//! Breaks checkpoint files, pickled batches of images and files of texts in many ways, then reads and imports them: no panic,
//! no error without the file's name, no second of work, no more memory than twice the file and 64 KiB. Of texts (`.txt`,
//! `.jsonl`, `.json`, `.csv`, `.tsv` and token numbers as `.bin`, compressed or not) a decompressor's dictionary and one
//! record may take more memory.
//!
//! ```text
//! cargo run --release -p submask-experiments --bin mutate_checkpoints -- COUNT SEED FILE…
//! ```
//!
//! The numbers of mutated files are spread over the files given; what is done to number n is a function of the seed
//! and n. A file that takes over a second is read three times, and the fastest counts. Mutated files go to the folder
//! for temporary files (`TMPDIR`). It prints what it saw and fails if anything was wrong; a file that did wrong is
//! kept. A FILE may be the index of a checkpoint in several files: all of them count as one.

mod mutate;
mod several;

#[path = "../../../../crates/submask/tests/it/counting.rs"]
mod counting;
#[path = "../../../../crates/submask/tests/it/stored_zip.rs"]
mod stored_zip;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use submask::Error;
use submask::data::image::ImageSource;
use submask::data::{Reading, Source, Split, Tokenizer};
use submask::import::torch::{TorchFile, TorchType};
use submask::import::{self, Foreign, ImportOptions, WeightSet};

use mutate::{Original, Random};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Memory allowed beyond twice the file.
const FLOOR: usize = 64 << 10;
/// The same for files of texts: the largest dictionary of xz, 256 MiB, and the longest record of a small file, 64 MiB, twice,
/// since memory grows by doubling.
const FLOOR_OF_TEXTS: usize = 400 << 20;
const SECOND: Duration = Duration::from_secs(1);
/// After this a read counts as endless, and the program ends.
const ENDLESS: Duration = Duration::from_secs(60);

/// A way to read a file, which passes each error on.
type Read = fn(&Path, &mut dyn FnMut(Error));

/// Reads a file in every way that the library has; passes each error on.
fn try_everything(path: &Path, errors: &mut dyn FnMut(Error)) {
    if path.extension().is_some_and(|extension| extension == mutate::BATCH) {
        return read_batch(path, errors);
    }
    if path.extension().is_some_and(|extension| extension != mutate::SAFETENSORS) {
        read_torch(path, errors);
    }
    if let Err(error) = import::read_permutation(path) {
        errors(error);
    }
    if let Err(error) = import::contents(path) {
        errors(error);
    }
    match Foreign::open(path) {
        Ok(foreign) => read_foreign(&foreign, errors),
        Err(error) => errors(error),
    }
}

/// Reads the images of a batch as every set that is pickled so.
fn read_batch(path: &Path, errors: &mut dyn FnMut(Error)) {
    let paths = vec![path.to_path_buf()];
    let sources = [
        ImageSource::Cifar10 { paths: paths.clone() },
        ImageSource::Cifar100 { paths: paths.clone(), coarse: false },
        ImageSource::Cifar100 { paths: paths.clone(), coarse: true },
        ImageSource::ImageNet { paths },
    ];
    for source in sources {
        match source.open() {
            Ok(images) => images.filter_map(Result::err).for_each(&mut *errors),
            Err(error) => errors(error),
        }
    }
}

/// Describes and imports a checkpoint, and reads every tensor of it.
fn read_foreign(foreign: &Foreign, errors: &mut dyn FnMut(Error)) {
    let options = ImportOptions::default();
    if let Err(error) = import::inspect(foreign, &options) {
        errors(error);
    }
    for weights in [WeightSet::Raw, WeightSet::Ema] {
        let options = ImportOptions { weights: Some(weights), ..options.clone() };
        if let Err(error) = import::import(foreign, &options) {
            errors(error);
        }
    }
    for tensor in foreign.raw().iter().chain(&foreign.averaged) {
        if let Err(error) = foreign.read(tensor) {
            errors(error);
        }
    }
}

fn read_torch(path: &Path, errors: &mut dyn FnMut(Error)) {
    let file = match TorchFile::open(path) {
        Ok(file) => file,
        Err(error) => return errors(error),
    };
    for value in file.root().reachable() {
        let numbers = match file.tensor(value) {
            None => continue,
            Some(Err(error)) => Err(error),
            Some(Ok(tensor)) => match tensor.dtype() {
                TorchType::F64 | TorchType::F32 | TorchType::F16 | TorchType::Bf16 => {
                    file.read_f32(&tensor).map(|numbers| numbers.len())
                }
                _ => file.read_i64(&tensor).map(|numbers| numbers.len()),
            },
        };
        if let Err(error) = numbers {
            errors(error);
        }
    }
}

/// Reads the documents of a file in every way that the library has.
fn read_texts(path: &Path, errors: &mut dyn FnMut(Error)) {
    let tokenizer = Tokenizer::bytes();
    for (split, field, separator, skip_bad) in [
        (Split::File, "text", "", false),
        (Split::Line, "messages[].content", "", true),
        (Split::Paragraph, "ids", "7", true),
    ] {
        let reading = Reading { separator: separator.to_owned(), skip_bad, ..Reading::default() };
        let (paths, field) = (vec![path.to_path_buf()], field.to_owned());
        let source = Source::Files { paths, split, field, reading };
        let documents = source.corpus().and_then(|corpus| corpus.documents_for(&tokenizer));
        match documents {
            Ok(documents) => documents.filter_map(Result::err).for_each(&mut *errors),
            Err(error) => errors(error),
        }
    }
}

/// What reading one file did.
struct Outcome {
    panicked: bool,
    errors: u64,
    nameless: Option<String>,
    peak: usize,
    time: Duration,
}

impl Outcome {
    /// `place` must stand in every error.
    fn of(path: &Path, place: &Path, read: Read) -> Self {
        let name = place.display().to_string();
        let (mut errors, mut nameless) = (0, None);
        let mut note = |error: Error| {
            errors += 1;
            let message = error.to_string();
            if !message.contains(&name) {
                nameless = Some(message);
            }
        };
        let start = Instant::now();
        let (result, peak) = counting::peak(|| catch_unwind(AssertUnwindSafe(|| read(path, &mut note))));
        Self { panicked: result.is_err(), errors, nameless, peak, time: start.elapsed() }
    }

    /// A file that took too long is read again, up to twice: the machine may have been busy with something else.
    fn of_undisturbed(path: &Path, place: &Path, read: Read) -> Self {
        let mut outcome = Self::of(path, place, read);
        for _ in 0..2 {
            if outcome.time > SECOND {
                outcome.time = outcome.time.min(Self::of(path, place, read).time);
            }
        }
        outcome
    }

    /// What it did that it must not do.
    fn wrong(&self, allowed: usize, size: usize) -> Option<String> {
        if self.panicked {
            Some("it panicked".to_owned())
        } else if self.peak > allowed {
            Some(format!("{} bytes of memory for a file of {size}", self.peak))
        } else if self.time > SECOND {
            Some(format!("{:.2} s", self.time.as_secs_f64()))
        } else {
            self.nameless.as_ref().map(|message| format!("an error without the file's name: {message}"))
        }
    }
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    files: u64,
    with_errors: u64,
    wrong: u64,
    /// Largest share of the memory that is allowed.
    share: f64,
    /// Largest memory over the file's size, of files larger than [`FLOOR`].
    ratio: f64,
    time: Duration,
}

impl Seen {
    fn add(&mut self, outcome: &Outcome, allowed: usize, size: usize) {
        self.files += 1;
        self.with_errors += u64::from(outcome.errors > 0 || outcome.panicked);
        self.share = self.share.max(outcome.peak as f64 / allowed as f64);
        if size > FLOOR {
            self.ratio = self.ratio.max(outcome.peak as f64 / size as f64);
        }
        self.time = self.time.max(outcome.time);
    }
}

/// Writes files into a folder in which nothing else is left.
fn write_all(files: &[(String, Vec<u8>)], folder: &Path) -> std::io::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    files.iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
}

fn arguments() -> Result<(u64, u64, Vec<PathBuf>), String> {
    let mut arguments = std::env::args_os().skip(1);
    let mut number = |name: &str| {
        let given = arguments.next().unwrap_or_default();
        given.to_string_lossy().parse().map_err(|_| format!("{name} is {given:?}, not a whole number"))
    };
    let (count, seed) = (number("COUNT")?, number("SEED")?);
    let files: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if files.is_empty() { Err("no FILE given".to_owned()) } else { Ok((count, seed, files)) }
}

fn run() -> Result<bool, String> {
    let (count, seed, paths) = arguments()?;
    let originals = paths.iter().map(|path| Original::open(path)).collect::<Result<Vec<_>, _>>()?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let seen = Mutex::new(Seen::default());
    let started = Instant::now();
    // When each thread began its file, in milliseconds; at the end u64::MAX.
    let began: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for (thread, began) in began.iter().enumerate() {
            let (originals, seen, folder) = (&originals, &seen, folder.path());
            scope.spawn(move || {
                for n in (thread as u64..count).step_by(threads as usize) {
                    began.store(started.elapsed().as_millis() as u64, Ordering::Relaxed);
                    let original = &originals[n as usize % originals.len()];
                    let (files, what) = original.mutated(&mut Random::new(seed, n));
                    let place = folder.join(thread.to_string());
                    write_all(&files, &place).expect("the folder for temporary files is writable");
                    let path = place.join(&files[0].0);
                    let (read, floor): (Read, _) = match original.is_of_texts() {
                        true => (read_texts, FLOOR_OF_TEXTS),
                        false => (try_everything, FLOOR),
                    };
                    // Of several files it is the one at fault that an error names.
                    let named = if files.len() == 1 { &path } else { &place };
                    let outcome = Outcome::of_undisturbed(&path, named, read);
                    let size = files.iter().map(|(_, bytes)| bytes.len()).sum();
                    let allowed = 2 * size + floor;
                    let wrong = outcome.wrong(allowed, size);
                    let mut seen = seen.lock().expect("no thread panics");
                    seen.add(&outcome, allowed, size);
                    if let Some(wrong) = wrong {
                        seen.wrong += 1;
                        let kept = std::env::temp_dir().join(format!("mutated-{seed}-{n}"));
                        let _ = write_all(&files, &kept);
                        println!("WRONG: {wrong}: {what}: {}", kept.join(&files[0].0).display());
                    }
                }
                began.store(u64::MAX, Ordering::Relaxed);
            });
        }
        while began.iter().any(|began| began.load(Ordering::Relaxed) != u64::MAX) {
            std::thread::sleep(Duration::from_millis(50));
            let now = started.elapsed().as_millis() as u64;
            let endless = |began: &AtomicU64| {
                now.saturating_sub(began.load(Ordering::Relaxed)) > ENDLESS.as_millis() as u64
            };
            if let Some(thread) = began.iter().position(endless) {
                println!("WRONG: endless: {}", folder.path().join(thread.to_string()).display());
                std::process::exit(1);
            }
        }
    });
    let seen = seen.into_inner().expect("no thread panics");
    println!("{} mutated files in {:.0} s", seen.files, started.elapsed().as_secs_f64());
    println!("{} with errors, {} read without", seen.with_errors, seen.files - seen.with_errors);
    println!("most memory: {:.3} of what is allowed", seen.share);
    println!("most memory of a file over 64 KiB: {:.3} × file", seen.ratio);
    println!("longest: {:.1} ms", 1e3 * seen.time.as_secs_f64());
    println!("wrong: {}", seen.wrong);
    Ok(seen.wrong == 0)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}\nusage: mutate_checkpoints COUNT SEED FILE…");
            ExitCode::FAILURE
        }
    }
}

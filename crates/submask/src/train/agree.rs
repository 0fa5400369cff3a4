//! What has to be the same on all ranks of a run.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::exchange::Ranks;
use super::run::RunRequest;
use super::state::{Reached, TrainState};
use super::task::Task;
use crate::compute::Compute;
use crate::ops::vector_instructions;
use crate::shard::Peers;
use crate::{Error, Result};

/// Values by what they are of.
type Values = BTreeMap<String, String>;

/// Compares what is known before anything is read or written: the program, what it computes with, and all settings.
///
/// # Errors
/// [`Error::Differ`] on all ranks, naming the first thing that is not on all of them as on rank 0, with both values.
pub(super) fn compare_requests(request: &RunRequest, ranks: &Ranks) -> Result<()> {
    if ranks.count() == 1 {
        return Ok(());
    }
    let mut values = of_program(&request.compute);
    values.insert("whether the run is resumed".to_owned(), request.resume.to_string());
    let text = request.settings.to_toml().map_err(Error::internal("settings can be written"))?;
    let table: toml::Table = text.parse().map_err(Error::internal("settings can be read"))?;
    flatten("", &table, &mut values);
    compare(ranks, &values)
}

/// Compares what the data are, and where the run continues.
///
/// # Errors
/// As [`compare_requests`].
pub(super) fn compare_starts(task: &Task, reached: Reached, state: &TrainState, ranks: &Ranks) -> Result<()> {
    if ranks.count() == 1 {
        return Ok(());
    }
    let weights = checksum(state.raw.iter().flatten().map(|weight| weight.to_le_bytes()));
    let values = [
        ("the training data (their fingerprint)", format!("{:016x}", task.slots.fingerprint())),
        ("the number of held-out tokens", format!("{:?}", task.valid_tokens.unwrap_or(0))),
        ("the step to continue from", reached.step.to_string()),
        ("the weights to begin with (their checksum)", format!("{weights:08x}")),
    ];
    compare(ranks, &values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// One build, one kind of device and one set of instructions give the same bits.
fn of_program(compute: &Compute) -> Values {
    let values = [
        ("the program's version", env!("CARGO_PKG_VERSION").to_owned()),
        ("the program (checksum of its file)", program().to_owned()),
        (
            "the instructions of the processor",
            format!("{} {}", std::env::consts::ARCH, vector_instructions()),
        ),
        ("the device", compute.device_name()),
        ("the precision", compute.precision().to_string()),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The checksum of the file that runs; nothing where it cannot be read.
fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let bytes = std::env::current_exe().and_then(std::fs::read);
        bytes.map_or_else(|_| String::new(), |bytes| format!("{:08x}", crc32fast::hash(&bytes)))
    })
}

fn checksum(bytes: impl Iterator<Item = [u8; 4]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    bytes.for_each(|bytes| hasher.update(&bytes));
    hasher.finalize()
}

/// Keys as `--set` takes them.
fn flatten(before: &str, table: &toml::Table, values: &mut Values) {
    for (key, value) in table {
        let name = if before.is_empty() { key.clone() } else { format!("{before}.{key}") };
        match value {
            toml::Value::Table(table) => flatten(&name, table, values),
            value => {
                values.insert(name, value.to_string());
            }
        }
    }
}

fn compare(ranks: &Ranks, own: &Values) -> Result<()> {
    let own = serde_json::to_vec(own).map_err(Error::internal("values can be written"))?;
    let all = ranks.all(own)?;
    let read = |own: &Vec<u8>| serde_json::from_slice(own).map_err(Error::internal("values can be read"));
    let all: Vec<Values> = all.iter().map(read).collect::<Result<_>>()?;
    first_difference(&all).map_or(Ok(()), Err)
}

/// The first thing that some rank has otherwise than rank 0.
fn first_difference(all: &[Values]) -> Option<Error> {
    let (first, others) = all.split_first()?;
    for (rank, other) in others.iter().enumerate() {
        let names = first.keys().chain(other.keys());
        if let Some(what) = names.into_iter().find(|name| first.get(*name) != other.get(*name)) {
            let shown = |values: &Values| values.get(what).map_or("nothing", String::as_str).to_owned();
            let values = format!("{} on rank 0, {} on rank {}", shown(first), shown(other), rank + 1);
            return Some(Error::Differ { what: what.clone(), values });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::exchange::on_threads;
    use crate::train::settings::RunSettings;

    fn request() -> RunRequest {
        let preset = include_str!("../../../submask-cli/presets/dictionary.toml");
        let settings = RunSettings::from_table(preset.parse().unwrap()).unwrap();
        RunRequest { settings, out: "a".into(), resume: false, init: None, compute: Compute::cpu() }
    }

    #[test]
    fn ranks_with_other_settings_are_refused_on_all_ranks_by_the_key() {
        let refused = |change: fn(&mut RunRequest)| {
            let all = on_threads(3, |ranks| {
                let mut request = request();
                if ranks.rank() == 2 {
                    change(&mut request);
                }
                compare_requests(&request, &ranks).err().map(|error| error.to_string())
            });
            assert!(all.iter().all(|error| *error == all[0]), "{all:?}");
            all[0].clone()
        };
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|request| request.out = "b".into()), None, "a folder may have several names");
        let seed = refused(|request| request.settings.train.seed = 7);
        assert_eq!(seed.unwrap(), "the ranks differ in train.seed: 0 on rank 0, 7 on rank 2");
        let resume = refused(|request| request.resume = true).unwrap();
        assert!(resume.contains("resumed: false on rank 0, true on rank 2"), "{resume}");
    }

    #[test]
    fn the_instructions_of_the_processor_are_compared() {
        let all = ["avx2", "avx2", "avx512"].map(|level| Values::from([("b".to_owned(), level.to_owned())]));
        let error = first_difference(&all).unwrap().to_string();
        assert_eq!(error, "the ranks differ in b: avx2 on rank 0, avx512 on rank 2");
        assert!(
            of_program(&Compute::cpu())["the instructions of the processor"].contains(vector_instructions())
        );
        assert!(!program().is_empty());
    }
}

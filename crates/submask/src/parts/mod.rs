//! Parts of a piece of work that several processes share without talking to each other: what one of them computed, in a
//! file, and all of them together.
//!
//! A process that computes [`Shard`] i of n writes a part ([`write()`]). Whoever has all n ([`PartSet::open`]) reads what they
//! hold in the order of items, and makes of it what one process would have made, by the same functions.
//!
//! A part is a row of records, one after the other, and a description behind them, since some of it is known only when the
//! work is done. Records are written and read one by one, so that a part may be larger than memory; numbers in them are
//! little-endian bits, so that none loses its last one. All numbers of the file are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | the magic `SUBMPART` |
//! | 4 | version of the format, 1 |
//! | each record | its length in 8 bytes, and its bytes |
//! | D | the description: JSON |
//! | 8 | D |
//! | 8 | number of records |
//! | 4 | CRC-32 of everything up to here |
//! | 8 | the magic `SUBMPEND` |

mod bytes;
mod file;
mod set;
mod write;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use bytes::{Bytes, Fields};
pub use file::PartFile;
pub use set::PartSet;
pub use write::{Records, write};

use crate::shard::Shard;
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"SUBMPART";
const END: [u8; 8] = *b"SUBMPEND";
/// Version of the format that is written, and the only one that is read.
pub const PART_VERSION: u32 = 1;
/// Bytes before the first record.
const BEGIN_BYTES: u64 = 12;
/// Bytes behind the description.
const END_BYTES: u64 = 28;

/// What a part says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// What was done: `eval`, `sample`, ….
    pub verb: String,
    /// Version of the program that did it.
    pub program: String,
    /// Which share it is.
    pub shard: Shard,
    /// Items that all shares have together, N.
    pub items: u64,
    /// What an item is, in the plural: `sequences`, `texts`, ….
    pub unit: String,
    /// Everything else that has to be the same in all parts: settings, fingerprints of the model and of the data, what the
    /// result is called. By name.
    pub facts: Map<String, Value>,
    /// What this part alone says, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub own: Map<String, Value>,
}

impl Description {
    /// Of `shard` of `items` items, with the fields of `facts`.
    ///
    /// # Errors
    /// [`Error::Internal`] for facts that are no object of JSON.
    pub fn new(verb: &str, shard: Shard, items: u64, unit: &str, facts: &impl Serialize) -> Result<Self> {
        let facts = serde_json::to_value(facts).map_err(Error::internal("facts of a part are JSON"))?;
        let Value::Object(facts) = facts else {
            return Err(Error::internal("facts of a part have names")(facts));
        };
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let (verb, unit) = (verb.to_owned(), unit.to_owned());
        Ok(Self { verb, program, shard, items, unit, facts, own: Map::new() })
    }

    /// The same with something that this part alone says.
    #[must_use]
    pub fn with_own(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.own.insert(name.to_owned(), value.into());
        self
    }

    /// What has to be the same in all parts besides facts, by name.
    fn common(&self) -> [(&'static str, Value); 5] {
        [
            ("verb", self.verb.as_str().into()),
            ("version of the program", self.program.as_str().into()),
            ("number of parts", self.shard.count().into()),
            ("unit", self.unit.as_str().into()),
            ("number of items", self.items.into()),
        ]
    }

    /// What the two have to have alike and do not: its name, and both values.
    fn difference(&self, other: &Self) -> Option<(String, Value, Value)> {
        let mut pairs = self.common().into_iter().zip(other.common());
        let common = pairs.find_map(|((name, ours), (_, theirs))| difference(name, &ours, &theirs));
        let facts = |description: &Self| Value::Object(description.facts.clone());
        common.or_else(|| difference("", &facts(self), &facts(other)))
    }
}

/// The first value in which two differ, with the names that lead to it.
fn difference(name: &str, ours: &Value, theirs: &Value) -> Option<(String, Value, Value)> {
    let (Value::Object(own), Value::Object(other)) = (ours, theirs) else {
        return (ours != theirs).then(|| (name.to_owned(), ours.clone(), theirs.clone()));
    };
    let names = own.keys().chain(other.keys().filter(|key| !own.contains_key(*key)));
    let of = |values: &Map<String, Value>, key: &str| values.get(key).cloned().unwrap_or(Value::Null);
    names.into_iter().find_map(|key| {
        let inner = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        difference(&inner, &of(own, key), &of(other, key))
    })
}

#[cfg(test)]
mod tests;

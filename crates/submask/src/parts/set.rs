//! All parts of one piece of work.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Description, Fields, PartFile};
use crate::shard::Shard;
use crate::{Error, Result};

/// Missing parts that an error names.
const NAMED: usize = 8;

/// The parts of one piece of work, each once, in the order of their items.
#[derive(Clone, Debug)]
pub struct PartSet {
    parts: Vec<PartFile>,
}

impl PartSet {
    /// Opens parts, in whatever order they are given.
    ///
    /// # Errors
    /// As [`PartFile::open`]; [`Error::Format`] naming a part of other work than the first, and what differs, and one that is
    /// there twice; [`Error::Invalid`] for no part, and where one is missing.
    pub fn open<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let mut parts: Vec<PartFile> = paths.into_iter().map(PartFile::open).collect::<Result<_>>()?;
        let Some(first) = parts.first() else {
            return Err(Error::invalid("parts", "none", "at least one"));
        };
        parts.iter().skip(1).try_for_each(|part| same(first, part))?;
        parts.sort_by_key(|part| part.description().shard.index());
        for pair in parts.windows(2) {
            let shard = pair[0].description().shard;
            if shard == pair[1].description().shard {
                let problem = format!("part {shard} is there twice: {} is it, too", pair[0].path().display());
                return Err(Error::format(pair[1].path(), problem));
            }
        }
        check_complete(&parts)?;
        Ok(Self { parts })
    }

    /// The parts.
    pub fn parts(&self) -> &[PartFile] {
        &self.parts
    }

    /// What was done.
    pub fn verb(&self) -> &str {
        &self.parts[0].description().verb
    }

    /// Items of all parts together, N.
    pub fn items(&self) -> u64 {
        self.parts[0].description().items
    }

    /// What all parts say alike, as it was given to [`Description::new`].
    ///
    /// # Errors
    /// [`Error::Format`] for facts that are not those of such work.
    pub fn facts<T: DeserializeOwned>(&self) -> Result<T> {
        let Description { verb, facts, .. } = self.parts[0].description();
        let wrong = |error| {
            Error::format(self.parts[0].path(), format!("its description is none of `{verb}`: {error}"))
        };
        serde_json::from_value(Value::Object(facts.clone())).map_err(wrong)
    }

    /// The sum of a number that each part says of itself.
    ///
    /// # Errors
    /// [`Error::Format`] naming a part that does not say it.
    pub fn sum_of(&self, name: &str) -> Result<u64> {
        let number = |part: &PartFile| {
            let number = part.description().own.get(name).and_then(Value::as_u64);
            number.ok_or_else(|| Error::format(part.path(), format!("its description does not say {name}")))
        };
        self.parts.iter().map(number).sum()
    }

    /// That every part has a record for each of its items, and for each of its share of so many `others`.
    ///
    /// # Errors
    /// [`Error::Format`] naming a part that has not.
    pub fn check_records(&self, others: u64) -> Result<()> {
        let check = |part: &PartFile| {
            let Description { shard, items, unit, .. } = part.description();
            let expected = shard.range(*items as usize).len() + shard.range(others as usize).len();
            if part.records() == expected as u64 {
                return Ok(());
            }
            let problem = format!("{} records of {expected} {unit}", part.records());
            Err(Error::format(part.path(), problem))
        };
        self.parts.iter().try_for_each(check)
    }

    /// What `read` makes of every record of every part, in order.
    ///
    /// # Errors
    /// Those of [`PartFile::for_each`] and of `read`; [`Error::Format`] naming a part with a record that is longer.
    pub fn read<T>(&self, read: impl Fn(&mut Fields) -> Result<T>) -> Result<Vec<T>> {
        let mut all = Vec::new();
        self.for_each(read, |item| {
            all.push(item);
            Ok(())
        })?;
        Ok(all)
    }

    /// The same one by one, each given to `take`.
    ///
    /// # Errors
    /// As [`Self::read`], and those of `take`.
    pub fn for_each<T, E: From<Error>>(
        &self,
        read: impl Fn(&mut Fields) -> Result<T>,
        mut take: impl FnMut(T) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.parts.iter().try_for_each(|part| {
            part.for_each(|record| {
                let mut fields = Fields::new(record, part.path());
                let item = read(&mut fields)?;
                fields.end()?;
                take(item)
            })
        })
    }
}

/// That two parts are of the same work.
fn same(first: &PartFile, part: &PartFile) -> Result<()> {
    let Some((name, ours, theirs)) = part.description().difference(first.description()) else {
        return Ok(());
    };
    let first = first.path().display();
    let problem = format!("of other work than {first}: its {name} is {ours}, and there {theirs}");
    Err(Error::format(part.path(), problem))
}

/// That every share has its part; they are sorted and none is there twice.
fn check_complete(parts: &[PartFile]) -> Result<()> {
    let count = parts[0].description().shard.count();
    if parts.len() as u64 == count {
        return Ok(());
    }
    let mut there = parts.iter().map(|part| part.description().shard.index()).peekable();
    let missing = Shard::all(count).filter(|shard| there.next_if_eq(&shard.index()).is_none());
    let mut named: Vec<String> = missing.take(NAMED).map(|shard| shard.to_string()).collect();
    let lacking = count - parts.len() as u64;
    if lacking > named.len() as u64 {
        named.push("…".to_owned());
    }
    let given = format!("{} of {count}", parts.len());
    let verb = if lacking == 1 { "is" } else { "are" };
    Err(Error::invalid("parts", given, format!("each of them once: {} {verb} missing", named.join(", "))))
}

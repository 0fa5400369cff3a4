//! What stands in a record: numbers and byte strings one after the other.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A record that is being made.
#[derive(Clone, Debug, Default)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    /// Adds a whole number, 8 bytes.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a number's bits, 8 bytes.
    #[must_use]
    pub fn f64(self, value: f64) -> Self {
        self.u64(value.to_bits())
    }

    /// Adds tokens, with their number before them.
    #[must_use]
    pub fn tokens(self, tokens: &[u32]) -> Self {
        let mut bytes = self.u64(tokens.len() as u64);
        bytes.0.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        bytes
    }

    /// Adds numbers' bits, with how many they are before them.
    #[must_use]
    pub fn floats(self, values: &[f32]) -> Self {
        let mut bytes = self.u64(values.len() as u64);
        bytes.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    /// Adds a byte string, with its length before it.
    #[must_use]
    pub fn string(self, string: &[u8]) -> Self {
        let mut bytes = self.u64(string.len() as u64);
        bytes.0.extend(string);
        bytes
    }

    /// The record.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

/// What is left to be read of a record, field by field as they were added.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    /// The part that it is of.
    path: &'a Path,
}

impl<'a> Fields<'a> {
    /// Of a record in the part at `path`, which errors name.
    pub fn new(record: &'a [u8], path: &'a Path) -> Self {
        Self { rest: record, path }
    }

    /// The next whole number.
    ///
    /// # Errors
    /// [`Error::Format`] for a record that has no more fields, as all the others.
    pub fn u64(&mut self) -> Result<u64> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| self.too_short())?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// The next number.
    ///
    /// # Errors
    /// As [`Self::u64`].
    pub fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_bits(self.u64()?))
    }

    /// The next tokens.
    ///
    /// # Errors
    /// As [`Self::u64`].
    pub fn tokens(&mut self) -> Result<Vec<u32>> {
        let words = self.words()?.iter();
        Ok(words.map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// The next numbers of 4 bytes.
    ///
    /// # Errors
    /// As [`Self::u64`].
    pub fn floats(&mut self) -> Result<Vec<f32>> {
        let words = self.words()?.iter();
        Ok(words.map(|word| f32::from_le_bytes(*word)).collect())
    }

    /// The next byte string.
    ///
    /// # Errors
    /// As [`Self::u64`].
    pub fn string(&mut self) -> Result<&'a [u8]> {
        let len = self.u64()?;
        self.take(len)
    }

    /// The next byte string as text.
    ///
    /// # Errors
    /// As [`Self::u64`], and for what is no UTF-8.
    pub fn text(&mut self) -> Result<&'a str> {
        let string = self.string()?;
        std::str::from_utf8(string).map_err(|error| Error::format(self.path, format!("a record: {error}")))
    }

    /// The next byte string as JSON, in which finite numbers keep their last bit.
    ///
    /// # Errors
    /// As [`Self::u64`], and for what is no such JSON.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let string = self.string()?;
        serde_json::from_slice(string).map_err(|error| Error::format(self.path, format!("a record: {error}")))
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// [`Error::Format`] where something is.
    pub fn end(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(Error::format(self.path, format!("a record is {left} bytes too long"))),
        }
    }

    fn words(&mut self) -> Result<&'a [[u8; 4]]> {
        let count = self.u64()?;
        let bytes = count.checked_mul(4).ok_or_else(|| self.too_short())?;
        Ok(self.take(bytes)?.as_chunks().0)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let len = usize::try_from(len).ok().filter(|len| *len <= self.rest.len());
        let (own, rest) = self.rest.split_at(len.ok_or_else(|| self.too_short())?);
        self.rest = rest;
        Ok(own)
    }

    fn too_short(&self) -> Error {
        Error::format(self.path, "a record is too short for what it should hold")
    }
}

//! Python's pickle format (protocols 2 to 5), read as data: nothing in a pickle is imported, called or built.
//!
//! A pickle is a program for a small stack machine; Python's own reader imports modules and calls functions for
//! it. Here the machine *records*. Numbers, strings, lists, tuples, sets and dicts become values. A function or
//! class becomes its name, a call or an instance becomes an [`Value::Object`] of class, arguments, state and
//! items, and what is stored outside the pickle becomes its [`Value::Persistent`] id.
//!
//! The values stand in one table and refer to each other by index, so that what is shared is stored once, and
//! loops (a configuration whose nodes know their parents) are no danger. [`ValueRef`] is a place in that table.
//!
//! # Limits
//!
//! A first pass over the opcodes checks every length against the bytes left and counts the values; if these would
//! take more memory than allowed, the pickle is refused before anything is allocated. The second pass records
//! them into tables of exactly that size. There is no recursion, however deep the values are nested. Strings stay
//! in the file's bytes.
//!
//! Opcodes of protocols 0 and 1 that protocol 2 replaced, extension codes, keyword arguments of constructors
//! (`NEWOBJ_EX`) and out-of-band buffers are refused by name.
//!
//! # Why not an existing crate
//!
//! `serde-pickle` 1.2 has neither persistent ids nor objects of unknown classes, and `pytorch-reader`
//! 0.23.0-pre.1 (the reader behind `burn-store`) keeps only the class name of such an object, so that a
//! configuration in it is lost, copies shared values, and bounds memory by constants, not by the file.

mod graph;
pub(crate) mod numpy;
mod opcodes;
mod record;
mod value;

pub(crate) use graph::Graph;
pub use value::{Entries, Global, Items, Reachable, Value, ValueRef};

/// What is wrong with a pickle, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Offset of the opcode at fault.
    pub at: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "byte {}: {}", self.at, self.problem)
    }
}

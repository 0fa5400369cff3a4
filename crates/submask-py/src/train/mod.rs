//! Training and preparing as the program does them: its own code merges the settings, the library does the work, and whoever called
//! is told what happens.

mod events;
mod given;
pub mod plan;
pub mod prepare;
mod watch;

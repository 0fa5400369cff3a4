//! The program as a user meets it: exit code, standard output and standard error of every call.

mod bad_input;
mod blocks;
mod convert;
mod foreign;
mod formats;
mod held_out;
mod help;
mod hub;
#[cfg(feature = "hub")]
#[path = "../../../submask/tests/it/hub_server.rs"]
mod hub_server;
mod images;
mod logits;
mod lossy;
mod pairs;
mod prompts;
mod reproducible;
mod rounds;
mod scores;
#[cfg(feature = "serve")]
mod serve;
mod settings;
mod shards;
mod shell;
mod tokenizers;
mod verbs;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A folder to call the program in.
struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, and the folders above it.
    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Calls the program with arguments and gives everything it said.
    fn call(&self, arguments: &[&str]) -> String {
        self.call_with(arguments, b"")
    }

    /// The same with bytes on standard input.
    fn call_with(&self, arguments: &[&str], input: &[u8]) -> String {
        self.call_in(arguments, input, &[])
    }

    /// The same with variables of the environment.
    fn call_in(&self, arguments: &[&str], input: &[u8], variables: &[(&str, &str)]) -> String {
        let mut program = Command::new(env!("CARGO_BIN_EXE_submask"))
            .args(arguments)
            .current_dir(self.path())
            .env_remove("NO_COLOR")
            .env("COLUMNS", "100")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What the program does not read is lost.
        let _ = program.stdin.take().unwrap().write_all(input);
        let output = program.wait_with_output().unwrap();
        let place = self.path().display().to_string();
        let clean = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.replace(&place, "[room]").replace("submask.exe", "submask")
        };
        format!(
            "exit code: {}\n----- stdout -----\n{}----- stderr -----\n{}",
            output.status.code().unwrap(),
            clean(&output.stdout),
            clean(&output.stderr)
        )
    }
}

/// Calls the program in an empty folder.
fn submask(arguments: &[&str]) -> String {
    Room::new().call(arguments)
}

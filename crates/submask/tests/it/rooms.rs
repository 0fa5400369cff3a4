//! The rooms of the library stand in an order, and arrows between them point down: `use crate::…` of a room names
//! rooms below it only. CONTRIBUTING.md has the list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Everything that may name any room: the front page of the library.
const FRONT: &str = "lib";

/// The rooms of CONTRIBUTING.md, bottom first.
fn rooms() -> Vec<String> {
    let text = include_str!("../../../../CONTRIBUTING.md");
    let list = text.split("<!-- rooms -->").nth(1).expect("CONTRIBUTING.md has the list of rooms");
    list.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(room, _)| room.to_owned())
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room that a file belongs to.
fn room_of(file: &Path) -> String {
    let inside = file.strip_prefix(source_folder()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").map_or(first.clone(), str::to_owned)
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The code of a file without its tests, which may look anywhere, and without comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that code names by `crate::room`.
fn named(code: &str, rooms: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let names: Vec<&str> = match after.strip_prefix('{') {
            // `use crate::{a::B, c::D}`: the first name of every entry.
            Some(list) => list.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![after],
        };
        for name in names {
            let name: String =
                name.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if rooms.contains(&name) {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn arrows_between_rooms_point_down() {
    let rooms = rooms();
    let mut files = Vec::new();
    sources(&source_folder(), &mut files);
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for file in files.iter().filter(|file| !file.ends_with("tests.rs") && room_of(file) != FRONT) {
        let room = room_of(file);
        let place = |room: &str| rooms.iter().position(|known| known == room);
        let own = place(&room).unwrap_or_else(|| panic!("CONTRIBUTING.md does not name the room `{room}`"));
        for other in named(&code(file), &rooms).into_iter().filter(|other| *other != room) {
            arrows += 1;
            if place(&other) > Some(own) {
                wrong.push(format!("{} names `{other}`, which stands above `{room}`", file.display()));
            }
        }
    }
    assert!(arrows > 100, "{arrows} arrows: the sources were not read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_of_the_list_is_there() {
    let rooms = rooms();
    assert!(rooms.len() > 15, "{rooms:?}");
    for room in &rooms {
        let (file, folder) = (source_folder().join(format!("{room}.rs")), source_folder().join(room));
        assert!(file.is_file() || folder.is_dir(), "there is no room `{room}`");
    }
}

#[test]
fn an_arrow_that_points_up_is_found() {
    let rooms = ["below".to_owned(), "above".to_owned()];
    let code = "use crate::{Error, above::Thing, Result};\nfn f() { crate::below::g() }";
    assert_eq!(named(code, &rooms).into_iter().collect::<Vec<_>>(), ["above", "below"]);
}

/// Errors that blame the caller name what the caller gave.
#[test]
fn no_library_code_swaps_the_panic_hook_or_prints() {
    let mut files = Vec::new();
    sources(&source_folder(), &mut files);
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let code = code(file);
        for word in ["set_hook", "println!", "eprintln!", "eprint!", "print!("] {
            assert!(!code.contains(word), "{} has {word}", file.display());
        }
    }
}

//! Builds with the feature `cuda` take the stub in place of `cubecl-llvm`: docs/gpu.md says why.

use std::path::Path;

/// A package of the lock file: version, and where it comes from.
fn locked(lock: &toml::Table, name: &str) -> Vec<(String, Option<String>)> {
    let packages = lock["package"].as_array().unwrap().iter();
    let text = |package: &toml::Value, key: &str| package.get(key).map(|x| x.as_str().unwrap().to_owned());
    packages
        .filter(|package| package["name"].as_str() == Some(name))
        .map(|package| (text(package, "version").unwrap(), text(package, "source")))
        .collect()
}

#[test]
fn the_lock_file_takes_the_stub_for_the_crate_that_downloads_llvm() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Ok(text) = std::fs::read_to_string(root.join("Cargo.lock")) else {
        println!("skipped: there is no lock file two folders above this crate");
        return;
    };
    let lock: toml::Table = text.parse().unwrap();
    // What comes from a path has no source. A later version of it would leave the patch unused.
    assert_eq!(locked(&lock, "cubecl-llvm"), [("0.11.3".to_owned(), None)]);
    for gone in ["llvm-sys", "pliron-llvm", "tracel-llvm-bundler"] {
        assert_eq!(locked(&lock, gone), [], "{gone} is what the stub keeps away");
    }
    let [(cuda, _)] = &locked(&lock, "cubecl-cuda")[..] else { panic!("one cubecl-cuda") };
    assert_eq!(cuda, "0.11.3", "the stub has the names that this version uses");
}

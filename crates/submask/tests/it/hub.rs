//! Downloads from a hub: a server on this machine that speaks its routes. The network is never asked.

use std::path::{Path, PathBuf};

use submask::import::hub::{Hub, HubEvent, HubName};

use crate::hub_server::{COMMIT, HubServer, Repository};

/// A content of so many bytes.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i % 251) as u8).collect()
}

fn server() -> HubServer {
    let files = [
        ("small.ckpt", content(1000)),
        ("deep/down/large.ckpt", content(300_000)),
        ("folder/config.json", b"{}".to_vec()),
        ("folder/model.safetensors", content(5000)),
        ("ours/config.json", b"{\"format_version\": 1}".to_vec()),
        ("ours/tokenizer.json", b"[]".to_vec()),
        ("ours/model.safetensors", content(6000)),
    ];
    let files = files.into_iter().collect();
    HubServer::start(Repository {
        name: "owner/repo",
        files,
        redirect_above: Some(100_000),
        ..Default::default()
    })
}

fn hub(endpoint: &str, cache: &Path) -> Hub {
    Hub { endpoint: endpoint.to_owned(), cache: cache.to_path_buf(), token: None, offline: false }
}

/// An address where nobody answers.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// The only content in a cache.
fn blob(cache: &Path) -> PathBuf {
    let blobs = std::fs::read_dir(cache.join("models--owner--repo/blobs")).unwrap();
    blobs.map(|blob| blob.unwrap().path()).find(|path| path.extension().is_none()).unwrap()
}

/// Fetches a name: the path or the error's text, and what was said meanwhile, without the repetitions.
fn fetch(hub: &Hub, name: &str) -> (Result<PathBuf, String>, Vec<String>) {
    let mut said: Vec<String> = Vec::new();
    let fetched = hub.fetch(&HubName::parse(name).unwrap(), &mut |event| match event {
        HubEvent::Progress { file, done, total } => {
            let begins = format!("{file} ");
            said.retain(|line| !line.starts_with(&begins));
            said.push(format!("{begins}{done}/{total}"));
        }
        HubEvent::Cached { file, .. } => said.push(format!("cached {file}")),
    });
    (fetched.map_err(|error| error.to_string()), said)
}

#[test]
fn files_are_downloaded_once_and_found_again_in_the_standard_cache() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let hub = hub(&server.endpoint, cache.path());
    let snapshot = cache.path().join("models--owner--repo/snapshots").join(COMMIT);
    for (name, file, len) in [
        ("hub://owner/repo/small.ckpt", "small.ckpt", 1000),
        ("hub://owner/repo/deep/down/large.ckpt", "deep/down/large.ckpt", 300_000),
    ] {
        let (path, said) = fetch(&hub, name);
        let path = path.unwrap();
        assert_eq!(
            (path.as_path(), said),
            (snapshot.join(file).as_path(), vec![format!("{file} {len}/{len}")])
        );
        assert_eq!(std::fs::read(path).unwrap(), content(len));
        assert_eq!(server.downloads(), [format!("{file} bytes=0-")]);
        assert_eq!(fetch(&hub, name), (Ok(snapshot.join(file)), vec![]));
        assert_eq!(server.downloads(), Vec::<String>::new(), "the second time it is there");
    }
    let at_commit = format!("hub://owner/repo@{COMMIT}/small.ckpt");
    let offline = Hub { endpoint: nowhere(), ..hub };
    assert_eq!(
        fetch(&offline, &at_commit),
        (Ok(snapshot.join("small.ckpt")), vec![]),
        "a commit never changes"
    );
}

#[test]
fn a_changed_file_is_downloaded_again() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let hub = hub(&server.endpoint, cache.path());
    fetch(&hub, "hub://owner/repo/small.ckpt").0.unwrap();
    server.change(|repository| drop(repository.files.insert("small.ckpt", content(2000))));
    // The server gives the new content the old commit, so that the old name stands in the way.
    std::fs::remove_dir_all(cache.path().join("models--owner--repo/snapshots")).unwrap();
    let path = fetch(&hub, "hub://owner/repo/small.ckpt").0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content(2000));
}

#[test]
fn a_folder_is_its_configuration_and_weights() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let hub = hub(&server.endpoint, cache.path());
    let names = |name: &str| {
        let folder = fetch(&hub, name).0.unwrap();
        let entries = std::fs::read_dir(&folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("hub://owner/repo/folder"), ["config.json", "model.safetensors"]);
    assert_eq!(names("hub://owner/repo/ours/"), ["config.json", "model.safetensors", "tokenizer.json"]);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub { cache: cache.path().to_path_buf(), ..hub };
    let weights = fetch(&hub, "hub://owner/repo/folder/model.safetensors").0.unwrap();
    assert!(weights.with_file_name("config.json").is_file(), "it stands beside the weights");
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let hub = hub(&server.endpoint, cache.path());
    server.change(|repository| repository.cuts = [120_000, 120_000].into());
    let (path, said) = fetch(&hub, "hub://owner/repo/deep/down/large.ckpt");
    assert_eq!(std::fs::read(path.unwrap()).unwrap(), content(300_000));
    assert_eq!(said, ["deep/down/large.ckpt 300000/300000"]);
    let ranges = ["bytes=0-", "bytes=120000-", "bytes=240000-"];
    assert_eq!(server.downloads(), ranges.map(|range| format!("deep/down/large.ckpt {range}")));
}

#[test]
fn the_next_call_goes_on_where_the_last_one_gave_up() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let hub = hub(&server.endpoint, cache.path());
    let name = "hub://owner/repo/deep/down/large.ckpt";
    server.change(|repository| repository.cuts = [120_000, 0, 0, 0, 0].into());
    let error = fetch(&hub, name).0.unwrap_err();
    assert!(error.starts_with(name) && error.contains("120000 bytes are kept"), "{error}");
    server.downloads();
    let path = fetch(&hub, name).0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content(300_000));
    assert_eq!(server.downloads(), ["deep/down/large.ckpt bytes=120000-"]);
}

#[test]
fn what_is_not_what_the_hub_announced_is_not_kept() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let hub = hub(&server.endpoint, cache.path());
    let name = "hub://owner/repo/deep/down/large.ckpt";
    server.change(|repository| repository.ignores_ranges = true);
    let path = fetch(&hub, name).0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content(300_000));
    // With a part from before, a whole content is too long.
    let blob = blob(cache.path());
    std::fs::rename(&blob, blob.with_extension("part")).unwrap();
    let part = std::fs::OpenOptions::new().write(true).open(blob.with_extension("part")).unwrap();
    part.set_len(1000).unwrap();
    let error = fetch(&hub, name).0.unwrap_err();
    assert!(error.contains("came with 301000 bytes, not 300000"), "{error}");
    assert_eq!(std::fs::read(fetch(&hub, name).0.unwrap()).unwrap(), content(300_000));
}

#[test]
fn a_part_that_is_whole_or_too_long_does_not_stand_in_the_way() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let hub = hub(&server.endpoint, cache.path());
    let name = "hub://owner/repo/small.ckpt";
    fetch(&hub, name).0.unwrap();
    let blob = blob(cache.path());
    for len in [1000, 1001] {
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(blob.with_extension("part"), content(len)).unwrap();
        assert_eq!(std::fs::read(fetch(&hub, name).0.unwrap()).unwrap(), content(1000));
    }
}

#[test]
fn offline_the_cache_is_enough() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let online = hub(&server.endpoint, cache.path());
    let names = ["hub://owner/repo/small.ckpt", "hub://owner/repo/folder", "hub://owner/repo/ours"];
    let paths = names.map(|name| fetch(&online, name).0);
    let unreachable = Hub { endpoint: nowhere(), ..online.clone() };
    for (name, path) in names.iter().zip(&paths) {
        let (found, said) = fetch(&unreachable, name);
        assert_eq!(&found, path);
        assert!(said[0].starts_with("cached "), "{said:?}");
    }
    server.downloads();
    let offline = Hub { offline: true, ..online };
    for (name, path) in names.iter().zip(&paths) {
        assert_eq!(fetch(&offline, name), (path.clone(), vec![]));
    }
    assert_eq!(server.downloads(), Vec::<String>::new());
}

#[test]
fn offline_without_a_copy_it_says_what_to_copy_where() {
    let cache = tempfile::tempdir().unwrap();
    let unreachable = hub(&nowhere(), cache.path());
    let offline = Hub { offline: true, ..unreachable.clone() };
    for hub in [unreachable, offline] {
        let error = fetch(&hub, "hub://owner/repo/a/b.ckpt").0.unwrap_err();
        let url = format!("{}/owner/repo/resolve/main/a/b.ckpt", hub.endpoint);
        let place = cache.path().join("models--owner--repo").display().to_string();
        for part in [
            "hub://owner/repo/a/b.ckpt: ",
            "cannot be reached",
            &url,
            &place,
            "config.json and model.safetensors",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}

#[test]
fn what_the_hub_does_not_have_is_said_with_what_it_has() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let hub = hub(&server.endpoint, cache.path());
    for (name, parts) in [
        ("hub://owner/repo/gone.ckpt", ["has no file gone.ckpt, but ", "small.ckpt"]),
        ("hub://owner/repo", ["has no file config.json, but ", "folder/config.json"]),
        ("hub://owner/other/small.ckpt", ["no repository owner/other", "revision main"]),
        ("hub://owner/repo@old/small.ckpt", ["no repository owner/repo", "revision old"]),
    ] {
        let error = fetch(&hub, name).0.unwrap_err();
        assert!(error.starts_with(name), "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let error = fetch(&Hub { endpoint: "localhost".to_owned(), ..hub }, "hub://owner/repo").0.unwrap_err();
    assert!(error.contains("HF_ENDPOINT = localhost"), "{error}");
}

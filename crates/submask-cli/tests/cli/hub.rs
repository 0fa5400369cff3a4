//! Names on the Hub: downloaded from a server on this machine, or refused by a build that cannot.

use super::Room;

#[cfg(not(feature = "hub"))]
#[test]
fn a_build_without_downloads_says_what_it_lacks() {
    let room = Room::new();
    for call in [vec!["import", "hub://owner/repo", "--to", "model"], vec!["info", "hub://owner/repo/a.ckpt"]]
    {
        let said = room.call(&call);
        assert!(said.starts_with("exit code: 2\n"), "{said}");
        assert!(said.contains("hub://owner/repo") && said.contains("without the feature `hub`"), "{said}");
    }
}

#[test]
fn names_that_are_none_are_refused() {
    let said = Room::new().call(&["info", "hub://owner/repo/../../etc"]);
    assert!(
        said.starts_with("exit code: 2\n") && said.contains("hub://owner/repo[@revision][/path]"),
        "{said}"
    );
}

#[cfg(feature = "hub")]
mod downloads {
    use std::process::{Command, Stdio};

    use super::super::hub_server::{HubServer, Repository};
    use super::super::rounds::{json, stdout, trained};
    use super::Room;

    /// Calls the program with the environment of a hub.
    fn call(room: &Room, variables: &[(&str, &str)], arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_submask"))
            .args(arguments)
            .current_dir(room.path())
            .env("HF_HOME", room.path().join("home"))
            .env_remove("HF_HUB_CACHE")
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("HF_TOKEN")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        format!(
            "exit code: {}\n----- stdout -----\n{}----- stderr -----\n{}",
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr)
        )
    }

    #[test]
    fn a_published_model_is_described_imported_and_found_again_offline() {
        let (room, _) = trained(&[]);
        room.call(&["export", "run", "--to", "published"]);
        let read = |name: &str| std::fs::read(room.path().join("published").join(name)).unwrap();
        let names = ["config.json", "model.safetensors"];
        let server = HubServer::start(Repository {
            name: "owner/repo",
            files: names.iter().map(|name| (*name, read(name))).collect(),
            redirect_above: Some(10_000),
            ..Default::default()
        });
        let online = [("HF_ENDPOINT", server.endpoint.as_str())];
        let offline = [online[0], ("HF_HUB_OFFLINE", "1")];

        let said = call(&room, &offline, &["info", "hub://owner/repo"]);
        assert!(
            said.starts_with("exit code: 1\n") && said.contains("there is no copy of config.json"),
            "{said}"
        );
        let said = call(&room, &online, &["info", "hub://owner/repo", "--json"]);
        assert_eq!(json(&said)["kind"], "model", "{said}");
        assert!(said.contains("downloading model.safetensors: "), "{said}");
        assert!(!server.downloads().is_empty());
        for (variables, to) in [(&online[..], "again"), (&offline[..], "third")] {
            let said = call(&room, variables, &["import", "hub://owner/repo", "--to", to]);
            assert!(stdout(&said).contains("missing: 0") && !said.contains("downloading"), "{said}");
            let weights = std::fs::read(room.path().join(to).join("model.safetensors")).unwrap();
            assert!(weights == read("model.safetensors"), "the same bytes");
        }
        assert_eq!(server.downloads(), Vec::<String>::new());

        let said = call(&room, &online, &["import", "hub://owner/repo/gone.ckpt", "--to", "gone"]);
        assert!(said.starts_with("exit code: 1\n") && said.contains("has no file gone.ckpt"), "{said}");
        assert!(!room.path().join("gone").exists());
    }
}

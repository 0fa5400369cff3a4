//! What shells and `man` read.

use super::{Room, submask};

/// What the program wrote to standard output, which must have gone well.
fn printed(arguments: &[&str]) -> String {
    let said = submask(arguments);
    let rest = said.strip_prefix("exit code: 0\n----- stdout -----\n").unwrap_or_else(|| panic!("{said}"));
    let (out, err) = rest.split_once("----- stderr -----\n").unwrap();
    assert_eq!(err, "");
    out.to_owned()
}

/// Bash itself completes: verbs, flags of a verb, values of a flag.
#[cfg(target_os = "linux")]
#[test]
fn bash_completes_verbs_flags_and_values() {
    let script = printed(&["completions", "bash"]);
    let complete = |words: &str| {
        let ask = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _submask submask \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let done = std::process::Command::new("bash").args(["-c", &ask]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("submask tra"), ["train"]);
    assert_eq!(complete("submask data pre"), ["prepare"]);
    assert_eq!(complete("submask train --subt"), ["--subtokens"]);
    assert_eq!(complete("submask train --objective j"), ["joint"]);
    assert_eq!(complete("submask completions f"), ["fish"]);
}

#[test]
fn other_shells_have_their_scripts() {
    for (shell, word) in [
        ("zsh", "#compdef submask"),
        ("fish", "complete -c submask"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        assert!(printed(&["completions", shell]).contains(word), "{shell}");
    }
    let said = submask(&["completions", "sh"]);
    assert!(
        said.starts_with("exit code: 2\n") && said.contains("bash, elvish, fish, powershell, zsh"),
        "{said}"
    );
}

#[test]
fn a_page_is_printed_by_the_words_of_its_verb() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH SUBMASK 1 \"\" \"submask"), "{page}");
    assert!(page.contains("submask\\-train(1)"), "{page}");
    let page = printed(&["man", "data", "prepare"]);
    assert!(page.contains(".TH SUBMASK-DATA-PREPARE 1"), "{page}");
    assert!(page.contains("\\-\\-rebuild"), "{page}");
    let said = submask(&["man", "trian"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("`submask` has no verb `trian`"), "{said}");
    assert!(said.contains("hint: its verbs are train, eval, "), "{said}");
    let said = submask(&["man", "train", "--out", "folder"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("cannot be used with"), "{said}");
}

#[test]
fn all_pages_are_written_and_replaced() {
    let room = Room::new();
    for _ in 0..2 {
        let said = room.call(&["man", "--out", "share/man1"]);
        assert!(said.starts_with("exit code: 0\n"), "{said}");
        let mut files: Vec<String> = std::fs::read_dir(room.path().join("share/man1"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files[0], "submask-bench.1", "{files:?}");
        assert!(files.contains(&"submask-data-prepare.1".to_owned()), "{files:?}");
        assert!(files.contains(&"submask.1".to_owned()), "{files:?}");
        assert!(files.iter().all(|name| said.contains(name) && name.ends_with(".1")), "{files:?}: {said}");
    }
    room.write("file", "");
    let said = room.call(&["man", "--out", "file"]);
    assert!(said.starts_with("exit code: 1\n") && said.contains("file"), "{said}");
}

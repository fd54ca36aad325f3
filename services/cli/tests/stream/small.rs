//! `zibrato completions` and `man`, and a standard output that is closed.

use std::process::{Command, Stdio};

use crate::program::{run, zibrato};

#[test]
fn each_shell_gets_a_script_that_knows_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = run(0, &["completions", shell]).well();
        for word in ["up", "send", "tap", "top", "doctor", "record", "replay", "fresh-ids"] {
            assert!(said.out.contains(word), "{word} for {shell}");
        }
        assert_eq!(said.err, "");
    }
    run(0, &["completions", "cmd"]).fails(2, "invalid value 'cmd' for '<SHELL>'");
}

#[test]
fn bash_can_read_its_script_and_completes_with_it() {
    let script = run(0, &["completions", "bash"]).well().out;
    let ask =
        "\nCOMP_WORDS=(zibrato re); COMP_CWORD=1; _zibrato zibrato re zibrato; echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash").args(["-c", &format!("{script}{ask}")]).output().unwrap();
    assert!(bash.status.success(), "{}", String::from_utf8_lossy(&bash.stderr));
    assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "record replay");
}

#[test]
fn a_script_that_nobody_reads_is_no_error() {
    let mut child = zibrato(&["completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn manual_pages_are_written_where_they_are_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/man");
    run(0, &["man", path.to_str().unwrap()]).well();
    for page in [
        "zibrato.1",
        "zibrato-send.1",
        "zibrato-replay.1",
        "zibrato-broker.1",
        "zibrato-librato.1",
        "zibrato-local.1",
    ] {
        assert!(path.join(page).is_file(), "{page}");
    }
    let below_a_file = path.join("zibrato.1/x");
    run(0, &["man", below_a_file.to_str().unwrap()]).fails(1, "cannot write manual pages into ");
}

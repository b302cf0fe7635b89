//! What `scripts/stacks/stack` would do, by its dry run: nothing is started here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pdbench::cli::{Outside, Parsed, parse};
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The dry run of a deployment with these options; the tree is `ROOT` in it, the folder of installs `STACKS`.
fn dry_run(deployment: &str, options: &[&str]) -> String {
    let kept = tempfile::tempdir().unwrap();
    let done = Command::new("bash")
        .arg(Path::new(ROOT).join("scripts/stacks/stack"))
        .args(["all", deployment, "--dry-run"])
        .args(options)
        .env("PDBENCH_STACKS", kept.path())
        .env_remove("VLLM_VENV")
        .output()
        .unwrap();
    assert!(done.status.success(), "{deployment} {options:?}: {}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(std::fs::read_dir(kept.path()).unwrap().count(), 0, "a dry run of {deployment} wrote files");
    let kept = kept.path().to_str().unwrap();
    String::from_utf8(done.stdout).unwrap().replace(kept, "STACKS").replace(ROOT, "ROOT")
}

fn deployments() -> Vec<String> {
    let folders = std::fs::read_dir(Path::new(ROOT).join("scripts/stacks")).unwrap();
    let paths = folders.map(|folder| folder.unwrap().path());
    let mut names: Vec<String> = paths
        .filter(|folder| folder.join("deployment.sh").exists())
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(8 <= names.len(), "{names:?}");
    names
}

/// The words of each command, as a shell reads them.
fn commands(dry_run: &str) -> Vec<Vec<String>> {
    let joined = dry_run.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.starts_with(['#', ' ', '{', '}']));
    lines.map(|line| words(line.strip_prefix("exec ").unwrap_or(line))).collect()
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        // Every other part stands in quotes, and is one word.
        match number % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let path = PathBuf::from(ROOT).join("tests/golden/stacks").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(expected, text, "{} differs; UPDATE_GOLDEN=1 rewrites it", path.display());
}

#[test]
fn what_ascend_and_gaudi_start_is_known_to_the_letter() {
    for deployment in ["ascend", "gaudi"] {
        assert_golden(&format!("{deployment}.txt"), &dry_run(deployment, &[]));
    }
}

#[test]
fn pdbench_understands_every_command_that_a_deployment_gives_it() {
    let outside = Outside { variable: &|_| None, key_file: &|_| unreachable!("no command names a key file") };
    for deployment in deployments() {
        for options in [&[][..], &["--topology", "2p3d"], &["--simulated"]] {
            let asked = commands(&dry_run(&deployment, options));
            let asked: Vec<_> =
                asked.iter().filter(|words| words.first().is_some_and(|word| word == "pdbench")).collect();
            assert!(3 <= asked.len(), "{deployment} {options:?}: {asked:?}");
            for command in asked {
                match parse(command, &outside) {
                    Ok(Parsed::Plan(_)) => {}
                    Ok(Parsed::Text(text) | Parsed::Refused(text)) => {
                        panic!("{deployment}: {command:?}: {text}")
                    }
                    Err(error) => panic!("{deployment}: {command:?}: {}", error.message()),
                }
            }
        }
    }
}

#[test]
fn every_instance_is_told_its_connector_in_json() {
    for deployment in deployments() {
        for words in commands(&dry_run(&deployment, &["--topology", "2p3d"])) {
            let Some(flag) = words.iter().position(|word| word == "--kv-transfer-config") else { continue };
            let told: serde_json::Value = serde_json::from_str(&words[flag + 1]).unwrap();
            assert!(told["kv_connector"].is_string() && told["kv_role"].is_string(), "{deployment}: {told}");
        }
    }
}

#[test]
fn instances_of_one_host_have_ports_of_their_own() {
    let printed = dry_run("mooncake-p2p", &["--topology", "3p2d"]);
    for address in ["8100,bootstrap=8998", "8101,bootstrap=8999", "8102,bootstrap=9000", "8200", "8201"] {
        assert!(printed.contains(&format!("127.0.0.1:{address}")), "{address}:\n{printed}");
    }
}

#[test]
fn a_setting_that_is_none_is_named() {
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(hosts.path(), "PREFIL_HOSTS=10.0.0.1\n").unwrap();
    let kept = tempfile::tempdir().unwrap();
    let done = Command::new("bash")
        .arg(Path::new(ROOT).join("scripts/stacks/stack"))
        .args(["up", "example", "--dry-run", "--hosts"])
        .arg(hosts.path())
        .env("PDBENCH_STACKS", kept.path())
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("sets PREFIL_HOSTS, which is no setting"));
}

/// Runs a bash script that has the functions of `lib/processes.sh`, with this ssh; what it printed.
fn with_processes(kept: &Path, ssh: &str, script: &str) -> String {
    let here = Path::new(ROOT).join("scripts/stacks/lib/processes.sh");
    let begin = format!(
        "set -euo pipefail; dry_run=no deployment=test state={}; mkdir -p $state/logs",
        kept.display()
    );
    let done = Command::new("bash")
        .args(["-c", &format!("{begin}; : >$state/pids; source {}; {script}", here.display())])
        .env("STACK_SSH", ssh)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn what_was_started_by_ssh_ends_by_its_recorded_process_alone() {
    let kept = tempfile::tempdir().unwrap();
    let ssh = kept.path().join("ssh");
    // Notes the host, and runs on this one what it was to run there.
    std::fs::write(&ssh, format!("echo \"$1\" >>{}/hosts\nshift\nexec \"$@\"\n", kept.path().display()))
        .unwrap();
    let script = "start one node-1 - -- sleep 600; start other node-2 - -- sleep 600; waiting=()
        while read -r _ _ pid _; do kill -0 $pid; echo started $pid; done <$state/pids
        # The id of the second now belongs to another process, as far as anyone can tell.
        other=$(sed -n '2s/^[^ ]* [^ ]* \\([0-9]*\\) .*/\\1/p' $state/pids); sed -i '2s/[0-9]* 1$/1 1/' $state/pids
        down; kill -0 $other && kill $other && echo spared $other";
    let printed = with_processes(kept.path(), &format!("sh {}", ssh.display()), script);
    let pids: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("started ")).collect();
    assert_eq!(pids.len(), 2, "{printed}");
    let gone = |pid: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    };
    assert!(gone(pids[0]), "{printed}");
    assert!(printed.contains(&format!("spared {}", pids[1])), "{printed}");
    let hosts = std::fs::read_to_string(kept.path().join("hosts")).unwrap();
    assert!(hosts.contains("node-1") && hosts.contains("node-2"), "{hosts}");
    assert!(kept.path().join("files/one.sh").exists() && !kept.path().join("pids").exists());
}

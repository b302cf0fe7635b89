//! The rules of ARCHITECTURE.md, held against the sources: who may import whom, which rooms are pure, who may
//! print and touch files, and that the documents name only what exists.

#[path = "architecture/source.rs"]
mod source;

use source::{Path, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// Each room of `src/` with the rooms it may import; `lib` and `main` are the files of that name. A new room
/// gets its row here and in ARCHITECTURE.md.
const ROOMS: &[(&str, &[&str])] = &[
    ("cluster", &[]),
    ("workload", &[]),
    ("runtime", &[]),
    ("wire", &["cluster", "workload"]),
    ("measure", &["cluster", "workload", "wire"]),
    ("load", &["cluster", "workload", "wire", "measure", "runtime"]),
    ("sim", &["cluster", "workload", "wire", "measure", "runtime"]),
    ("proxy", &["cluster", "workload", "wire", "measure", "runtime"]),
    ("observe", &["cluster", "workload", "wire", "measure", "runtime"]),
    ("accuracy", &["cluster", "workload", "wire", "measure"]),
    ("report", &["cluster", "workload", "wire", "measure"]),
    (
        "command",
        &[
            "cluster", "workload", "runtime", "wire", "measure", "load", "sim", "proxy", "observe",
            "accuracy", "report",
        ],
    ),
    ("cli", &["command", "cluster", "workload", "wire", "measure", "accuracy", "load", "sim", "proxy"]),
    ("lib", &["cli", "command", "runtime"]),
    // It makes the `Surroundings`, whose parts are in these rooms.
    ("main", &["runtime", "measure", "command", "lib"]),
];

/// Rooms of which another may see only some names: flags become values of the load and the simulator, and run
/// neither.
const NARROW: &[(&str, &str, &[&str])] = &[
    ("cli", "accuracy", &["Form", "KV_PROBE", "KvProbe", "Selection"]),
    ("cli", "load", &["KeepText", "ReadLimits", "Timeouts"]),
    (
        "cli",
        "proxy",
        &["Admin", "Allowed", "Benchmark", "Config", "FirstToken", "Health", "Policy", "Timeouts", "Trigger"],
    ),
    ("cli", "sim", &["Config", "Cost", "Emission", "FlagNames", "PARAMETERS", "Parameter", "Routing"]),
];

/// Rooms and files without a clock, socket, file, environment or terminal: the same input, the same output.
const PURE: &[&str] = &[
    "src/cluster/",
    "src/workload/",
    "src/wire/",
    "src/measure/",
    "src/accuracy/",
    "src/report/",
    "src/load/pacer.rs",
    "src/proxy/route.rs",
    "src/sim/cost.rs",
    "src/sim/parameters.rs",
];

/// The only files that open files. The first two are the impure part of `report`; the fourth is a download, which grows
/// where a report is replaced and is read back to go on; the last reads the facts about the machine.
const FILES: &[&str] = &[
    "src/report/journal.rs",
    "src/report/writer.rs",
    "src/command/input.rs",
    "src/command/cache/part.rs",
    "src/main.rs",
];

/// What a pure room cannot name, and what a part of a path must be next to.
const IMPURE: &[&[&str]] = &[
    &["std", "fs"],
    &["std", "net"],
    &["std", "env"],
    &["std", "process"],
    &["tokio"],
    &["reqwest"],
    &["hyper"],
    &["hyper_util"],
    &["nix"],
    &["Instant", "now"],
    &["SystemTime"],
];

/// The only file that reads the system's clock: its thread outlives virtual time. All others read the run's
/// clock or tokio's, which tests can pause.
const REAL_TIME: &str = "src/report/journal.rs";

const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// Longest source file, in lines.
const LONGEST: usize = 400;

/// Files that may be longer, and by what right. An entry that is not needed any more fails.
const LONG: &[(&str, &str)] = &[];

/// Longest ARCHITECTURE.md, in lines: it is meant to be read.
const LONGEST_ARCHITECTURE: usize = 150;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: &str) -> String {
    let bytes = fs::read(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The files under `directory`, from the root of the tree, sorted. Build output, runs and hidden directories
/// other than `.ci` are no part of the tree.
fn files_under(directory: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(root().join(&directory)).expect("directories of the tree can be read");
        for entry in entries.map(|entry| entry.expect("its entries too")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
            let foreign = name == "target" || (directory == "reports" && name != "example");
            match entry.file_type().expect("an entry has a type") {
                kind if kind.is_file() => files.push(path),
                kind if kind.is_dir() && !foreign && (!name.starts_with('.') || name == ".ci") => {
                    directories.push(path);
                }
                _ => {}
            }
        }
    }
    files.sort();
    files
}

fn sources() -> Vec<Source> {
    let files = files_under("src");
    let rust = files.iter().filter(|file| file.ends_with(".rs"));
    rust.map(|file| Source::parse(file, &text_of(file))).collect()
}

/// The room of a file: `src/load/pacer.rs` is in `load`, `src/lib.rs` in `lib`.
fn room_of(file: &str) -> &str {
    let inner = file.trim_start_matches("src/");
    inner.split_once('/').map_or(inner.trim_end_matches(".rs"), |(room, _)| room)
}

fn allowed(room: &str) -> Option<&'static [&'static str]> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed)
}

fn complaint(source: &Source, path: &Path, what: &str) -> String {
    format!("{}:{}: {what}", source.file, path.line)
}

/// Imports against the table. Test code counts: what couples two rooms there belongs under `tests/`.
fn import_faults(source: &Source) -> Vec<String> {
    let room = room_of(&source.file);
    let Some(allowed) = allowed(room) else {
        return vec![format!(
            "{}:1: the room `{room}` is not in the table; give it a row in tests/architecture.rs and in \
             ARCHITECTURE.md, or put the file into a room that exists",
            source.file
        )];
    };
    let is_root = ["lib", "main"].contains(&room);
    // Rooms that the file has by their name, so that `sim::Config` in it leads into the room.
    let whole: BTreeSet<_> = source.paths.iter().filter_map(whole_room).collect();
    let mut faults = Vec::new();
    for path in &source.paths {
        let by_name = path.parts.len() > 1 && whole.contains(&path.parts[0]);
        let Some(target) = path.in_crate().or_else(|| by_name.then(|| path.parts.clone())) else { continue };
        let first = target.first().map_or("*", String::as_str);
        let text = path.text();
        let is_room = ROOMS.iter().any(|(name, _)| *name == first);
        if first == room && !is_root || is_root && !is_room {
            continue;
        }
        let narrow = NARROW.iter().find(|(from, to, _)| (*from, *to) == (room, first));
        let what = if !is_room {
            format!(
                "`{room}` reaches into the root of the crate (`{text}`), which stands above all rooms; import \
                 from the room that has it, by name"
            )
        } else if !allowed.contains(&first) {
            let may = if allowed.is_empty() { "no room".to_owned() } else { allowed.join(", ") };
            format!(
                "`{room}` imports `{first}` (`{text}`) and may import {may}; move what both need into a room \
                 below both, or join the two in `command`"
            )
        } else if let Some((_, _, names)) = narrow
            && !target.get(1).map_or(!path.renamed, |name| names.contains(&name.as_str()))
        {
            format!(
                "of `{first}`, `{room}` may see only {} and not `{text}`; let `command` do it",
                names.join(", ")
            )
        } else {
            continue;
        };
        faults.push(complaint(source, path, &what));
    }
    faults
}

/// The room that a path stands for as a whole.
fn whole_room(path: &Path) -> Option<String> {
    let target = path.in_crate().filter(|_| !path.renamed)?;
    <[String; 1]>::try_from(target).ok().map(|[room]| room)
}

fn is_pure(file: &str) -> bool {
    PURE.iter().any(|pure| file.starts_with(pure)) && !FILES.contains(&file)
}

/// What a file may not touch, outside of its tests.
fn effect_faults(source: &Source) -> Vec<String> {
    let file = source.file.as_str();
    let may_print = file.starts_with("src/command/") || file == "src/main.rs";
    let may_open = FILES.contains(&file);
    let mut faults = Vec::new();
    for path in source.paths.iter().filter(|path| !path.in_test) {
        let text = path.text();
        let last = path.parts.last().map_or("", String::as_str);
        let crate_wide = path.parts.len() > 1 || path.is_macro;
        let prints = path.is_macro && PRINTING.contains(&last)
            || ["stdout", "stderr"].iter().any(|stream| path.contains(&["io", stream]));
        let opens = path.contains(&["std", "fs"])
            || path.contains(&["tokio", "fs"])
            || crate_wide && ["File", "OpenOptions"].contains(&path.parts[0].as_str());
        let impure = IMPURE.iter().any(|parts| match parts {
            // A crate's name counts at the start of a path alone.
            [name] if *name != "SystemTime" => crate_wide && path.parts[0] == *name,
            parts => path.contains(parts),
        });
        if is_pure(file) && impure {
            faults.push(complaint(
                source,
                path,
                &format!("`{text}` in code that is pure; let the caller pass in what it needs, as a value"),
            ));
        } else if opens && !may_open {
            let what = format!("`{text}`: only {} open files; hand over bytes or a sink", FILES.join(", "));
            faults.push(complaint(source, path, &what));
        }
        if path.contains(&["std", "time", "Instant"]) && file != REAL_TIME && !is_pure(file) {
            let what =
                format!("`{text}` cannot be paused in a test; use `runtime::Clock` or tokio's `Instant`");
            faults.push(complaint(source, path, &what));
        }
        if prints && !may_print {
            let what = format!("`{text}`: only `command` prints; return the text");
            faults.push(complaint(source, path, &what));
        }
    }
    faults
}

fn assert_none(faults: Vec<String>) {
    let mut text = String::new();
    for fault in &faults {
        let _ = write!(text, "\n  {fault}");
    }
    assert!(faults.is_empty(), "{} found:{text}\n", faults.len());
}

/// The spans in backticks that look like paths, with their lines; code blocks do not count.
fn named_paths(markdown: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let mut in_block = false;
    for (number, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            let spans = line.split('`').skip(1).step_by(2);
            named
                .extend(spans.filter(|span| looks_like_path(span)).map(|span| (number + 1, span.to_owned())));
        }
    }
    named
}

fn looks_like_path(span: &str) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let endings = [".rs", ".md", ".toml", ".sh", ".py", ".lock"];
    plain && (span.contains('/') || endings.iter().any(|ending| span.ends_with(ending)))
}

fn parse(file: &str, text: &str) -> Source {
    Source::parse(file, text)
}

#[test]
fn no_room_imports_what_it_may_not() {
    assert_none(sources().iter().flat_map(import_faults).collect());
}

#[test]
fn effects_stay_where_they_belong() {
    let sources = sources();
    let tests: BTreeSet<_> = sources.iter().flat_map(|source| source.test_files.clone()).collect();
    let is_test =
        |file: &str| tests.iter().any(|test| file == test || test.ends_with('/') && file.starts_with(test));
    assert_none(sources.iter().filter(|source| !is_test(&source.file)).flat_map(effect_faults).collect());
}

#[test]
fn no_source_file_is_long() {
    let mut faults = Vec::new();
    let lengths: BTreeMap<_, _> = sources().into_iter().map(|source| (source.file, source.lines)).collect();
    for (file, &lines) in &lengths {
        if LONGEST < lines && !LONG.iter().any(|(long, _)| long == file) {
            faults.push(format!(
                "{file}:{lines}: over {LONGEST} lines; a second idea is in it that wants a file"
            ));
        }
    }
    for (file, _) in LONG {
        if lengths.get(*file).is_none_or(|&lines| lines <= LONGEST) {
            faults
                .push(format!("{file} is not over {LONGEST} lines any more; take it out of the list `LONG`"));
        }
    }
    assert_none(faults);
}

#[test]
fn nothing_is_left_for_later() {
    // Written in two parts, so as not to find themselves.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ig", "nore")];
    let mut faults = Vec::new();
    for file in files_under("") {
        for (number, line) in text_of(&file).lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                faults
                    .push(format!("{file}:{}: `{word}`; do it, or say in words what is absent", number + 1));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn unsafe_code_is_forbidden_for_good() {
    let manifest = text_of("Cargo.toml");
    let lints = manifest.split("[lints.rust]").nth(1).expect("Cargo.toml has [lints.rust]");
    let lints = lints.split("\n[").next().unwrap_or_default();
    assert!(
        lints.contains("unsafe_code = \"forbid\""),
        "Cargo.toml must forbid unsafe code under [lints.rust]"
    );
}

#[test]
fn the_documents_name_paths_that_exist() {
    let mut faults = Vec::new();
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let named = named_paths(&text_of(document));
        assert!(5 < named.len(), "{document} names {} paths: the search for them is broken", named.len());
        for (line, path) in named {
            if !root().join(&path).exists() {
                faults.push(format!("{document}:{line}: `{path}` does not exist; correct the document"));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn the_architecture_is_short_and_has_every_room() {
    let text = text_of("ARCHITECTURE.md");
    let lines = text.lines().count();
    assert!(
        lines <= LONGEST_ARCHITECTURE,
        "ARCHITECTURE.md: {lines} lines, more than {LONGEST_ARCHITECTURE}"
    );
    let sources = sources();
    let rooms: BTreeSet<_> = sources.iter().map(|source| room_of(&source.file)).collect();
    for room in rooms.iter().filter(|room| !["lib", "main"].contains(room)) {
        assert!(
            text.contains(&format!("`src/{room}`")),
            "ARCHITECTURE.md does not say what `src/{room}` is for"
        );
    }
}

#[test]
fn the_table_has_each_room_once_and_no_cycle() {
    // Each row names only rooms that stand above it, so there is no way round.
    for (at, (room, allowed)) in ROOMS.iter().enumerate() {
        assert!(!ROOMS[..at].iter().any(|(other, _)| other == room), "`{room}` has two rows");
        for import in *allowed {
            let below = ROOMS[..at].iter().any(|(other, _)| other == import);
            assert!(below, "`{room}` may import `{import}`, whose row is not above its own");
        }
    }
}

#[test]
fn every_row_lets_in_its_rooms_and_no_other() {
    for (room, allowed) in ROOMS {
        let file = match *room {
            "lib" | "main" => format!("src/{room}.rs"),
            _ => format!("src/{room}/any.rs"),
        };
        for (other, _) in ROOMS.iter().filter(|(other, _)| other != room) {
            let name = NARROW
                .iter()
                .find(|narrow| (narrow.0, narrow.1) == (*room, *other))
                .map_or("Any", |n| n.2[0]);
            let faults = import_faults(&parse(&file, &format!("use crate::{other}::{name};\n")));
            assert_eq!(faults.is_empty(), allowed.contains(other), "{room} → {other}: {faults:?}");
        }
    }
}

#[test]
fn every_way_to_import_is_seen() {
    for text in [
        "use crate::sim::Config;",
        "use crate::{measure::Offset, sim::{self, Config}};",
        "use crate::{\n    measure::{Offset, Run},\n    sim,\n};",
        "use super::super::sim::Config;",
        "use {crate::sim::Config, std::fmt};",
        "fn f() { let c = crate::sim::Config::default(); }",
        "fn f(c: &crate::sim::Config) {}",
        "mod inner { use super::super::super::sim; }",
        "macro_rules! m { () => { $crate::sim::run() } }",
        "use crate::sim as other;",
        "use ::pdbench::sim::Config;",
        "impl From<crate::sim::Config> for X {}",
        "/* one /* two */ */ use crate::sim::Config; // behind comments",
        "const A: char = '\"'; use crate::sim::Config; const B: char = '\"';",
        "const A: &str = r#\"\"\"#; use crate::sim::Config;",
        "fn f<'a>(a: &'a str) { crate::sim::run(a) }",
    ] {
        let faults = import_faults(&parse("src/load/pacer.rs", text));
        assert!(faults.iter().any(|fault| fault.contains("`load` imports `sim`")), "{text}: {faults:?}");
    }
    for text in ["use crate::Surroundings;", "use crate::*;", "use crate as root;", "use super::super::X;"] {
        let faults = import_faults(&parse("src/load/pacer.rs", text));
        assert!(faults.iter().any(|fault| fault.contains("the root of the crate")), "{text}: {faults:?}");
    }
}

#[test]
fn what_is_no_import_is_not_taken_for_one() {
    for text in [
        "// use crate::sim::Config;",
        "/* crate::sim */ const A: &str = \"crate::sim::Config\";",
        "const A: &str = r#\"use \"crate::sim::Config\"\"#;",
        "use super::sim::Local; use self::sim::Other; use sim::Third;",
        "pub(in crate::load) fn f() {} pub(crate) fn g() {}",
        "mod tests { use super::*; use super::super::shard; }",
        "use crate::{measure::Offset, load::{Pacing, shard::sim}};",
        "fn f(x: X) { x.sim::<u8>(); <X as Y>::sim::z(); }",
    ] {
        assert_eq!(import_faults(&parse("src/load/pacer.rs", text)), [""; 0], "{text}");
    }
    let root = "pub mod sim; pub mod cli; pub use cli::Cli; use std::io;";
    assert_eq!(import_faults(&parse("src/lib.rs", root)), [""; 0]);
}

#[test]
fn the_root_too_obeys_its_row() {
    let faults = import_faults(&parse("src/lib.rs", "pub mod load;\npub use load::Load;\n"));
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("src/lib.rs:2: `lib` imports `load`"), "{faults:?}");
    assert_eq!(import_faults(&parse("src/main.rs", "fn main() { pdbench::run(); }")), [""; 0]);
    assert_eq!(import_faults(&parse("src/main.rs", "use pdbench::load::Load;")).len(), 1);
}

#[test]
fn a_room_without_a_row_is_refused() {
    let faults = import_faults(&parse("src/util/mod.rs", ""));
    assert!(faults[0].contains("the room `util` is not in the table"), "{faults:?}");
}

#[test]
fn flags_may_set_the_simulator_and_not_run_it() {
    let both = parse("src/cli/serve.rs", "use crate::sim::{Config,\n    run};");
    let faults = import_faults(&both);
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("src/cli/serve.rs:2: of `sim`, `cli` may see only Config"), "{faults:?}");
    for (text, count) in [
        ("use crate::sim; fn f(c: sim::Config) {}", 0),
        ("use crate::sim; fn f() { sim::run() }", 1),
        ("use crate::sim as other; fn f() { other::run() }", 1),
        ("use crate::sim::*;", 1),
        ("use super::sim; fn f() { sim::run() }", 0),
    ] {
        assert_eq!(import_faults(&parse("src/cli/serve/mod.rs", text)).len(), count, "{text}");
    }
}

#[test]
fn every_effect_is_seen_where_it_may_not_be() {
    for (file, text) in [
        ("src/wire/sse.rs", "use std::{fmt, net::SocketAddr};"),
        ("src/wire/sse.rs", "fn f() { tokio::spawn(g()); }"),
        ("src/measure/run.rs", "use std::time::Instant; fn f() { Instant::now(); }"),
        ("src/measure/run.rs", "fn f() { a.get_or_insert_with(std::time::Instant::now) }"),
        ("src/workload/custom.rs", "fn f() -> std::time::SystemTime { x }"),
        ("src/cluster/mod.rs", "fn f() { std::env::var(\"X\"); }"),
        ("src/load/pacer.rs", "use tokio::time::Instant;"),
        ("src/report/html.rs", "use std::fs;"),
        ("src/report/console/strict.rs", "fn f() { println!(\"x\"); }"),
        ("src/load/mod.rs", "fn f() { eprintln!(\"x\") }"),
        ("src/sim/mod.rs", "fn f() { std::io::stderr(); }"),
        ("src/sim/truth.rs", "fn f() { File::create(\"x\"); }"),
        ("src/command/serve.rs", "fn f() { std::fs::read(\"x\"); }"),
        ("src/cli/mod.rs", "use std::io::{self, stdout};"),
        ("src/sim/decode.rs", "use std::time::{Duration, Instant};"),
        ("src/measure/run.rs", "#[cfg(test)]\nmod tests;\nuse std::fs;"),
        ("src/measure/run.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nuse std::fs;"),
    ] {
        assert_eq!(effect_faults(&parse(file, text)).len(), 1, "{file}: {text}");
    }
}

#[test]
fn effects_in_their_places_and_in_tests_are_let_be() {
    for (file, text) in [
        ("src/report/writer.rs", "use std::fs::File; fn f() { File::open(p); }"),
        ("src/command/serve.rs", "fn f() { println!(\"x\"); std::io::stdout(); }"),
        ("src/load/stream.rs", "use tokio::net::TcpStream; fn f() { Instant::now(); }"),
        ("src/main.rs", "fn f() { std::fs::read(\"/proc/meminfo\"); println!(\"x\"); }"),
        ("src/wire/sse.rs", "#[cfg(test)]\nmod tests { use std::fs; fn f() { println!(\"x\") } }"),
        ("src/wire/sse.rs", "#[cfg(test)]\nuse std::fs;\nfn f() { a.tokio::<u8>(); let nix = 1; nix != 2; }"),
        ("src/measure/run.rs", "use std::time::Instant; // an instant is given, never asked for"),
    ] {
        assert_eq!(effect_faults(&parse(file, text)), [""; 0], "{file}: {text}");
    }
}

#[test]
fn modules_that_only_tests_see_are_found() {
    let inside = parse("src/load/mod.rs", "#[cfg(test)]\nmod reading_tests;\nmod shard;\n");
    assert_eq!(inside.test_files, ["src/load/reading_tests.rs", "src/load/reading_tests/"]);
    let below = parse("src/report/csv.rs", "mod summary;\n#[cfg(test)]\nmod tests;\n");
    assert_eq!(below.test_files, ["src/report/csv/tests.rs", "src/report/csv/tests/"]);
    let moved = parse("src/a/b.rs", "#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\n");
    assert_eq!(moved.test_files, ["src/a/b_tests.rs"]);
}

#[test]
fn paths_in_documents_are_told_from_other_words() {
    let text =
        "see `src/load` and `pacer.rs`, not `Offset`, `<a>/b` or `cargo test`\n```\n`src/gone`\n```\n`a/b`";
    let named: Vec<_> = named_paths(text);
    assert_eq!(named, [(1, "src/load".to_owned()), (1, "pacer.rs".to_owned()), (5, "a/b".to_owned())]);
}

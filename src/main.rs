//! The `pdbench` program: takes the world as it is, hands it to the library, and ends with its exit status.

use jiff::Zoned;
use pdbench::command::{Interrupt, InterruptedBy};
use pdbench::measure::Host;
use pdbench::runtime::{Stop, Workers};
use pdbench::{Exit, Surroundings};
use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the operating system gives every process a reactor");
    let exit = runtime.block_on(async {
        let mut world = surroundings();
        let interrupt = world.interrupt.clone();
        // On a thread of its own: it is heard while this one folds and writes.
        let watching = std::thread::Builder::new().name("signals".to_owned()).spawn(|| watch(interrupt));
        watching.expect("the operating system gives every process a second thread");
        pdbench::run(&mut world).await
    });
    // Threads that still wait for something have nothing left to save.
    runtime.shutdown_background();
    ExitCode::from(Exit::code(exit))
}

/// How long requests in flight may take to end after SIGINT …
const DRAIN_AFTER_INTERRUPT: Duration = Duration::from_secs(10);
/// … and after SIGTERM.
const DRAIN_AFTER_TERMINATE: Duration = Duration::from_secs(5);

/// Watches for signals until the process ends.
fn watch(interrupt: Interrupt) {
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        runtime.block_on(watch_signals(interrupt));
    }
}

/// The first signal stops sending; the second, or patience running out, cuts what is in flight.
async fn watch_signals(interrupt: Interrupt) {
    let (Ok(mut interrupts), Ok(mut terminates)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let (by, patience) = tokio::select! {
        _ = interrupts.recv() => (InterruptedBy::Interrupt, DRAIN_AFTER_INTERRUPT),
        _ = terminates.recv() => (InterruptedBy::Terminate, DRAIN_AFTER_TERMINATE),
    };
    interrupt.handle(by).ask(Stop::Drain);
    // Where nobody reads it there is nobody to tell.
    let _ = writeln!(
        stderr(),
        "stopping: {} s for what is in flight; once more ends it at once",
        patience.as_secs()
    );
    tokio::select! {
        _ = interrupts.recv() => {}
        _ = terminates.recv() => {}
        () = tokio::time::sleep(patience) => {}
    }
    interrupt.handle(by).ask(Stop::Now);
    // Whoever asks once more does not want to wait for the reports; the journal has the records.
    tokio::select! {
        _ = interrupts.recv() => {}
        _ = terminates.recv() => {}
    }
    std::process::exit(i32::from(match by {
        InterruptedBy::Interrupt => Exit::Interrupted.code(),
        InterruptedBy::Terminate => Exit::Terminated.code(),
    }));
}

fn surroundings() -> Surroundings {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Surroundings {
        arguments: std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
        environment: Box::new(|name| std::env::var(name).ok()),
        executable: std::env::current_exe().unwrap_or_else(|_| "pdbench".into()),
        wall_clock: Box::new(Zoned::now),
        host: host(),
        version: env!("PDBENCH_VERSION").to_owned(),
        run_id_suffix: format!("{:04x}", suffix()),
        workers: Workers::Threads,
        interrupt: Interrupt::default(),
        stdout: Box::new(stdout()),
        stderr: Box::new(stderr()),
        colour: stdout().is_terminal() && !no_colour,
        progress_bar: stderr().is_terminal(),
    }
}

/// Something that two runs of one second hardly share.
fn suffix() -> u16 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanoseconds = since_1970.map_or(0, |since| since.subsec_nanos());
    (nanoseconds ^ std::process::id().wrapping_mul(0x9e37_79b1)) as u16
}

fn host() -> Host {
    let read = |path| std::fs::read_to_string(path).ok();
    let release = read("/proc/sys/kernel/osrelease");
    let memory = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    Host {
        kernel: format!("{} {}", std::env::consts::OS, release.as_deref().unwrap_or("").trim())
            .trim()
            .to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory.map(|kib| kib * 1024),
    }
}

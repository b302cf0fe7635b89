//! The `pdbench` program: takes the world as it is, hands it to the library, and ends with its exit status.

use jiff::Zoned;
use pdbench::command::{Interrupt, InterruptedBy};
use pdbench::measure::Host;
use pdbench::runtime::Workers;
use pdbench::{Exit, Surroundings};
use std::io::{IsTerminal, Write, stderr, stdout};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::time::SystemTime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::unbounded_channel;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the operating system gives every process a reactor");
    let exit = runtime.block_on(async {
        let mut world = surroundings();
        let (interrupt, (heard, ready)) = (world.interrupt.clone(), channel());
        // On a thread of its own: it is heard while this one folds and writes.
        let watching = std::thread::Builder::new().name("signals".to_owned());
        let watching = watching.spawn(move || watch(interrupt, heard));
        watching.expect("the operating system gives every process a second thread");
        // Nothing is begun before a signal would be heard. An error says that none will be.
        let _ = ready.recv();
        pdbench::run(&mut world).await
    });
    // Threads that still wait for something have nothing left to save.
    runtime.shutdown_background();
    ExitCode::from(Exit::code(exit))
}

/// Watches for signals until the process ends, and says when it does.
fn watch(interrupt: Interrupt, heard: Sender<()>) {
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        runtime.block_on(watch_signals(interrupt, heard));
    }
}

/// Hands each signal on, and ends the process when nobody wants to wait any more; the journal has the records.
async fn watch_signals(interrupt: Interrupt, heard: Sender<()>) {
    let (Ok(mut interrupts), Ok(mut terminates)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let _ = heard.send(());
    let (sender, signals) = unbounded_channel();
    // Where nobody reads it there is nobody to tell.
    let say = |text: &str| drop(stderr().write_all(text.as_bytes()));
    let mut obeying = pin!(interrupt.obey(signals, say));
    loop {
        let by = tokio::select! {
            exit = &mut obeying => std::process::exit(i32::from(exit.code())),
            _ = interrupts.recv() => InterruptedBy::Interrupt,
            _ = terminates.recv() => InterruptedBy::Terminate,
        };
        let _ = sender.send(by);
    }
}

fn surroundings() -> Surroundings {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Surroundings {
        arguments: std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
        environment: Box::new(|name| std::env::var(name).ok()),
        resolver: Box::new(|host, port| {
            let place = (host.to_owned(), port);
            Box::pin(async move { Ok(tokio::net::lookup_host(place).await?.collect()) })
        }),
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

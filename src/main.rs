//! The command line: which subcommand, and the flags that the Go relay took.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use influxdb_relay::cli::{bench, check, demo, hash, serve, sink, spool};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A high-availability write relay for InfluxDB and Prometheus.
#[derive(Debug, Parser)]
#[command(
    name = "influxdb-relay",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Config,
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct Config {
    /// The configuration file (TOML); everything can be set by RELAY_… variables instead
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log more, as with RELAY_LOG=debug (the Go relay's flag)
    #[arg(short)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay (the default)
    Serve(Config),
    /// Print the effective configuration and where each value comes from, or every problem
    Check {
        #[command(flatten)]
        config: Config,
        #[command(flatten)]
        show: check::Show,
    },
    /// Play the whole picture on loopback: a balancer, two relays, two backends, and two deaths
    Demo(demo::DemoArgs),
    /// Run a stand-in backend that counts what it is sent
    Sink(sink::SinkArgs),
    /// Generate load and report latencies
    Bench(bench::BenchArgs),
    /// Print what stands for a password (from standard input) or a new token in `users` and `tokens`
    Hash(hash::HashArgs),
    /// Look into a spool and its dead letters
    Spool(spool::SpoolArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(std::env::args_os().map(go_flag)) {
        Ok(cli) => cli,
        Err(error) => {
            let _unwritable = error.print();
            return if error.use_stderr() {
                ExitCode::from(serve::EXIT_WRONG)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match cli.command.unwrap_or(Command::Serve(cli.config)) {
        Command::Serve(Config { config, verbose }) => serve::run(config.as_deref(), verbose),
        Command::Check { config, show } => check::run(config.config.as_deref(), show),
        Command::Demo(args) => demo::run(&args),
        Command::Sink(args) => sink::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Hash(args) => hash::run(&args),
        Command::Spool(args) => spool::run(&args),
    }
}

/// Go writes long flags with one dash: `-config FILE`, `-config=FILE`, `-version`, `-help`.
fn go_flag(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text)
            if ["-config", "-version", "-help"].contains(&text) || text.starts_with("-config=") =>
        {
            format!("-{text}").into()
        }
        _ => argument,
    }
}

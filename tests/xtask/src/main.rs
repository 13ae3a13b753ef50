//! The project's own commands, behind the aliases of `.cargo/config.toml`: `cargo demo` starts the sample, `cargo verify`
//! proves the project, `cargo bench-gateway` measures it.
//!
//! Each command builds what it needs by itself. What only some machines have (nginx, wrk, cargo-deny …) is never
//! installed from here: the command says what it skipped and how to get it.

mod bench;
mod cargo;
mod demo;
mod node;
mod process;
mod readme;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::bail;
use lexopt::prelude::*;

fn main() -> ExitCode {
    match run(lexopt::Parser::from_env()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: lexopt::Parser) -> anyhow::Result<ExitCode> {
    match arguments.next()? {
        Some(Value(command)) => match command.to_str() {
            Some("demo") => demo::run(demo_options(arguments)?),
            Some("verify") => verify::run(&verify_options(arguments)?),
            Some("bench-gateway") => bench::run(&bench_options(arguments)?),
            // Started by the benchmark itself, on a core of its own.
            Some("upstream") => bench::serve_upstream().map(|()| ExitCode::SUCCESS),
            _ => bail!("no command {command:?}\n\n{USAGE}"),
        },
        Some(Short('h') | Long("help")) | None => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Some(argument) => Err(argument.unexpected().into()),
    }
}

fn demo_options(mut arguments: lexopt::Parser) -> anyhow::Result<demo::Options> {
    let mut options = demo::Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("release") => options.release = true,
            Long("port") => options.port = Some(arguments.value()?.parse()?),
            Long("admin-port") => options.admin_port = Some(arguments.value()?.parse()?),
            Long("check") => options.check = true,
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn verify_options(mut arguments: lexopt::Parser) -> anyhow::Result<verify::Options> {
    let mut options = verify::Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("only") => options.only.push(text(arguments.value()?)?),
            Long("fast") => options.fast = true,
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn bench_options(mut arguments: lexopt::Parser) -> anyhow::Result<bench::Options> {
    let mut options = bench::Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("rounds") => options.rounds = arguments.value()?.parse()?,
            Long("seconds") => options.seconds = arguments.value()?.parse()?,
            Long("swaps") => options.swaps = arguments.value()?.parse()?,
            Long("connections") => options.connections = arguments.value()?.parse()?,
            Long("only") => options.only.push(text(arguments.value()?)?),
            Long("binary") => options.binary = Some(arguments.value()?.into()),
            Long("quick") => {
                options.rounds = 2;
                options.seconds = 2;
                options.swaps = 1000;
                options.quick = true;
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn text(value: OsString) -> anyhow::Result<String> {
    value
        .into_string()
        .map_err(|value| anyhow::anyhow!("{value:?} is not UTF-8"))
}

const USAGE: &str = "\
cargo demo [--release] [--port N] [--admin-port N]
    Builds the node and the sample, starts it and prints what to try. Ctrl-C drains it.
    --check   runs every printed line by itself on free ports, compares, and ends

cargo verify [--fast] [--only NAME]…
    Runs everything that proves the project. --fast leaves out the documentation build and the demo.

cargo bench-gateway [--rounds 5] [--seconds 5] [--connections 64] [--swaps 10000] [--quick] [--only CASE]…
                    [--binary PATH]
    Measures the node against nginx; writes target/bench-gateway.json.";

//! `stockade-fuzz [TARGET… | all] [--seconds N] [--seed N]`, `stockade-fuzz TARGET FILE…`, `stockade-fuzz --list`,
//! `stockade-fuzz [TARGET… | all] --export FOLDER` (the seeds as files, for libFuzzer).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use stockade_fuzz::driver::{Broken, Until, artifacts, run};
use stockade_fuzz::{TARGETS, Target, find};

struct Arguments {
    targets: Vec<&'static Target>,
    files: Vec<String>,
    seconds: u64,
    seed: u64,
    export: Option<PathBuf>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(None) => {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            ExitCode::SUCCESS
        }
        Ok(Some(arguments)) if !arguments.files.is_empty() => repeat(&arguments),
        Ok(Some(Arguments { targets, export: Some(folder), .. })) => match export(&targets, &folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("stockade-fuzz: error: {}: {error}", folder.display());
                ExitCode::from(2)
            }
        },
        Ok(Some(arguments)) => fuzz(&arguments),
        Err(message) => {
            eprintln!("stockade-fuzz: error: {message}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments { targets: Vec::new(), files: Vec::new(), seconds: 60, seed: 1, export: None };
    while let Some(word) = words.next() {
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).ok_or(format!("{word}: no number"));
        match word.as_str() {
            "--list" => return Ok(None),
            "--seconds" => arguments.seconds = number(words.next())?,
            "--seed" => arguments.seed = number(words.next())?,
            "--export" => arguments.export = Some(words.next().ok_or("--export: no folder")?.into()),
            "all" => arguments.targets.extend(TARGETS),
            name => match find(name) {
                Some(target) => arguments.targets.push(target),
                None if arguments.targets.len() == 1 && std::path::Path::new(name).exists() => {
                    arguments.files.push(word);
                }
                None => return Err(format!("`{name}` is neither a target nor a file")),
            },
        }
    }
    if arguments.targets.is_empty() {
        arguments.targets.extend(TARGETS);
    }
    Ok(Some(arguments))
}

fn export(targets: &[&Target], folder: &Path) -> std::io::Result<()> {
    for target in targets {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, input) in target.corpus().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:04}")), input)?;
        }
    }
    Ok(())
}

/// Runs files once, without a net: a broken property is a panic with its trace.
fn repeat(arguments: &Arguments) -> ExitCode {
    for file in &arguments.files {
        match (std::fs::read(file), arguments.targets.first()) {
            (Ok(bytes), Some(target)) => println!("{file}: {:016x}", (target.run)(&bytes)),
            (Err(error), _) => {
                eprintln!("stockade-fuzz: error: {file}: {error}");
                return ExitCode::from(2);
            }
            _ => {}
        }
    }
    ExitCode::SUCCESS
}

fn fuzz(arguments: &Arguments) -> ExitCode {
    // Messages come with the report; `stockade-fuzz TARGET FILE` shows where.
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = false;
    for target in &arguments.targets {
        let report = run(target, arguments.seed, Until::Elapsed(Duration::from_secs(arguments.seconds)));
        println!(
            "{:<16} {:>10} executions in {:>6.1} s, {:>6} behaviours{}",
            target.name,
            report.executions,
            report.seconds,
            report.behaviours,
            if report.broken.is_some() { ", BROKEN" } else { "" }
        );
        if let Some(Broken { input, message }) = report.broken {
            failed = true;
            println!("  {message}");
            let folder = artifacts(target);
            let file = folder.join(format!("crash-{}-{}", arguments.seed, report.executions));
            match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, &input)) {
                Ok(()) => println!("  {}: {:?}", file.display(), String::from_utf8_lossy(&input)),
                Err(error) => println!("  cannot write {}: {error}; the input is {input:?}", file.display()),
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

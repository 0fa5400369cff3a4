//! `submask serve`.

use std::net::SocketAddr;
use std::path::Path;

use submask::likelihood::Figure;
use submask_server::{Ended, ModelSource, ServerSettings, StartError, Token, logs};

use crate::args::{ModelArg, ServeArgs};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::{flags, locate, output};

/// Serves models until the process is told to end.
pub fn run(args: &ServeArgs, compute: Compute) -> Result<(), Failure> {
    let settings = settings(args)?;
    settings.validate().map_err(|error| explained(error.into()))?;
    let sources = args.models.iter().map(|model| source(model, args)).collect::<Result<Vec<_>, _>>()?;
    let compute = compute.open()?;
    logs::to_standard_error();
    match submask_server::serve(settings, &sources, &compute, say_ready).map_err(explained)? {
        Ended::Whole => Ok(()),
        Ended::AtOnce => Err(Failure::stopped("requests under way were given up")),
    }
}

/// One line, for people and for programs that start the server.
fn say_ready(addr: SocketAddr) {
    // Whoever started the server need not read on.
    let _ = output::write(&format!("listening on http://{addr}\n"));
}

fn settings(args: &ServeArgs) -> Result<ServerSettings, Failure> {
    let limits = &args.limits;
    Ok(ServerSettings {
        addr: args.addr.0,
        token: args.token_file.as_deref().map(token).transpose()?,
        insecure: args.insecure,
        cors: args.cors.clone(),
        max_batch: limits.max_batch,
        max_queue: limits.max_queue,
        max_tokens: limits.max_tokens,
        max_choices: limits.max_choices,
        max_body: limits.max_body.0,
        max_large_body: limits.max_large_body.0,
        max_connections: limits.max_connections,
        timeout: limits.timeout.0,
        header_timeout: limits.header_timeout.0,
        body_timeout: limits.body_timeout.0,
        slow_reader: limits.slow_reader.0,
        stream_buffer: limits.stream_buffer.0,
        log_texts: args.log_texts,
    })
}

/// The token in a file.
fn token(file: &Path) -> Result<Token, Failure> {
    let make = format!("(umask 077; head -c 32 /dev/urandom | base64 > {}) makes one", file.display());
    Token::read(file).map_err(|error| Failure::from(error).hint(make))
}

/// A model with its name and what its run knows of it.
fn source(model: &ModelArg, args: &ServeArgs) -> Result<ModelSource, Failure> {
    let folder = locate::checkpoint(&model.path, args.checkpoint)?;
    let name = model.name.clone().unwrap_or_else(|| folder_name(&model.path));
    Ok(ModelSource { name, figures: figures(&folder)?, folder })
}

/// The last part of a path as it is written, which a link may have given its folder; of `.` and `..` what they stand for.
fn folder_name(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_dot = path.as_os_str().to_string_lossy().ends_with("/.");
    let written = name(path).filter(|_| !is_dot);
    written.or_else(|| path.canonicalize().ok().as_deref().and_then(name)).unwrap_or_default()
}

/// The figures of the last validation up to a checkpoint of a run; none of a model that stands alone.
fn figures(folder: &Path) -> Result<Vec<Figure>, Failure> {
    let Some(run) = locate::run_of(folder) else { return Ok(Vec::new()) };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let step: Option<u64> = name.strip_prefix("step-").and_then(|step| step.parse().ok());
    let Some(step) = step else { return Ok(Vec::new()) };
    let metrics = Metrics::read_if_any(&run)?;
    let last = metrics.validations.range(..=step).next_back();
    Ok(last.map(|(_, record)| record.figures.clone()).unwrap_or_default())
}

/// What is wrong, with the flags that say it, and what helps.
fn explained(error: StartError) -> Failure {
    match error {
        StartError::Settings(error) => {
            let is_open = matches!(&error, submask::Error::Needed { field, .. } if field == "token");
            let failure = Failure::from(flags::SERVE.name_in(error));
            match is_open {
                true => failure.hint("--token-file FILE asks for a token, --insecure for none"),
                false => failure,
            }
        }
        StartError::Model { name, source } => {
            Failure::from(source).context(format!("the model {name} cannot be opened"))
        }
        StartError::Listen { .. } => {
            Failure::failed(error).hint("--addr HOST:PORT is where it listens; port 0 takes one that is free")
        }
        other => Failure::failed(other),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn the_defaults_of_flags_are_those_of_the_library() {
        let Command::Serve(args) = Cli::parse_from(["submask", "serve", "runs/a"]).command else {
            panic!("it is the verb serve")
        };
        let (given, expected) = (settings(&args).unwrap(), ServerSettings::default());
        assert_eq!(format!("{given:?}"), format!("{expected:?}"));
    }
}

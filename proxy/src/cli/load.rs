//! From flags, environment and file to a configuration.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use slotway_core::config::{Config, ConfigError, Flag, Sources};

use super::RunArgs;

/// The user gave something that cannot be right: exit code 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// The configuration has faults.
    #[error("{0}")]
    Config(ConfigError),
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {path}: {error}")]
    File {
        /// The file as given.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Something else, in a sentence.
    #[error("{0}")]
    Other(String),
}

/// Builds the configuration of this process.
pub(super) fn load(arguments: &RunArgs) -> Result<Config, UsageError> {
    let file = arguments.config.clone().or_else(|| {
        env::var_os("SLOTWAY_CONFIG")
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
    });
    load_from(arguments, file.as_deref(), env::vars_os())
}

/// Builds the configuration from `file` and these variables.
pub(crate) fn load_from(
    arguments: &RunArgs,
    file: Option<&Path>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Config, UsageError> {
    let file = file.map(read).transpose()?;
    let flags = [
        (Flag::Workers, &arguments.workers),
        (Flag::Listen, &arguments.listen),
        (Flag::Admin, &arguments.admin),
        (Flag::Cluster, &arguments.cluster),
        (Flag::Server, &arguments.server),
    ];
    Config::build(Sources {
        file: file
            .as_ref()
            .map(|(name, text)| (name.as_str(), text.as_str())),
        environment: &ours(variables)?,
        flags: flags
            .into_iter()
            .filter_map(|(flag, value)| Some((flag, value.clone()?)))
            .collect(),
        cores: cores(),
        read_secret: &|path| std::fs::read(path).map_err(|error| error.to_string()),
    })
    .map_err(UsageError::Config)
}

/// Cores this process may use: affinity and the CPU quota of its cgroup count.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn read(path: &Path) -> Result<(String, String), UsageError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(UsageError::File { path: name, error }),
    }
}

/// The variables that may concern us, as text.
fn ours(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, UsageError> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if !name.starts_with("SLOTWAY_") {
            continue;
        }
        match value.into_string() {
            Ok(value) => found.push((name, value)),
            Err(_) => {
                return Err(UsageError::Other(format!(
                    "environment variable {name} is not UTF-8 text"
                )));
            }
        }
    }
    Ok(found)
}

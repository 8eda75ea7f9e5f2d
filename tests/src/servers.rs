//! Where the real servers and other tools are found: see `scripts/fetch-servers.sh`, which puts them there.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// A server release the proxy is tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Redis 6.2: the oldest supported
    Redis62,
    /// Redis 7.0: tested in full
    Redis70,
    /// Redis 8.2
    Redis82,
    /// Valkey 8.1
    Valkey81,
    /// Valkey 9.1: the newest Valkey, tested in full
    Valkey91,
}

impl Version {
    /// Every release.
    pub const ALL: [Self; 5] = [
        Self::Redis62,
        Self::Redis70,
        Self::Redis82,
        Self::Valkey81,
        Self::Valkey91,
    ];
    /// The releases that run every test (the others only the smoke test): what most machines have, and the newest Valkey.
    pub const FULL: [Self; 2] = [Self::Redis70, Self::Valkey91];

    /// Folder below `.tools/servers`, also the start of the version that `INFO` must show.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Redis62 => "redis-6.2",
            Self::Redis70 => "redis-7.0",
            Self::Redis82 => "redis-8.2",
            Self::Valkey81 => "valkey-8.1",
            Self::Valkey91 => "valkey-9.1",
        }
    }

    /// `SLOTWAY_TEST_REDIS_7_0` and so on: a path that overrides the search.
    fn variable(self) -> String {
        let folder = self.folder().to_uppercase().replace(['-', '.'], "_");
        format!("SLOTWAY_TEST_{folder}")
    }

    fn program(self) -> &'static str {
        if self.is_valkey() {
            "valkey-server"
        } else {
            "redis-server"
        }
    }

    /// True for Valkey.
    #[must_use]
    pub fn is_valkey(self) -> bool {
        matches!(self, Self::Valkey81 | Self::Valkey91)
    }

    /// True from Redis 7.0 on: `ADDSLOTSRANGE`, `enable-debug-command`, functions, sharded pub/sub.
    #[must_use]
    pub fn at_least_7(self) -> bool {
        self != Self::Redis62
    }

    /// The server's executable.
    ///
    /// # Errors
    /// If it is not there; the text says what to run.
    pub fn find(self) -> Result<PathBuf> {
        if let Some(path) = std::env::var_os(self.variable()) {
            return Ok(PathBuf::from(path));
        }
        let fetched = tools()
            .join("servers")
            .join(self.folder())
            .join(self.program());
        if fetched.exists() {
            return Ok(fetched);
        }
        bail!(
            "no {} at {}: run scripts/fetch-servers.sh, or set {} to its path",
            self.folder(),
            fetched.display(),
            self.variable()
        )
    }
}

/// The folder of this repository.
#[must_use]
pub fn repository_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Folder of fetched tools: `.tools` of the repository, or `SLOTWAY_TOOLS`.
pub(crate) fn tools() -> PathBuf {
    std::env::var_os("SLOTWAY_TOOLS")
        .map_or_else(|| repository_root().join(".tools"), PathBuf::from)
}

/// A tool by name: under `.tools/bin`, else on PATH, else where the tools of root are, which is not on every user's PATH.
///
/// # Errors
/// If it is in neither; the text says what to run.
pub fn tool(name: &str) -> Result<PathBuf> {
    let fetched = tools().join("bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(fetched)
        .chain(std::env::split_paths(&path).map(|folder| folder.join(name)))
        .chain([Path::new("/usr/sbin").join(name)])
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!("no {name} in .tools/bin or on PATH: run scripts/fetch-servers.sh")
        })
}

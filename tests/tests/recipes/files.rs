//! The files of a recipe.

use anyhow::{Context, Result, ensure};
use harness::{Process, case_dir, repository_root, tool};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a script of a recipe may run.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(60);

/// One folder of `deploy/recipes`.
#[derive(Clone, Copy)]
pub(crate) struct Recipe(pub(crate) &'static str);

impl Recipe {
    pub(crate) fn path(self, file: &str) -> PathBuf {
        let folder = repository_root().join("deploy/recipes").join(self.0);
        folder.join(file)
    }

    /// A file with other addresses. Each must be there: a test that fills in nothing tries something else than the recipe.
    pub(crate) fn filled<T: AsRef<str>>(self, file: &str, others: &[(&str, T)]) -> Result<String> {
        let path = self.path(file);
        let mut text = std::fs::read_to_string(&path).with_context(|| format!("{path:?}"))?;
        for (from, to) in others {
            ensure!(text.contains(from), "{} has no {from}", path.display());
            text = text.replace(from, to.as_ref());
        }
        Ok(text)
    }

    /// Runs a script of the recipe to its end, which must be a good one. It finds `redis-cli` as the tests do.
    pub(crate) fn run(
        self,
        script: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<()> {
        let mut process = self.begin(script, arguments, environment)?;
        let status = process.wait_for_exit(SCRIPT_DEADLINE)?;
        let said = process.log();
        ensure!(status.success(), "{script} {arguments:?}: {status}: {said}");
        Ok(())
    }

    pub(crate) fn begin(
        self,
        script: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Process> {
        let client = tool("redis-cli")?;
        let tools = client.parent().unwrap_or_else(|| Path::new(".")).display();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut variables = vec![("PATH".to_owned(), format!("{tools}:{path}"))];
        variables.extend(
            environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        Process::start(
            &self.path(script),
            arguments,
            &variables,
            &case_dir("script")?,
        )
    }
}

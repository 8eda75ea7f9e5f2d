//! The Kubernetes manifests, by `scripts/check_manifests.py`.

use anyhow::{Result, ensure};
use harness::{repository_root, tool};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Where `scripts/fetch-clients.sh` installs what the script needs.
fn packages() -> PathBuf {
    let tools = std::env::var_os("SLOTWAY_TOOLS").map(PathBuf::from);
    let tools = tools.unwrap_or_else(|| repository_root().join(".tools"));
    tools.join("clients/python/kubernetes-validate")
}

#[test]
fn manifests_fit_the_schemas_and_each_other() -> Result<()> {
    let packages = packages();
    if !packages.join("kubernetes_validate").is_dir() {
        let said = "kubernetes-validate is not installed: run scripts/fetch-clients.sh";
        ensure!(std::env::var_os("SLOTWAY_REQUIRE_ALL").is_none(), "{said}");
        // Outside of CI a machine need not have it.
        return Ok(writeln!(std::io::stderr(), "left out: {said}")?);
    }
    let output = Command::new(tool("python3")?)
        .arg(repository_root().join("scripts/check_manifests.py"))
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}

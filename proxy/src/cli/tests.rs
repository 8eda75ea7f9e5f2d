//! Tests of the command line.

use std::path::Path;

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Cli {
    Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn output(line: &str) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = dispatch(
        line.split(' ').map(OsString::from),
        &mut out,
        &mut err,
        false,
    );
    (
        code,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn run_is_the_default_command() {
    for line in [
        "slotway --cluster a:1,b:2 --listen 0.0.0.0:1",
        "slotway run --cluster a:1,b:2 --listen 0.0.0.0:1",
    ] {
        let cli = parse(line);
        let arguments = match cli.command {
            None => cli.run,
            Some(Command::Run(arguments)) => arguments,
            other => panic!("{other:?}"),
        };
        assert_eq!(arguments.cluster.as_deref(), Some("a:1,b:2"));
        assert_eq!(arguments.listen.as_deref(), Some("0.0.0.0:1"));
        let config = load::load_from(&arguments, None, std::iter::empty()).unwrap();
        assert_eq!(config.upstreams[0].seeds.len(), 2);
        assert_eq!(config.workers, load::cores());
    }
}

#[test]
fn explain_takes_any_argument_of_a_command() {
    let Some(Command::Explain(arguments)) =
        parse("slotway explain --admin 127.0.0.1:1 SET k -1 --help EX 5").command
    else {
        panic!("not explain");
    };
    assert_eq!(arguments.command, ["SET", "k", "-1", "--help", "EX", "5"]);
    assert_eq!(arguments.admin.as_deref(), Some("127.0.0.1:1"));
}

#[test]
fn help_goes_to_standard_output_and_shows_examples() {
    let (code, out, err) = output("slotway --help");
    assert_eq!((code, err.as_str()), (0, ""));
    for part in [
        "Examples:",
        "slotway demo",
        "--cluster <HOST:PORT,...>",
        "SLOTWAY_CLUSTER",
        "127.0.0.1:6379",
    ] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    let (code, out, _) = output("slotway --version");
    assert_eq!(
        (code, out.trim()),
        (0, concat!("slotway ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn usage_errors_have_code_2_and_go_to_standard_error() {
    for line in [
        "slotway --nonsense",
        "slotway explain",
        "slotway check --config /nonexistent/slotway.toml",
        "slotway explain NOSUCHCOMMAND",
    ] {
        let (code, out, err) = output(line);
        assert_eq!((code, out.as_str()), (2, ""), "{line}");
        assert!(!err.is_empty(), "{line}");
    }
}

#[test]
fn check_reports_every_fault_of_flags_too() {
    let (code, _, err) = output("slotway check --workers none --listen here --cluster nowhere");
    assert_eq!(code, 2);
    for part in [
        "3 faults",
        "flag --workers: workers = \"none\"",
        "flag --listen: ",
        "flag --cluster: ",
    ] {
        assert!(err.contains(part), "{part} is not in\n{err}");
    }
}

#[test]
fn check_says_what_the_configuration_comes_to() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/slotway.toml");
    let (code, out, err) = output(&format!(
        "slotway check --config {} --admin off --workers 5",
        file.display()
    ));
    assert_eq!((code, err.as_str()), (0, ""));
    for part in [
        "is valid",
        "127.0.0.1:6379, no password",
        "127.0.0.1:7001",
        "admin       off",
        "workers     5",
    ] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
}

#[test]
fn check_names_every_upstream_and_who_uses_it() {
    let path = std::env::temp_dir().join(format!("slotway-check-{}.toml", std::process::id()));
    let file = "\
[sentinel]\nlisten = '127.0.0.1:26379'\n
[[upstream]]\nname = 'orders'\ncluster = ['a:1', 'b:2']\n
[[upstream]]\nname = 'cache'\nserver = 'c:3'\n
[[listener]]\nlisten = '127.0.0.1:1'\nupstream = 'orders'\nservice = 'sales'\n
[[listener]]\nlisten = '127.0.0.1:2'\nupstream = 'cache'\nrequirepass = 'hunter2'\n";
    std::fs::write(&path, file).unwrap();
    let (code, out, err) = output(&format!("slotway check --config {}", path.display()));
    std::fs::remove_file(&path).unwrap();
    assert_eq!((code, err.as_str()), (0, ""));
    for line in [
        "  listens on  127.0.0.1:1, no password, upstream orders",
        "  listens on  127.0.0.1:2, clients need the password, upstream cache",
        "  upstream    orders",
        "  cluster     a:1, b:2",
        "  upstream    cache",
        "  server      c:3",
        "  Sentinel    127.0.0.1:26379, no password, for sales",
        "for each upstream",
    ] {
        assert!(out.contains(line), "{line} is not in\n{out}");
    }
    assert!(!out.contains("hunter2"));
}

#[test]
fn the_reference_can_be_printed() {
    let (code, out, _) = output("slotway check --print-reference");
    assert_eq!(code, 0);
    assert_eq!(out, slotway_core::config::reference());
}
